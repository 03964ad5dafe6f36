"""A worker whose camera, pictures, API or threads fail: counted, told as unknown, and over as soon as they are back."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from almenara.alarms import Change, Phase
from camera_worker import playback
from camera_worker.camera import CameraState
from camera_worker.capture import CaptureState
from camera_worker.sources import ReadOptions
from camera_worker.supervisor import EXIT_STUCK
from tests.support.camera import Scene, wait_for
from tests.support.worker import Rig, worker_rig

pytestmark = pytest.mark.slow


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with worker_rig(tmp_path) as made:
        yield made


def test_odd_pictures_are_counted_and_end_neither_their_camera_nor_another(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """FFmpeg cannot convert the odd pictures' format, which is a real one."""

    def read_odd(*_: object) -> Iterator[tuple[float, av.VideoFrame]]:
        good = Scene()(0.0)
        for index, odd in enumerate((False, True, True, False)):
            picture = av.VideoFrame(64, 48, "y210be") if odd else av.VideoFrame.from_ndarray(good, format="rgb24")
            yield index / 10, picture

    monkeypatch.setattr(playback, "read_file", read_odd)
    video = rig.var.parent / "odd.mp4"
    video.touch()
    with caplog.at_level(logging.WARNING):
        rig.start(second=f"{{name: odd, source: {video}, model: wall}}")
        odd = rig.supervisor.cameras["odd"]
        wait_for(lambda: odd.state is CameraState.ENDED, 8)
        wait_for(lambda: odd.counters.scored == 2, 2)
        assert odd.counters.unscorable == 2
        assert [each.change for each in rig.store.transitions("odd")].count(Change.LOST) == 1
        scored = rig.worker.counters.scored
        wait_for(lambda: rig.worker.counters.scored > scored, 2)
    assert "the frame could not be processed" in caplog.text
    assert caplog.text.count("Traceback") == 1
    assert rig.stop() == 0


@pytest.mark.parametrize("fault", ["stall", "reset", "refuse"])
def test_a_camera_that_dies_leaves_its_alarm_unknown_and_comes_back(rig: Rig, fault: str) -> None:
    rig.start()
    rig.scene.anomalous = True
    rig.reaches(Phase.UNACKNOWLEDGED)
    rig.camera.switch(fault)
    if fault != "reset":
        rig.reaches(Phase.UNKNOWN)
        assert rig.alarms[0].cleared_at is None
    rig.camera.switch("none")
    wait_for(lambda: rig.worker.capture.meter.counters.connections == 2, 3)
    wait_for(rig.is_in(CameraState.LIVE), 3)
    rig.reaches(Phase.UNACKNOWLEDGED)
    assert len(rig.alarms) == 1


def test_black_pictures_are_not_scored_and_mean_unknown(rig: Rig) -> None:
    rig.start()
    rig.reaches(Phase.NORMAL)
    rig.camera.switch("black")
    wait_for(rig.is_in(CameraState.BLACK), 2)
    rig.reaches(Phase.UNKNOWN)
    asked = len(rig.api.requests)
    wait_for(lambda: rig.worker.counters.unscorable > 8, 3)
    assert len(rig.api.requests) == asked
    rig.camera.switch("none")
    rig.reaches(Phase.NORMAL)
    wait_for(rig.is_in(CameraState.LIVE), 2)


def test_a_frozen_picture_is_noticed_and_means_unknown(rig: Rig) -> None:
    rig.start("frozen_after: 1500ms")
    rig.reaches(Phase.NORMAL)
    rig.camera.switch("freeze")
    wait_for(rig.is_in(CameraState.FROZEN), 4)
    rig.reaches(Phase.UNKNOWN)
    rig.camera.switch("none")
    rig.reaches(Phase.NORMAL)


def test_an_api_that_goes_away_means_unknown_and_is_found_again(rig: Rig) -> None:
    rig.start()
    rig.scene.anomalous = True
    rig.reaches(Phase.UNACKNOWLEDGED)
    rig.api.stop()
    rig.reaches(Phase.UNKNOWN)
    assert rig.worker.counters.api_failures > 0
    rig.api.start()
    rig.reaches(Phase.UNACKNOWLEDGED, 2.5)
    assert len(rig.alarms) == 1


@pytest.mark.parametrize("mode", ["nan", "garbage", "partial"])
def test_what_is_no_verdict_is_counted_and_never_a_decision(rig: Rig, mode: str) -> None:
    rig.start()
    rig.reaches(Phase.NORMAL)
    rig.api.mode = mode
    rig.scene.anomalous = True
    wait_for(lambda: rig.worker.counters.malformed > 8, 4)
    rig.reaches(Phase.UNKNOWN)
    assert rig.alarms == []
    assert {verdict.verdict.label for verdict in rig.verdicts} == {"normal"}


def test_a_stream_of_damaged_pictures_alone_means_unknown(rig: Rig) -> None:
    rig.start()
    rig.reaches(Phase.NORMAL)
    rig.camera.switch("corrupt=1")
    rig.reaches(Phase.UNKNOWN)
    assert rig.worker.capture.state is CaptureState.LIVE
    assert rig.worker.capture.meter.counters.damaged > 0
    rig.camera.switch("none")
    rig.reaches(Phase.NORMAL)


def test_an_old_picture_is_never_scored(rig: Rig) -> None:
    """The stream stalls between two turns: what came before is old at the second, which is before the read timeout."""
    rig.run(rig.text().replace("fps: 10", "fps: 0.5").replace("read_timeout: 1s", "read_timeout: 3s"))
    wait_for(lambda: rig.verdicts, 5)
    time.sleep(0.5)
    rig.camera.switch("stall")
    wait_for(rig.is_in(CameraState.OFFLINE), 5)
    assert len(rig.verdicts) == len(rig.api.requests) == 1


def test_a_slow_model_gets_the_newest_picture_and_one_request_at_a_time(rig: Rig) -> None:
    rig.api.delay = 0.4
    rig.start()
    wait_for(lambda: len(rig.verdicts) >= 5, 6)
    assert rig.api.most_in_flight == 1
    assert max(verdict.age for verdict in rig.verdicts) < 0.4 + 0.6


def test_capture_threads_that_hang_are_replaced_and_after_three_the_worker_ends(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReadOptions, "stuck_after", 0.3)
    rig.camera.switch("slow")
    rig.start()
    assert rig.exit.result(8) == EXIT_STUCK
    assert rig.worker.counters.abandoned_threads == 2
