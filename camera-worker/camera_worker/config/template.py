"""The commented configuration file that `camera-worker create-config` writes."""

TEMPLATE = """\
# Cameras for `camera-worker --config FILE`. Check it with `camera-worker validate FILE`.
# Durations carry a unit (500ms, 3s, 2m); ${NAME} is taken from the environment, $$ is a dollar sign.

api:
  url: http://127.0.0.1:8000
  # key: ${ALMENARA_API_KEY}     # sent as X-API-Key
  timeout: 5s                    # of one request

alerts: true                     # raise alarms; false only scores
# var_dir: var                   # alarm database, alarm log and evidence; else ALMENARA_VAR_DIR

cameras:
  - name: outflow-camera         # the source of its alarms
    source: rtsp://127.0.0.1:8554/cam    # or the path of a video file, or the number of a webcam
    # username: operator         # instead of user:password@ in the URL; any characters
    # password: ${OUTFLOW_CAMERA_PASSWORD}
    model: sludge-outflow        # registered model
    fps: 2                       # pictures scored a second
    frozen_after: 8s             # the same picture for so long is a fault; `off` for a still, noise-free scene
    connect_timeout: 3s
    read_timeout: 3s             # without a picture for so long the camera is offline
    unauthorised_retry: 60s      # pause after refused credentials
    alarm:
      threshold: 0.5             # anomaly, 0-1; 0.5 is the model's own threshold
      deadband: 0.05             # normal again below threshold - deadband
      on_delay: 2s               # how long it lasts before an alarm is raised
      off_delay: 5s              # how long it is normal before the alarm returns
      cooldown: 60s              # least time between two messages about one camera
      priority: high             # low, medium, high or critical
"""
