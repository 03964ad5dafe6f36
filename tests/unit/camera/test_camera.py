"""One camera that cannot be watched, that pauses, or whose thread is replaced: what it tells of itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from almenara.alarms import Phase
from almenara.contracts import Observation
from camera_worker.camera import Blindness, Camera, CameraState, Scored
from camera_worker.capture import Capture, CaptureState
from camera_worker.config import CameraConfig

CLIENT: Any = SimpleNamespace()  # is never asked
MONDAY = datetime(2026, 7, 6, 12, tzinfo=UTC)
WEEKDAYS = {"active": ["mon-fri 00:00-24:00"]}


class Sink:
    """An alarm store that fails so many times."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.told: list[str] = []

    def observe(self, observation: Observation, now: float, scored: Scored | None) -> Phase:
        if self.failures:
            self.failures -= 1
            raise OSError("no space left")
        self.told.append(observation.reason)
        return Phase.UNKNOWN


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[Capture]:
    """Capture threads are started in word only."""
    started: list[Capture] = []
    monkeypatch.setattr(Capture, "start", lambda capture: started.append(capture))  # noqa: PLW0108 - a function is bound
    return started


def config(**settings: object) -> CameraConfig:
    return CameraConfig.model_validate({"name": "outflow", "source": "rtsp://camera/", **settings})


async def until(condition: Callable[[], object], seconds: float = 3.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come"
        await asyncio.sleep(0.01)


async def end(camera: Camera, task: asyncio.Task[None]) -> None:
    camera.stop()
    await asyncio.wait_for(task, 2)


def test_a_camera_without_a_thread_is_blind_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("camera_worker.camera._PAUSE_AFTER_ERROR_SECONDS", 0.1)
    tries: list[Capture] = []

    def start(capture: Capture) -> None:
        tries.append(capture)
        if len(tries) < 3:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Capture, "start", start)
    sink = Sink()

    async def work() -> None:
        camera = Camera(config(), CLIENT, alarms=sink)
        task = asyncio.create_task(camera.run())
        await until(lambda: sink.told)
        sighting = camera.sighting(time.monotonic())
        assert sighting is not None
        assert (sighting.sees, sighting.of_detection) == (False, False)
        assert sighting.blind_since is not None
        assert sighting.reason == "it cannot be watched (RuntimeError)"
        since = sighting.blind_since
        await until(lambda: len(tries) == 3)
        assert camera.blindness is Blindness.ERROR
        assert camera.blind_since == since
        assert len(set(tries)) == 3
        await end(camera, task)

    asyncio.run(work())
    assert set(sink.told) == {"it cannot be watched (RuntimeError)"}
    assert caplog.text.count("Traceback") == 1


def test_a_replacing_thread_that_cannot_start_leaves_the_worker_running(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Capture) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Capture, "start", fail)

    async def work() -> None:
        camera = Camera(config(), CLIENT)
        before = camera.capture
        camera.replace_capture()
        assert camera.capture is not before
        assert not camera.capture.alive
        assert camera.counters.abandoned_threads == 1

    asyncio.run(work())
    assert "its new capture thread cannot be started" in caplog.text


def test_a_pause_is_told_until_the_store_has_taken_it() -> None:
    sink = Sink(failures=2)

    async def work() -> None:
        camera = Camera(config(schedule=WEEKDAYS), CLIENT, alarms=sink, clock=lambda: MONDAY - timedelta(days=1))
        task = asyncio.create_task(camera.run())
        await until(lambda: sink.told)
        await asyncio.sleep(0.6)
        assert sink.told == ["outside its schedule"]
        assert camera.counters.store_failures == 2
        await end(camera, task)

    asyncio.run(work())


@pytest.mark.usefixtures("starts")
def test_after_a_pause_nothing_is_seen_before_something_was_scored() -> None:
    moments = [MONDAY]

    async def work() -> None:
        camera = Camera(config(schedule=WEEKDAYS), CLIENT, clock=lambda: moments[0])
        task = asyncio.create_task(camera.run())
        await until(lambda: camera.watching)
        camera._scoring.sees = True  # as after a verdict
        moments[0] = MONDAY - timedelta(days=1)
        await until(lambda: camera.state is CameraState.PAUSED)
        moments[0] = MONDAY
        await until(lambda: camera.watching)
        sighting = camera.sighting(time.monotonic())
        assert sighting is not None
        assert not sighting.sees
        await end(camera, task)

    asyncio.run(work())


def test_a_new_thread_knows_nothing_of_what_the_earlier_one_lacked(starts: list[Capture]) -> None:
    async def work() -> None:
        camera = Camera(config(read_timeout="100ms"), CLIENT)
        task = asyncio.create_task(camera.run())
        await until(lambda: starts)
        camera.capture.state = CaptureState.LIVE
        await until(lambda: camera.state is CameraState.DEGRADED)
        camera.stop()
        await task
        camera.replace_capture()
        camera.capture.state = CaptureState.LIVE
        assert camera.state is CameraState.LIVE

    asyncio.run(work())
