"""The parts of the simulated camera: faults, encoder, packets, login, scenes."""

from __future__ import annotations

import base64
import hashlib
import struct
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from almenara.errors import InputError
from camera_worker.cli import app
from camera_worker.simulator import Fault, FaultKind
from camera_worker.simulator.encoder import H264Encoder, RtpPacketizer, is_key_frame, parameter_sets
from camera_worker.simulator.faults import FaultSwitch
from camera_worker.simulator.login import Authenticator, LoginScheme
from camera_worker.simulator.scenes import AnomalySchedule, parse_scene, photographs, read_timecode
from camera_worker.simulator.studio import Studio
from camera_worker.simulator.timecode import write_timecode
from tests.support.camera import Scene


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("stall\n", Fault(FaultKind.STALL)),
        ("corrupt=0.02", Fault(FaultKind.CORRUPT, share=0.02)),
        ("drop=1", Fault(FaultKind.DROP, share=1.0)),
        ("slow", Fault(FaultKind.SLOW, seconds=3600)),
        ("slow=1.5", Fault(FaultKind.SLOW, seconds=1.5)),
        ("resize=320x240", Fault(FaultKind.RESIZE, size=(320, 240))),
        ("udp=off", Fault(FaultKind.UDP)),
        ("stall for 10s", Fault(FaultKind.STALL, lasting=10)),
        ("drop=0.5 for 500ms\n", Fault(FaultKind.DROP, share=0.5, lasting=0.5)),
    ],
)
def test_control_lines(line: str, fault: Fault) -> None:
    assert Fault.parse(line) == fault


@pytest.mark.parametrize(
    "line",
    [
        *(
            "",
            "explode",
            "corrupt",
            "corrupt=2",
            "drop=x",
            "stall=1",
            "resize=1x1",
            "resize=321x240",
            "resize=9999x9998",
        ),
        *("udp", "udp=on", "slow=nan", "slow=-1", "stall for", "stall for 10", "none for 1s", "reset for 1s"),
    ],
)
def test_other_lines_are_refused(line: str) -> None:
    with pytest.raises(InputError) as caught:
        Fault.parse(line)
    assert caught.value.code == "fault-unknown"


def test_packets_carry_the_picture_through_fragmentation() -> None:
    """The NAL units that are put together again from the packets are those that were cut, and they decode."""
    picture = Scene()(0)
    units = H264Encoder(320, 240, 15, keyframe_interval=30).encode(picture, key_frame=True)
    packets = RtpPacketizer().packets(units, 90_000)
    assert any(len(unit) > 1400 for unit in units)
    assert all(len(packet) <= 1412 for packet in packets)
    assert [packet[1] >> 7 for packet in packets] == [0] * (len(packets) - 1) + [1]
    numbers = [struct.unpack(">H", packet[2:4])[0] for packet in packets]
    assert numbers == [(numbers[0] + index) & 0xFFFF for index in range(len(packets))]
    assert reassembled(packets) == units
    stream = b"".join(b"\0\0\0\1" + unit for unit in units)
    (frame,) = av.CodecContext.create("h264", "r").decode(av.Packet(stream))
    assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - picture).mean() < 8


def reassembled(packets: list[bytes]) -> list[bytes]:
    units: list[bytes] = []
    for packet in packets:
        payload = packet[12:]
        if payload[0] & 31 != 28:
            units.append(payload)
            continue
        if payload[1] & 0x80:
            units.append(bytes([payload[0] & 0xE0 | payload[1] & 31]))
        units[-1] += payload[2:]
    return units


def test_key_frames_come_when_asked_for_and_carry_parameter_sets() -> None:
    encoder, scene = H264Encoder(320, 240, 15, keyframe_interval=1000), Scene()
    keys = [is_key_frame(encoder.encode(scene(t), key_frame=t == 3)) for t in range(5)]
    assert keys == [True, False, False, True, False]
    sequence, picture = parameter_sets(H264Encoder(320, 240, 15, keyframe_interval=10).encode(scene(0)))
    assert (sequence[0] & 31, picture[0] & 31) == (7, 8)


