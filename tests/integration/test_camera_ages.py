"""How fresh the pictures are that are scored, and how soon blindness is noticed and over."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from camera_worker.camera import Blindness, Camera, CameraState
from camera_worker.client import VisionClient
from camera_worker.config import parse_config
from camera_worker.picture import Prepared, Preparer
from camera_worker.slot import Frame, LatestFrame
from tests.support.camera import CameraThread, LoopThread, wait_for
from tests.support.worker import Rig, worker_rig

pytestmark = [pytest.mark.slow, pytest.mark.alone]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with worker_rig(tmp_path) as made:
        yield made


@pytest.mark.parametrize(("pace", "wanted"), [(15, 10), (3, 2)])
def test_pictures_are_fresh_when_they_are_posted_though_the_model_is_four_times_too_slow(
    rig: Rig, pace: int, wanted: int
) -> None:
    with LoopThread() as loop:
        camera = CameraThread(loop, rig.scene, fps=pace)
        rig.api.delay = 4 / wanted
        text = rig.text().replace(rig.camera.url, camera.url).replace("timeout: 1s}\nvar", "timeout: 5s}\nvar")
        rig.run(text.replace("fps: 10", f"fps: {wanted}"))
        wait_for(lambda: len(rig.verdicts) >= 6, 20)
        camera.stop()
    assert rig.api.most_in_flight == 1
    ages = [verdict.posted_age for verdict in rig.verdicts]
    assert max(ages) <= 0.3
    rig.stop()
    counters = rig.worker.counters
    assert counters.ages.total == pytest.approx(sum(verdict.posted_age for verdict in rig.verdicts), abs=1e-6)
    assert counters.ages.buckets[-1][1] == counters.scored == len(rig.verdicts)


def test_as_many_pictures_are_scored_as_the_camera_sends_when_it_sends_no_more(rig: Rig) -> None:
    with LoopThread() as loop:
        camera = CameraThread(loop, rig.scene, fps=5)
        rig.run(rig.text().replace(rig.camera.url, camera.url).replace("fps: 10", "fps: 5"))
        wait_for(lambda: len(rig.verdicts) > 2, 5)
        frames, scored = rig.worker.capture.meter.counters.frames, rig.worker.counters.scored
        time.sleep(5)
        frames, scored = rig.worker.capture.meter.counters.frames - frames, rig.worker.counters.scored - scored
        camera.stop()
    assert frames >= 20
    assert scored >= frames - 2


def test_no_picture_is_posted_twice_and_no_more_than_were_asked_for(rig: Rig) -> None:
    rig.run(rig.text().replace("fps: 10", "fps: 4"))
    wait_for(lambda: len(rig.verdicts) > 2, 5)
    scored = rig.worker.counters.scored
    time.sleep(3)
    assert rig.worker.counters.scored - scored in range(10, 14)
    moments = [verdict.captured_at for verdict in rig.verdicts]
    assert moments == sorted(set(moments))


def test_a_stall_is_told_soon_after_the_read_timeout(rig: Rig) -> None:
    rig.start()
    wait_for(lambda: rig.verdicts, 5)
    rig.camera.switch("stall")
    assert wait_for(lambda: rig.worker.state is CameraState.OFFLINE, 3) < 1.5
    assert wait_for(lambda: rig.worker.blindness is Blindness.CAMERA, 1) < 0.5
    rig.camera.switch("none")
    wait_for(lambda: rig.worker.blindness is None, 2 + 2)


def test_a_stall_is_told_though_a_request_is_in_flight(rig: Rig) -> None:
    rig.run(rig.text().replace("timeout: 1s}\nvar", "timeout: 8s}\nvar"))
    wait_for(lambda: rig.verdicts, 5)
    rig.api.mode = "hang"
    rig.camera.switch("stall")
    wait_for(lambda: rig.worker.state is CameraState.OFFLINE, 1.5)
    assert rig.worker.state_since is not None


def test_key_frames_far_apart_are_not_blindness(rig: Rig) -> None:
    """One key frame in four seconds, a read timeout of one: the packets between tell that the camera sees."""
    with LoopThread() as loop:
        camera = CameraThread(loop, rig.scene, keyframe_interval=4.0)
        rig.run(rig.text("frames: keyframes").replace(rig.camera.url, camera.url))
        wait_for(lambda: len(rig.verdicts) >= 1, 6)
        deadline = time.monotonic() + 9
        while time.monotonic() < deadline:
            assert rig.worker.blindness is None
            assert rig.worker.state is CameraState.LIVE
            time.sleep(0.05)
        camera.stop()
    assert len(rig.verdicts) in (3, 4)
    assert max(verdict.posted_age for verdict in rig.verdicts) < 0.3


def test_key_frames_that_cease_are_blindness_though_packets_come(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("camera_worker.camera._KEY_FRAME_PATIENCE_SECONDS", 2.0)
    with LoopThread() as loop:
        camera = CameraThread(loop, rig.scene, keyframe_interval=60.0)
        rig.run(rig.text("frames: keyframes").replace(rig.camera.url, camera.url))
        wait_for(lambda: rig.verdicts, 5)
        wait_for(lambda: rig.worker.blindness is Blindness.CAMERA, 5)
        assert rig.worker.state is CameraState.DEGRADED
        assert rig.worker.reason == "the camera sends no undamaged picture"
        camera.stop()


def test_one_camera_whose_pictures_take_long_leaves_the_others_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine cameras, eight of them stuck in preparing: more than a shared pool of threads would have."""
    prepare = Preparer.prepare
    names = [f"slow{number}" for number in range(8)]

    def slow(self: Preparer, frame: Frame, jpeg_quality: int) -> Prepared:
        if threading.current_thread().name.startswith("camera-slow"):
            time.sleep(1.0)
        return prepare(self, frame, jpeg_quality)

    monkeypatch.setattr(Preparer, "prepare", slow)
    rig.run(rig.whole(rig.camera_text(), *(rig.camera_text(name) for name in names)))
    wait_for(lambda: rig.worker.last, 8)
    time.sleep(1)
    rig.verdicts.clear()
    time.sleep(3)
    ages = [verdict.posted_age for verdict in rig.verdicts if verdict.camera == "outflow"]
    assert len(ages) > 15
    assert np.percentile(ages, 90) < 0.3


def test_a_frame_that_arrives_as_the_loop_closes_does_not_hurt_the_capture_thread(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse_config(rig.text(), name="test").cameras[0]
    wishes: list[Callable[[], None] | None] = []
    monkeypatch.setattr(LatestFrame, "call_on_next", lambda _, function: wishes.append(function))

    async def watch() -> None:
        async with VisionClient(rig.api.url) as client:
            camera = Camera(config, client)
            task = asyncio.create_task(camera.run())
            await asyncio.to_thread(wait_for, lambda: camera.counters.scored, 5)
            camera.stop()
            await task

    asyncio.run(watch())
    late = next(filter(None, wishes))
    late()
    assert wishes[-1] is None
