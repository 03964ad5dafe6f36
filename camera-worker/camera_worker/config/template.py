"""The commented configuration file that `camera-worker create-config` writes."""

TEMPLATE = """\
# Cameras for `camera-worker --config FILE`. Check it with `camera-worker validate FILE`.
# Durations carry a unit (500ms, 3s, 2m); ${NAME} is taken from the environment, $$ is a dollar sign.
# A running worker reads this file again when it is sent SIGHUP. Lines that begin with # show what else can be set.

api:
  url: http://127.0.0.1:8000
  # key: ${ALMENARA_API_KEY}     # sent as X-API-Key
  # key_file: /run/secrets/api   # instead of key: a file with the key as its only line
  timeout: 5s                    # of one request

# status:                        # /healthz, /readyz, /metrics and /cameras
#   host: 127.0.0.1              # 0.0.0.0 listens on every address
#   port: 8090

blind_after: 30s                 # a camera, or all of detection, blind for so long is an alarm
alerts: true                     # raise alarms; false only scores
# alarms_file: alarms.yaml       # who is told of alarms; else ALMENARA_ALARMS_FILE, or the log alone
forward: true                    # alarms go to the plant-wide record behind the API too
# name: worker-1                 # of this worker there, its own among all; else the host's name
# var_dir: var                   # alarm database, alarm log and evidence; else ALMENARA_VAR_DIR

cameras:
  - name: outflow-camera         # the source of its alarms
    source: rtsp://127.0.0.1:8554/cam    # or http://…, the path of a video file, or the number of a webcam
    # username: operator         # instead of user:password@ in the URL; any characters
    # password: ${OUTFLOW_CAMERA_PASSWORD}
    # password_file: /run/secrets/outflow-camera    # instead of password: a file with it as its only line
    model: sludge-outflow        # registered model
    fps: 2                       # pictures scored a second; a video file without it: every picture
    # realtime: true             # plays a video file at its own speed
    # transport: udp             # of rtsp://; tcp loses no pictures
    # frames: keyframes          # decodes only key frames: little work, few pictures
    # region: {x: 0.1, y: 0.2, width: 0.5, height: 0.6}    # the only part looked at; 0 to 1 of the picture
    # mask: [[[0, 0], [0.3, 0], [0.3, 0.1], [0, 0.1]]]     # polygons never looked at; corners x, y from 0 to 1
    # schedule:                  # outside of it the camera is left alone
    #   time_zone: Europe/Madrid # IANA name
    #   active: ["mon-fri 06:00-22:00", "daily 23:00-01:00"]
    frozen_after: 8s             # the same picture for so long is a fault; `off` for a still, noise-free scene
    connect_timeout: 3s          # patience until a connection stands
    read_timeout: 3s             # without a picture for so long the camera is offline
    unauthorised_retry: 60s      # pause after refused credentials, so that the camera locks nobody out
    evidence:
      before: 5s                 # strip of pictures before the alarm
      after: 5s                  # and after it
    alarm:
      threshold: 0.5             # anomaly, 0-1; 0.5 is the model's own threshold
      deadband: 0.05             # normal again below threshold - deadband
      on_delay: 2s               # how long it lasts before an alarm is raised
      off_delay: 5s              # how long it is normal before the alarm returns
      # k: 3                     # so many of the last n verdicts decide, either way
      # n: 5
      cooldown: 60s              # least time between two messages about one camera
      repeat_interval: 4h        # an alarm nobody acknowledges is told again after this; 0s: never
      # latch: true              # an alarm that is over stands until somebody resets it
      priority: high             # low, medium, high or critical
"""
