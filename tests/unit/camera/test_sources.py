"""Sources: addresses, files and the pause between attempts."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from almenara.errors import InputError
from camera_worker.capture import Capture, CaptureState, backoff
from camera_worker.slot import LatestFrame, Picture
from camera_worker.sources import (
    Source,
    SourceKind,
    SourceLostError,
    read_file,
    read_webcam,
)
from tests.support.camera import wait_for, write_video


@pytest.mark.parametrize(
    ("text", "kind"),
    [("0", SourceKind.WEBCAM), ("rtsp://cam/1", SourceKind.STREAM), ("RTSPS://cam:322/1", SourceKind.STREAM)],
)
def test_kinds_of_sources(text: str, kind: SourceKind) -> None:
    assert Source.parse(text).kind is kind


@pytest.mark.parametrize("text", ["ftp://cam/1", "rtsp://", "rtsp://cam:99999/1", "rtsp://[::1/1", "rtsp:///path"])
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        Source.parse(text)
    assert caught.value.code == "source-unknown"


def test_an_absent_file_is_refused() -> None:
    with pytest.raises(InputError, match="no video file absent"):
        Source.parse("absent.mp4")


def test_given_credentials_go_before_those_of_the_address() -> None:
    source = Source.parse("rtsp://a:b@cam:554/1?x=1", username="op@site", password="ä/:@")  # noqa: S106
    assert source.address == "rtsp://op%40site:%C3%A4%2F%3A%40@cam:554/1?x=1"


def test_backoff_grows_to_a_second_and_varies() -> None:
    assert 0.125 <= backoff(0) <= 0.25
    assert all(0.5 <= backoff(50) <= 1.0 for _ in range(100))
    assert len({backoff(3) for _ in range(10)}) > 1


def test_a_file_gives_all_its_pictures_at_their_times(tmp_path: Path) -> None:
    waits: list[float] = []
    pictures = list(read_file(str(write_video(tmp_path / "a.mp4", frames=25)), wait=waits.append))
    assert len(pictures) == 25
    assert waits[-1] == pytest.approx(2.4, abs=0.5)


def test_a_file_that_is_no_video_is_lost_with_a_reason(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.write_text("hello, I am text")
    with pytest.raises(SourceLostError, match="invalid data"):
        next(read_file(str(file)))


def test_a_file_without_video_says_so(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame(format="s16", layout="mono", samples=800)
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(SourceLostError, match="no video"):
        next(read_file(str(file)))


def test_an_absent_webcam_says_so() -> None:
    with pytest.raises(SourceLostError, match="no webcam 97"):
        next(read_webcam(97))


def test_a_file_is_played_once_and_ends(tmp_path: Path) -> None:
    slot = LatestFrame()
    capture = Capture(Source.parse(str(write_video(tmp_path / "a.mp4", frames=8, fps=20))), slot)
    capture.start()
    wait_for(lambda: capture.state is CaptureState.ENDED, 3)
    wait_for(lambda: not capture.alive, 1)
    assert capture.counters.frames == 8
    frame = slot.newest()
    assert frame is not None
    assert frame.sequence == 8


def test_a_file_cut_short_ends_where_it_can_be_read(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.ts", frames=30, fps=30).read_bytes()
    file = tmp_path / "cut.ts"
    file.write_bytes(whole[: len(whole) // 2])
    capture = Capture(Source.parse(str(file)), LatestFrame())
    capture.start()
    wait_for(lambda: capture.state is CaptureState.ENDED, 4)
    assert 0 < capture.counters.frames < 30


def test_stop_ends_a_thread_that_waits(tmp_path: Path) -> None:
    capture = Capture(Source.parse(str(write_video(tmp_path / "a.mp4", frames=20, fps=1))), LatestFrame())
    capture.start()
    wait_for(lambda: capture.counters.frames, 2)
    capture.stop(timeout=1.0)
    assert not capture.alive


def test_an_unforeseen_error_is_a_loss_and_the_thread_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read(number: int, **_: Any) -> Iterator[Picture]:
        yield np.zeros((4, 6, 3), np.uint8)
        raise ValueError("a picture of an odd size")

    monkeypatch.setattr("camera_worker.capture.read_webcam", read)
    capture = Capture(Source.parse("0"), LatestFrame())
    with caplog.at_level(logging.ERROR):
        capture.start()
        wait_for(lambda: capture.counters.connections >= 4, 5)
        assert capture.alive
        capture.stop(timeout=1.0)
    assert capture.counters.losses >= 3
    assert capture.counters.damaged >= 3
    assert "a picture of an odd size" in caplog.text


def test_a_webcam_picture_of_an_odd_format_is_counted_and_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [np.zeros((4, 6, 2), np.uint8), np.zeros((4, 6, 3), np.uint8)]

    class Webcam:
        def __init__(self, number: int) -> None: ...

        def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
            return True

        def read(self) -> tuple[bool, object]:
            return (True, pictures.pop(0)) if pictures else (False, None)

        def release(self) -> None: ...

    monkeypatch.setattr(cv2, "VideoCapture", Webcam)
    damaged: list[int] = []
    webcam = read_webcam(0, on_damage=lambda: damaged.append(1))
    picture = next(webcam)
    assert isinstance(picture, np.ndarray)
    assert picture.shape == (4, 6, 3)
    assert damaged == [1]
