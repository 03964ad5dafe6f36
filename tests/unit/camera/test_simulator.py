"""The parts of the simulated camera: faults, encoder, packets, login, scenes."""

from __future__ import annotations

import base64
import hashlib
import struct
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from almenara.errors import InputError
from camera_worker.simulator import Fault, FaultKind
from camera_worker.simulator.encoder import H264Encoder, RtpPacketizer, is_key_frame, parameter_sets
from camera_worker.simulator.rtsp import Authenticator, Request
from camera_worker.simulator.scenes import AnomalySchedule, parse_scene, photographs
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
    ],
)
def test_control_lines(line: str, fault: Fault) -> None:
    assert Fault.parse(line) == fault


@pytest.mark.parametrize(
    "line",
    ["", "explode", "corrupt", "corrupt=2", "drop=x", "stall=1", "resize=1x1", "resize=321x240", "resize=9999x9998"],
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


def request(authorization: str) -> Request:
    return Request("DESCRIBE", "rtsp://127.0.0.1/cam", {"authorization": authorization})


def test_digest_login() -> None:
    authenticator = Authenticator("op", "secret")
    nonce = authenticator.challenge["WWW-Authenticate"].split('nonce="')[1].rstrip('"')

    def digest(text: str) -> str:
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    def header(password: str, nonce: str) -> str:
        secret = digest(f"op:almenara:{password}")
        response = digest(f"{secret}:{nonce}:{digest('DESCRIBE:rtsp://127.0.0.1/cam')}")
        return f'Digest username="op", nonce="{nonce}", uri="rtsp://127.0.0.1/cam", response="{response}"'

    assert authenticator.permits(request(header("secret", nonce)))
    assert not authenticator.permits(request(header("wrong", nonce)))
    assert not authenticator.permits(request(header("secret", "of yesterday")))


def test_basic_login() -> None:
    authenticator = Authenticator("op", "secret")
    assert authenticator.permits(request("Basic " + base64.b64encode(b"op:secret").decode()))
    assert not authenticator.permits(request("Basic " + base64.b64encode(b"op:wrong").decode()))
    assert not authenticator.permits(request("Basic ?"))
    assert not authenticator.permits(request(""))


def test_without_a_user_everybody_may_watch() -> None:
    assert Authenticator(None, None).permits(request(""))


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


@pytest.mark.parametrize("scene", ["beach", "folder:", "folder:/does/not/exist"])
def test_unknown_scenes_are_refused(scene: str) -> None:
    with pytest.raises(InputError):
        parse_scene(scene, width=32, height=32, seed=1, anomaly_every=0, anomaly_for=0)


def test_sludge_shows_the_scheduled_anomaly() -> None:
    calm = parse_scene("sludge", width=320, height=240, seed=1, anomaly_every=0, anomaly_for=0)
    eventful = parse_scene("sludge", width=320, height=240, seed=1, anomaly_every=4, anomaly_for=2)
    assert np.array_equal(calm(3.0), eventful(3.0))
    assert np.abs(calm(5.0).astype(int) - eventful(5.0)).max() > 40