def digest(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def test_digest_login() -> None:
    authenticator = Authenticator("op", "secret")
    nonce = authenticator.challenge["WWW-Authenticate"].split('nonce="')[1].rstrip('"')

    def header(password: str, nonce: str) -> str:
        secret = digest(f"op:almenara:{password}")
        response = digest(f"{secret}:{nonce}:{digest('DESCRIBE:rtsp://127.0.0.1/cam')}")
        return f'Digest username="op", nonce="{nonce}", uri="rtsp://127.0.0.1/cam", response="{response}"'

    assert authenticator.permits("DESCRIBE", header("secret", nonce))
    assert not authenticator.permits("DESCRIBE", header("wrong", nonce))
    assert not authenticator.permits("DESCRIBE", header("secret", "of yesterday"))
    assert not authenticator.permits("PLAY", header("secret", nonce))
    assert not authenticator.permits("DESCRIBE", 'Digest response="ä"')


@pytest.mark.parametrize("scheme", ["basic", "digest"])
def test_basic_login_is_taken_whatever_is_asked_for(scheme: LoginScheme) -> None:
    authenticator = Authenticator("op", "secret", scheme)
    assert authenticator.challenge["WWW-Authenticate"].lower().startswith(scheme)
    assert authenticator.permits("GET", "Basic " + base64.b64encode(b"op:secret").decode())
    assert not authenticator.permits("GET", "Basic " + base64.b64encode(b"op:wrong").decode())
    assert not authenticator.permits("GET", "Basic ?")
    assert not authenticator.permits("GET", "")


def test_a_camera_with_basic_login_takes_no_digest() -> None:
    response = digest(f"{digest('op:almenara:secret')}::{digest('GET:/mjpeg')}")
    header = f'Digest username="op", nonce="", uri="/mjpeg", response="{response}"'
    assert not Authenticator("op", "secret", "basic").permits("GET", header)


def test_without_a_user_everybody_may_watch() -> None:
    assert Authenticator(None, None).permits("DESCRIBE", "")


def test_a_password_without_a_user_is_refused() -> None:
    with pytest.raises(InputError, match="Give --user"):
        CliRunner().invoke(app, ["simulate", "--password", "x"], catch_exceptions=False)


@pytest.mark.parametrize("header", ["Basic é", "Basic \udce9", 'Digest uri="\udce9", response="\udce9"'])
def test_a_login_in_odd_characters_is_refused(header: str) -> None:
    assert not Authenticator("op", "secret").permits("DESCRIBE", header)


def test_the_share_of_packets_that_a_fault_hits() -> None:
    faults = FaultSwitch()
    assert not any(faults.strikes(FaultKind.DROP) for _ in range(100))
    faults.fault = Fault(FaultKind.DROP, share=0.3)
    assert 0.2 < sum(faults.strikes(FaultKind.DROP) for _ in range(2000)) / 2000 < 0.4
    assert not faults.strikes(FaultKind.CORRUPT)


def test_anomalies_follow_their_schedule_in_turn() -> None:
    schedule = AnomalySchedule(20, 5)
    shown = [schedule(t) for t in (0, 5, 19.9, 20, 24.9, 25, 40, 60, 80)]
    assert shown == [None, None, None, "crack", "crack", None, "clump", "foreign_object", "crack"]


def test_no_interval_means_no_anomaly() -> None:
    assert {AnomalySchedule(0, 5)(t) for t in range(100)} == {None}


def test_anomalies_longer_than_their_interval_are_refused() -> None:
    with pytest.raises(InputError, match="20 s every 10 s"):
        AnomalySchedule(10, 20)


def test_photographs_of_a_folder_are_shown_in_turn_without_their_masks(tmp_path: Path) -> None:
    for name, value in (("a.jpg", 50), ("b.jpg", 200), ("a_mask.png", 255)):
        cv2.imwrite(str(tmp_path / name), np.full((20, 30, 3), value, np.uint8))
    pictures = photographs(tmp_path, seconds_each=1.0)
    assert [round(float(pictures(t).mean()), -1) for t in (0, 0.9, 1, 2, 3.5)] == [50, 50, 200, 50, 200]


def test_an_empty_folder_and_a_broken_picture_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no picture"):
        photographs(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"text")
    with pytest.raises(InputError, match="cannot be read as a picture"):
        photographs(tmp_path)(0)


@pytest.mark.parametrize("scene", ["beach", "folder:", "folder:/does/not/exist", "still:a", "noise:", "timecode:3"])
def test_unknown_scenes_are_refused(scene: str) -> None:
    with pytest.raises(InputError):
        parse_scene(scene, width=32, height=32, seed=1, anomaly_every=0, anomaly_for=0)


def test_sludge_shows_the_scheduled_anomaly() -> None:
    calm = parse_scene("sludge", width=320, height=240, seed=1, anomaly_every=0, anomaly_for=0)
    eventful = parse_scene("sludge", width=320, height=240, seed=1, anomaly_every=4, anomaly_for=2)
    assert np.array_equal(calm(3.0), eventful(3.0))
    assert np.abs(calm(5.0).astype(int) - eventful(5.0)).max() > 40


def test_a_still_scene_never_changes_and_a_noisy_one_always_does() -> None:
    still, noise = (
        parse_scene(name, width=320, height=240, seed=1, anomaly_every=0, anomaly_for=0) for name in ("still", "noise")
    )
    assert np.array_equal(still(0), still(100))
    first, second = noise(0), noise(0)
    assert 1 < np.abs(first.astype(int) - second).mean() < 4
    assert np.abs(first.astype(int) - still(0)).max() < 30


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1280, 720), (640, 480), (320, 240)])
def test_a_timecode_survives_scaling_and_compression(width: int, height: int) -> None:
    now = round(time.monotonic() * 1000)
    picture = parse_scene("timecode", width=width, height=height, seed=1, anomaly_every=0, anomaly_for=0)(0)
    for side in {min(width, 1024), min(width, 640), 320}:
        small = cv2.resize(picture, (side, side * height // width), interpolation=cv2.INTER_AREA)
        jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
        read = read_timecode(np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB), dtype=np.uint8))
        assert read is not None
        assert 0 <= read - now < 5000


