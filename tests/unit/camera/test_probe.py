"""Probe: what a source delivers, and what to change on the camera."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from almenara.errors import InputError
from camera_worker.cli import app
from camera_worker.probe import ProbeReport, advise, probe
from camera_worker.sources import ReadOptions, Source
from tests.support.camera import CameraThread, simulated_camera, write_video
from tests.unit.camera.test_sources import FakeWebcam, write_with_b_frames

QUICK = ReadOptions(connect=1.0, read=1.0)
HEALTHY = ProbeReport(
    source="rtsp://cam/1",
    delivery="RTSP over TCP",
    codec="h264",
    profile="Baseline",
    width=1280,
    height=720,
    declared_fps=15.0,
    fps=15.0,
    keyframe_interval=2.0,
    b_frames=False,
    bit_rate=2e6,
    first_picture=0.2,
    longest_gap=0.1,
    pictures=100,
    damaged=0,
    decode_ms=3.0,
    cameras_per_core=22.0,
    lost=None,
)


@pytest.fixture
def camera() -> Iterator[CameraThread]:
    with simulated_camera(user="plant.op", password="p@ss", fps=10, keyframe_interval=0.5) as running:  # noqa: S106
        yield running


def seen_by_probe(url: str, *, seconds: float = 1.5, options: ReadOptions = QUICK) -> ProbeReport:
    source = Source.parse(url, username="plant.op", password="p@ss")  # noqa: S106
    return probe(source, options, seconds=seconds)


def test_a_stream_is_measured(camera: CameraThread) -> None:
    report = seen_by_probe(camera.url)
    assert (report.codec, report.width, report.height, report.declared_fps) == ("h264", 320, 240, 10)
    assert report.delivery == "RTSP over TCP"
    assert report.fps == pytest.approx(10, abs=4)
    assert report.keyframe_interval == pytest.approx(0.5, abs=0.15)
    assert report.first_picture < 1
    assert report.bit_rate is not None
    assert 1e5 < report.bit_rate < 2e7
    assert report.decode_ms is not None
    assert 0 < report.decode_ms < 50
    assert (report.b_frames, report.damaged, report.lost, report.advice) == (False, 0, None, ())


def test_losses_over_udp_lead_to_advice(camera: CameraThread) -> None:
    threading.Timer(0.7, camera.switch, ["drop=0.2"]).start()
    report = seen_by_probe(camera.url, options=replace(QUICK, transport="udp"), seconds=2.5)
    assert report.damaged > 0
    assert "say transport: tcp" in report.advice[0]


@pytest.mark.parametrize(("kind", "codec"), [("mjpeg_url", "mjpeg"), ("snapshot_url", "jpeg")])
def test_http_is_measured(camera: CameraThread, kind: str, codec: str) -> None:
    report = seen_by_probe(getattr(camera, kind))
    assert (report.codec, report.width) == (codec, 320)
    assert report.pictures >= 3


def test_a_source_lost_while_it_is_watched_is_reported(camera: CameraThread) -> None:
    cut = threading.Timer(1.0, camera.switch, ["away"])
    cut.start()
    report = seen_by_probe(camera.url, seconds=10)
    assert report.lost == "the camera ended the stream"
    assert "was lost" in report.advice[0]


def test_a_file_is_measured_by_its_own_times(tmp_path: Path) -> None:
    report = probe(Source.parse(str(write_with_b_frames(tmp_path / "a.mp4"))), QUICK, seconds=5)
    assert report.fps == pytest.approx(10)
    assert report.keyframe_interval == pytest.approx(1.0)
    assert (report.pictures, report.b_frames, report.longest_gap, report.advice) == (30, True, None, ())


def test_a_webcam_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    webcam = FakeWebcam([np.zeros((4, 6, 3), np.uint8)] * 20)
    monkeypatch.setattr("camera_worker.sources.webcam.open_device", lambda *_: webcam)
    report = probe(Source.parse("0"), QUICK, seconds=5)
    assert (report.codec, report.width, report.declared_fps, report.bit_rate) == ("raw", 6, 30.0, None)
    assert report.lost == "webcam 0 gives no picture"


def test_a_single_picture_has_no_rate(tmp_path: Path) -> None:
    report = probe(Source.parse(str(write_video(tmp_path / "a.mp4", frames=1))), QUICK, seconds=5)
    assert (report.fps, report.decode_ms, report.cameras_per_core) == (None, None, None)


def test_wrong_credentials_are_the_reason(camera: CameraThread) -> None:
    with pytest.raises(InputError, match="refuses the credentials") as caught:
        probe(Source.parse(camera.url, username="plant.op", password="wrong"), QUICK, seconds=1)  # noqa: S106
    assert "wrong" not in str(caught.value)


def test_a_source_of_damage_alone_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class OddWebcam(FakeWebcam):
        def grab(self) -> bool:
            return True

        def retrieve(self) -> tuple[bool, Any]:
            return True, np.zeros((4, 6, 2), np.uint8)

    monkeypatch.setattr("camera_worker.sources.webcam.open_device", lambda *_: OddWebcam([]))
    with pytest.raises(InputError, match="no undamaged picture came"):
        probe(Source.parse("0"), ReadOptions(connect=0.1, read=0.1), seconds=0.2)


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ({"lost": "nothing came for 3 s"}, "lost while it was watched (nothing came for 3 s)"),
        ({"damaged": 5}, "4.8% of the pictures came damaged: check cable"),
        ({"keyframe_interval": 10.0}, "every 10.0 s: set its interval to 1-2 s"),
        ({"width": 3840, "height": 2160}, "substream"),
        ({"fps": 25.0}, "25 pictures a second"),
        ({"codec": "hevc"}, "H.265 costs more"),
        ({"b_frames": True}, "B-frames delay"),
        ({"longest_gap": 2.0}, "No picture came for 2.0 s; 3 s count as a loss"),
    ],
)
def test_advice_names_what_to_change(change: dict[str, object], advice: str) -> None:
    (sentence,) = advise(replace(HEALTHY, **change), ReadOptions())  # type: ignore[arg-type]
    assert advice in sentence


def test_a_healthy_camera_needs_no_advice() -> None:
    assert advise(replace(HEALTHY, keyframe_interval=None, fps=None), ReadOptions()) == ()


def test_the_command_prints_what_it_saw(camera: CameraThread) -> None:
    arguments = ["probe", camera.url, "--username", "plant.op", "--seconds", "0.5"]
    result = CliRunner().invoke(app, arguments, env={"CAMERA_PASSWORD": "p@ss"})
    assert result.exit_code == 0
    assert "320x240" in result.stdout
    assert "cannot be told" in result.stdout
    assert "Nothing to change." in result.stdout
    assert "p@ss" not in result.output


def test_the_command_prints_json(tmp_path: Path) -> None:
    arguments = ["probe", str(write_video(tmp_path / "a.mp4", frames=5)), "--json"]
    result = CliRunner().invoke(app, arguments, env={"CAMERA_PASSWORD": "unused"})
    assert json.loads(result.stdout)["width"] == 320


def test_the_command_refuses_what_gives_no_picture() -> None:
    result = CliRunner().invoke(app, ["probe", "97"])
    assert isinstance(result.exception, InputError)
    assert "no webcam 97" in str(result.exception)
    assert "plugged in" in str(result.exception)
    assert "network" not in str(result.exception)


def test_a_rate_that_the_probe_chose_is_not_called_the_cameras(camera: CameraThread) -> None:
    arguments = ["probe", camera.snapshot_url, "--username", "plant.op", "--seconds", "0.6"]
    result = CliRunner().invoke(app, arguments, env={"CAMERA_PASSWORD": "p@ss"})
    assert "as the probe asked" in result.stdout
    assert "is up to whoever asks" in result.stdout


@pytest.mark.parametrize(
    ("change", "flaw"), [({"lost": "it breaks off"}, "it breaks off"), ({"damaged": 25}, "20.0% of its pictures")]
)
def test_a_file_that_is_not_whole_is_advised_to_be_copied_again(change: dict[str, object], flaw: str) -> None:
    (sentence,) = advise(replace(HEALTHY, longest_gap=None, **change), ReadOptions())  # type: ignore[arg-type]
    assert sentence.startswith(f"The file is not whole ({flaw}")
