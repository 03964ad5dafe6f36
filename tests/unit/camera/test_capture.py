"""Capture: the thread that keeps pictures coming, its state and what it measures."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from camera_worker.capture import Capture, CaptureState, backoff
from camera_worker.meter import StreamMeter
from camera_worker.slot import LatestFrame, Picture
from camera_worker.sources import Description, ReadOptions, Source, SourceLostError, UnauthorisedError
from tests.support.camera import wait_for, write_video
from tests.unit.camera.test_sources import FakeWebcam

SMALL = np.zeros((4, 6, 3), np.uint8)


@pytest.fixture(autouse=True)
def no_thread_outlives_its_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A thread that is still reconnecting would read what the next test prepares."""
    captures: list[Capture] = []
    start = Capture.start

    def remembered(capture: Capture) -> None:
        captures.append(capture)
        start(capture)

    monkeypatch.setattr(Capture, "start", remembered)
    yield
    for capture in captures:
        capture.stop()


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_backoff_grows_to_a_second_and_varies() -> None:
    assert 0.125 <= backoff(0) <= 0.25
    assert all(0.5 <= backoff(50) <= 1.0 for _ in range(100))
    assert len({backoff(3) for _ in range(10)}) > 1


def test_a_file_is_played_once_and_ends(tmp_path: Path) -> None:
    slot = LatestFrame()
    capture = Capture(Source.parse(str(write_video(tmp_path / "a.mp4", frames=8, fps=20))), slot)
    capture.start()
    wait_for(lambda: capture.state is CaptureState.ENDED, 3)
    wait_for(lambda: not capture.alive, 1)
    assert (capture.meter.counters.frames, capture.reason) == (8, "")
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
    assert 0 < capture.meter.counters.frames < 30