def test_a_damaged_timecode_is_no_time() -> None:
    picture = np.full((240, 320, 3), 128, np.uint8)
    assert read_timecode(picture) is None
    write_timecode(picture, 123_456_789)
    assert read_timecode(picture) == 123_456_789
    wrong, grey = picture.copy(), picture.copy()
    wrong[:13, 230:240] = 255 - wrong[:13, 230:240]
    grey[:13, 230:240] = 128
    assert (read_timecode(wrong), read_timecode(grey)) == (None, None)
    assert read_timecode(picture[:4, :40]) is None
    assert read_timecode(np.zeros((240, 320, 3), np.uint8)) is None


def studio(faults: FaultSwitch, *, loop: float | None = None, keyframe_interval: float = 2.0) -> Studio:
    return Studio(Scene(), width=320, height=240, fps=10, keyframe_interval=keyframe_interval, loop=loop, faults=faults)


def keys(studio: Studio, count: int, *, wanted: bool = False) -> list[bool]:
    shots = [studio.shoot(t / 10, video=True, jpeg=False, key_frame=wanted) for t in range(count)]
    return [is_key_frame(shot.units) for shot in shots]


def test_key_frames_come_at_their_interval() -> None:
    assert keys(studio(FaultSwitch(), keyframe_interval=0.5), 11) == ([True] + [False] * 4) * 2 + [True]


def test_a_loop_is_encoded_once_and_sent_over_and_over() -> None:
    looping = studio(FaultSwitch(), loop=0.8, keyframe_interval=0.4)
    shots = [looping.shoot(t / 10, video=True, jpeg=False, key_frame=False) for t in range(16)]
    assert [is_key_frame(shot.units) for shot in shots] == ([True] + [False] * 3) * 4
    assert all(first.units is again.units for first, again in zip(shots[:8], shots[8:], strict=True))
    assert len({b"".join(shot.units) for shot in shots}) == 8


def test_a_loop_goes_to_a_key_frame_for_who_comes_later() -> None:
    looping = studio(FaultSwitch(), loop=0.8, keyframe_interval=0.4)
    keys(looping, 2)
    assert keys(looping, 3, wanted=True) == [True] * 3


@pytest.mark.parametrize("kind", [FaultKind.BLACK, FaultKind.BLUR, FaultKind.FREEZE])
def test_a_fault_of_the_picture_is_shown_instead_of_the_loop(kind: FaultKind) -> None:
    faults = FaultSwitch()
    looping = studio(faults, loop=0.8)
    keys(looping, 3)
    faults.fault = Fault(kind)
    assert keys(looping, 3) == [True, False, False]
    faults.fault = Fault()
    assert keys(looping, 3) == [True, False, False]


def jpegs(studio: Studio, count: int, start: float = 0.0) -> list[NDArray[np.uint8]]:
    bodies = [studio.shoot(start + t, video=False, jpeg=True, key_frame=False).jpeg or b"" for t in range(count)]
    return [np.asarray(cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR_RGB)) for body in bodies]


def test_faults_of_the_picture() -> None:
    faults = FaultSwitch()
    camera = studio(faults)
    (sharp,) = jpegs(camera, 1)
    faults.fault = Fault(FaultKind.BLACK)
    assert jpegs(camera, 1)[0].max() < 8
    faults.fault = Fault(FaultKind.BLUR)
    (blurred,) = jpegs(camera, 1)
    assert cv2.Laplacian(blurred, cv2.CV_64F).std() < cv2.Laplacian(sharp, cv2.CV_64F).std() / 10
    assert abs(float(blurred.mean()) - float(sharp.mean())) < 5


def test_a_camera_freezes_on_its_first_picture_too() -> None:
    faults = FaultSwitch()
    camera = studio(faults)
    faults.fault = Fault(FaultKind.FREEZE)
    first, second = jpegs(camera, 2)
    assert np.array_equal(first, second)
    faults.fault = Fault()
    assert not np.array_equal(second, jpegs(camera, 1, start=3.0)[0])


def test_a_new_size_holds_for_every_way_to_watch() -> None:
    camera = studio(FaultSwitch(), loop=0.4)
    before = camera.parameter_sets
    camera.resize(160, 120)
    assert camera.parameter_sets != before
    shot = camera.shoot(0, video=True, jpeg=True, key_frame=True)
    (frame,) = av.CodecContext.create("h264", "r").decode(av.Packet(b"".join(b"\0\0\0\1" + u for u in shot.units)))
    assert isinstance(frame, av.VideoFrame)
    assert (frame.width, frame.height) == (160, 120)
    assert jpegs(camera, 1)[0].shape == (120, 160, 3)