def test_a_file_without_pictures_ends_with_a_reason(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_text("hello, I am text" * 10)
    capture = Capture(Source.parse(str(file)), LatestFrame())
    capture.start()
    wait_for(lambda: capture.state is CaptureState.ENDED, 2)
    assert "no picture that can be read" in capture.reason


def test_stop_ends_a_thread_that_waits(tmp_path: Path) -> None:
    capture = Capture(Source.parse(str(write_video(tmp_path / "a.mp4", frames=20, fps=1))), LatestFrame())
    capture.start()
    wait_for(lambda: capture.meter.counters.frames, 2)
    capture.stop()
    capture.stop(timeout=1.0)
    assert not capture.alive


def read_by(monkeypatch: pytest.MonkeyPatch, *connections: list[Picture | Exception]) -> None:
    """Makes each connection to any source give these pictures and then fail so, or end; further ones wait forever."""
    left = list(connections)

    def read_source(*_: object, **__: object) -> Iterator[Picture]:
        if not left:
            threading.Event().wait()
        for event in left.pop(0):
            if isinstance(event, Exception):
                raise event
            yield event

    monkeypatch.setattr("camera_worker.capture.read_source", read_source)


def test_an_unplugged_webcam_is_offline_and_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """No webcam is needed: a fake one stands behind the function that opens devices."""
    webcams = [FakeWebcam([SMALL]), FakeWebcam([], there=False), FakeWebcam([SMALL] * 50_000)]
    monkeypatch.setattr("camera_worker.sources.webcam.open_device", lambda *_: webcams.pop(0))
    capture = Capture(Source.parse("0"), LatestFrame())
    states: list[tuple[CaptureState, str]] = []

    def become(state: CaptureState, reason: str = "") -> None:
        states.append((state, reason))
        Capture._become(capture, state, reason)

    monkeypatch.setattr(capture, "_become", become)
    capture.start()
    wait_for(lambda: capture.meter.counters.connections == 2, 3)
    capture.stop(timeout=2.0)
    assert [state for state, _ in states][:4] == ["live", "offline", "offline", "live"]
    assert states[1][1] == "webcam 0 gives no picture"
    assert states[2][1] == "there is no webcam 0"
    assert capture.meter.counters.losses == 1
    assert capture.meter.size == (6, 4)


def test_an_unforeseen_error_is_a_loss_and_the_thread_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    odd: list[Picture | Exception] = [SMALL, ValueError("a picture of an odd size")]
    read_by(monkeypatch, odd, odd, odd, [SMALL])
    capture = Capture(Source.parse("0"), LatestFrame())
    with caplog.at_level(logging.ERROR):
        capture.start()
        wait_for(lambda: capture.meter.counters.connections == 4, 5)
    assert capture.alive
    assert capture.meter.counters.losses >= 3
    assert capture.meter.counters.damaged == 3
    assert "a picture of an odd size" in caplog.text


def test_a_stream_that_ends_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    read_by(monkeypatch, [SMALL])
    capture = Capture(Source.parse("0"), LatestFrame())
    capture.start()
    wait_for(lambda: capture.state is CaptureState.OFFLINE, 2)
    assert capture.reason == "the camera ended the stream"
    assert (capture.meter.counters.connections, capture.meter.counters.losses) == (1, 1)


def test_a_connection_without_pictures_is_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    read_by(monkeypatch, [SourceLostError("connection refused")])
    capture = Capture(Source.parse("0"), LatestFrame())
    capture.start()
    wait_for(lambda: capture.state is CaptureState.OFFLINE, 2)
    assert (capture.meter.counters.connections, capture.meter.counters.losses) == (0, 0)


def test_refused_credentials_rest_for_as_long_as_said(monkeypatch: pytest.MonkeyPatch) -> None:
    read_by(monkeypatch, [UnauthorisedError("401")], [SMALL])
    capture = Capture(Source.parse("0"), LatestFrame(), options=ReadOptions(unauthorised=0.6))
    capture.start()
    wait_for(lambda: capture.state is CaptureState.UNAUTHORISED, 2)
    assert wait_for(lambda: capture.meter.counters.connections, 2) > 0.3


def test_a_thread_whose_pictures_nobody_takes_any_more_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread has taken over the slot."""
    slot = LatestFrame()

    def read_source(*_: object, **__: object) -> Iterator[Picture]:
        slot.new_generation()
        yield SMALL

    monkeypatch.setattr("camera_worker.capture.read_source", read_source)
    capture = Capture(Source.parse("0"), slot)
    capture.start()
    wait_for(lambda: not capture.alive, 2)
    assert slot.newest() is None


def test_a_thread_that_dies_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    slot = LatestFrame()

    def broken(*_: Any) -> int:
        raise MemoryError

    monkeypatch.setattr(slot, "new_generation", broken)
    capture = Capture(Source.parse("rtsp://op:hunter2@cam/1"), slot)
    capture.start()
    wait_for(lambda: not capture.alive, 2)
    assert "The capture thread of rtsp://***@cam/1 failed." in caplog.text


def test_silence_grows_while_a_read_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    read_by(monkeypatch)
    capture = Capture(Source.parse("0"), LatestFrame())
    capture.start()
    wait_for(lambda: capture.silence > 0.3, 2)
    assert capture.alive
    assert time.monotonic() - capture.meter.seen_at > 0.3
    meter = capture.meter
    assert (meter.size, meter.keyframe_interval, meter.fps, meter.damaged_share) == (None, None, 0.0, 0.0)


# --- what is measured -----------------------------------------------------------------------------------------


def test_rates_are_those_of_the_last_ten_seconds() -> None:
    clock = Clock()
    meter = StreamMeter(clock)
    for turn in range(200):
        clock.now += 0.1
        if turn % 4:
            meter.picture(SMALL)
        else:
            meter.damaged("a hole")
    assert meter.fps == pytest.approx(7.5, abs=0.2)
    assert meter.damaged_share == pytest.approx(0.25, abs=0.02)
    clock.now += 5
    assert meter.fps == pytest.approx(3.75, abs=0.2)
    clock.now += 6
    assert (meter.fps, meter.damaged_share) == (0.0, 0.0)


def test_a_young_connection_has_its_rate_already() -> None:
    clock = Clock()
    meter = StreamMeter(clock)
    clock.now += 60
    meter.restart()
    meter.described(Description("h264", "test"))
    for _ in range(30):
        clock.now += 0.1
        meter.picture(SMALL)
    assert meter.fps == pytest.approx(10.0)


def test_damage_is_no_sign_of_sight_and_a_skipped_picture_is() -> None:
    clock = Clock()
    meter = StreamMeter(clock)
    clock.now = 110
    meter.damaged("a hole")
    assert meter.seen_at == 100
    meter.skipped()
    assert (meter.seen_at, meter.touched_at) == (110, 110)


def test_where_most_pictures_are_damaged_the_others_are_not_believed_until_a_key_frame_is_whole() -> None:
    clock = Clock()
    meter = StreamMeter(clock)
    dependent = av.VideoFrame(64, 48, "yuv420p")
    for turn in range(40):
        meter.damaged("a hole")
        if turn % 4 == 3:
            clock.now += 1
            meter.picture(dependent)
    assert not meter.trusted
    assert meter.seen_at == 100
    meter.picture(SMALL)  # every picture of a webcam is whole
    assert meter.trusted
    for turn in range(40):
        (meter.picture(dependent) if turn % 2 else meter.damaged("a hole"))
        assert meter.trusted


@pytest.mark.parametrize(
    ("times", "interval"), [((5.0, 7.0), 2.0), ((None, 7.0), 3.0), ((7.0, None), 3.0), ((7.0, 5.0), 3.0)]
)
def test_key_frames_are_timed_by_the_stream_or_else_by_arrival(
    times: tuple[float | None, float | None], interval: float
) -> None:
    clock = Clock()
    meter = StreamMeter(clock)
    meter.received(100, key_frame=True, at=times[0])
    clock.now += 3
    meter.received(100, key_frame=False, at=6.0)
    assert meter.keyframe_interval is None
    meter.received(100, key_frame=True, at=times[1])
    assert meter.keyframe_interval == interval


def test_a_new_connection_forgets_the_last_key_frame() -> None:
    meter = StreamMeter(Clock())
    meter.received(100, key_frame=True, at=0.0)
    meter.restart()
    meter.received(100, key_frame=True, at=60.0)
    assert meter.keyframe_interval is None
