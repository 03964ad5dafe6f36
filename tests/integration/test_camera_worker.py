"""The worker against a real RTSP camera and a real HTTP server: verdicts, alarms, evidence, blindness."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import av
import cv2
import pytest

from almenara.alarms import AlarmRecord, AlarmStore, Change, Phase
from almenara.errors import ConfigurationError
from almenara.settings import Settings
from camera_worker import capture
from camera_worker.alarming import AlarmDesk
from camera_worker.camera import Camera, CameraState, Scored
from camera_worker.capture import CaptureState
from camera_worker.client import VisionClient
from camera_worker.config import parse_config
from camera_worker.simulator import Fault, FaultKind
from camera_worker.supervisor import EXIT_STUCK, Supervisor
from tests.support.camera import (
    CameraThread,
    LoopThread,
    Scene,
    ScoringApi,
    scoring_api,
    simulated_camera,
    wait_for,
)

pytestmark = pytest.mark.slow


class Rig:
    """Scene, camera, API and a worker in this process, with its alarm store."""

    def __init__(self, loop: LoopThread, scene: Scene, camera: CameraThread, api: ScoringApi, var: Path) -> None:
        self.loop, self.scene, self.camera, self.api, self.var = loop, scene, camera, api, var
        self.verdicts: list[Scored] = []

    def text(self, options: str = "", *, on_delay: str = "400ms") -> str:
        return f"""
api: {{url: "{self.api.url}", timeout: 1s}}
var_dir: {self.var}
cameras:
  - name: outflow
    source: {self.camera.url}
    model: wall
    fps: 10
    connect_timeout: 1s
    read_timeout: 1s
    alarm: {{threshold: 0.75, on_delay: {on_delay}, off_delay: 500ms, cooldown: 60s}}
    {options}
"""

    def launch(self, options: str = "", *, on_delay: str = "400ms", heartbeat: float = 15.0, second: str = "") -> None:
        text = self.text(options, on_delay=on_delay) + (f"\n  - {second}\n" if second else "")

        async def make() -> Supervisor:
            config = parse_config(text, name="test")
            return Supervisor(config, Settings(), report=self.verdicts.append, heartbeat=heartbeat)

        self.supervisor = self.loop.run(make())
        self.exit: Future[int] = asyncio.run_coroutine_threadsafe(self.supervisor.run(), self.loop.loop)

    def start(self, options: str = "", *, on_delay: str = "400ms", heartbeat: float = 15.0, second: str = "") -> None:
        self.launch(options, on_delay=on_delay, heartbeat=heartbeat, second=second)
        wait_for(lambda: self.supervisor.cameras, 5, "a worker")
        self.store = AlarmStore(f"sqlite:///{self.var / 'alarms' / 'worker.db'}")

    def stop(self) -> int:
        self.loop.loop.call_soon_threadsafe(self.supervisor.stop)
        self.store.close()
        return self.exit.result(5)

    @property
    def worker(self) -> Camera:
        return self.supervisor.cameras[0]

    def reaches(self, phase: Phase, seconds: float = 4.0) -> None:
        wait_for(lambda: self.store.phase("outflow") is phase, seconds, f"phase {phase}")

    def is_in(self, state: CameraState) -> Callable[[], bool]:
        return lambda: self.worker.state is state

    @property
    def alarms(self) -> list[AlarmRecord]:
        return self.store.alarms()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    scene = Scene()
    with LoopThread() as loop, simulated_camera(scene) as camera, scoring_api() as api:
        made = Rig(loop, scene, camera, api, tmp_path / "var")
        yield made
        with contextlib.suppress(AttributeError):
            if not made.exit.done():
                made.stop()


def test_an_anomaly_that_lasts_raises_one_alarm_with_its_evidence(rig: Rig) -> None:
    rig.start()
    rig.reaches(Phase.NORMAL)
    rig.scene.anomalous = True
    rig.reaches(Phase.UNACKNOWLEDGED)
    (alarm,) = rig.alarms
    assert (alarm.source, alarm.kind, alarm.score, alarm.model and alarm.model.version) == (
        "outflow",
        "vision",
        0.9,
        "3",
    )
    assert alarm.reason.startswith("anomaly at 35%, 25% of the picture")
    assert [Path(path).name for path in alarm.evidence] == ["frame.jpg", "overlay.png", "verdict.json"]
    frame = cv2.imread(alarm.evidence[0])
    assert frame is not None
    assert frame.shape == (240, 320, 3)
    assert frame[60, 100].tolist() == pytest.approx([0, 0, 254], abs=40)
    log = rig.var / "alarms" / "alarms.log"
    wait_for(log.exists, 2)
    wait_for(lambda: json.loads(log.read_text())["alarm"]["id"] == alarm.id, 2)
    rig.scene.anomalous = False
    rig.reaches(Phase.RETURNED_UNACKNOWLEDGED)
    assert rig.stop() == 0
    assert len(log.read_text().splitlines()) == 2


def test_a_flicker_shorter_than_the_delay_raises_nothing(rig: Rig) -> None:
    rig.start(on_delay="3s")
    rig.reaches(Phase.NORMAL)
    rig.scene.anomalous = True
    rig.reaches(Phase.PENDING)
    rig.scene.anomalous = False
    rig.reaches(Phase.NORMAL)
    assert rig.alarms == []


def test_an_overlay_is_asked_for_only_while_an_alarm_is_pending(rig: Rig) -> None:
    rig.start()
    rig.reaches(Phase.NORMAL)
    assert set(rig.api.requests) == {"none"}
    rig.scene.anomalous = True
    rig.reaches(Phase.UNACKNOWLEDGED)
    rig.api.requests.clear()
    wait_for(lambda: len(rig.api.requests) > 4, 3)
    assert set(rig.api.requests[2:]) == {"none"}


def test_without_a_delay_the_raising_picture_has_its_overlay_too(rig: Rig) -> None:
    rig.scene.anomalous = True
    rig.start(on_delay="0s")
    rig.reaches(Phase.UNACKNOWLEDGED)
    assert any("overlay" in path for path in rig.alarms[0].evidence)


def test_an_alarm_that_is_raised_again_has_a_new_overlay_and_a_quiet_one_asks_for_none(rig: Rig) -> None:
    rig.start()
    rig.scene.anomalous = True
    rig.reaches(Phase.UNACKNOWLEDGED)
    (first,) = rig.alarms
    rig.scene.anomalous = False
    rig.reaches(Phase.RETURNED_UNACKNOWLEDGED)
    rig.api.requests.clear()
    wait_for(lambda: len(rig.api.requests) > 4, 3)
    assert set(rig.api.requests) == {"none"}
    rig.scene.anomalous = True
    rig.reaches(Phase.UNACKNOWLEDGED)
    (again,) = rig.alarms
    assert again.id == first.id
    assert again.raised_at > first.raised_at
    assert again.evidence != first.evidence
    assert [Path(path).name for path in again.evidence] == ["frame.jpg", "overlay.png", "verdict.json"]


@pytest.mark.parametrize("returned", [False, True])
def test_an_alarm_raised_by_the_first_picture_after_blindness_has_its_overlay(rig: Rig, returned: bool) -> None:
    """Blindness pauses an on-delay; one that was over by then raises the alarm at the first verdict."""

    verdicts: list[Scored] = []

    async def watch(desk: AlarmDesk) -> Phase:
        config = parse_config(rig.text(on_delay="600ms"), name="test").cameras[0]
        async with VisionClient(rig.api.url) as client:
            camera = Camera(config, client, alarms=desk.sink(config), report=verdicts.append)
            camera.capture.start()

            async def sample_until(condition: Callable[[], bool]) -> None:
                for _ in range(60):
                    await asyncio.sleep(0.1)
                    await camera.sample()
                    if condition():
                        return
                raise AssertionError("the condition did not come")

            def reached(phase: Phase) -> Callable[[], bool]:
                return lambda: desk.store.phase("outflow") is phase

            await sample_until(reached(Phase.NORMAL))
            if returned:
                rig.scene.anomalous = True
                await sample_until(reached(Phase.UNACKNOWLEDGED))
                rig.scene.anomalous = False
                await sample_until(reached(Phase.RETURNED_UNACKNOWLEDGED))
            rig.scene.anomalous = True
            await sample_until(lambda: verdicts[-1].verdict.anomaly > 0.75)
            await asyncio.sleep(0.7)
            rig.api.mode = "503"
            await camera.sample()
            blind = desk.store.phase("outflow")
            rig.api.mode = "ok"
            await asyncio.sleep(0.15)
            await camera.sample()
            camera.capture.stop()
            return blind

    with AlarmDesk(rig.var) as desk:
        assert rig.loop.run(watch(desk)) is Phase.UNKNOWN
        assert desk.store.phase("outflow") is Phase.UNACKNOWLEDGED
        (alarm,) = desk.store.alarms()
    assert any("overlay" in path for path in alarm.evidence)


def test_odd_pictures_are_counted_and_end_neither_their_camera_nor_another(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """FFmpeg cannot convert the odd pictures' format, which is a real one."""

    def read_odd(*_: object, wait: Callable[[float], None], **__: object) -> Iterator[av.VideoFrame]:
        good = Scene()(0.0)
        for odd in (False, True, True, False):
            yield av.VideoFrame(64, 48, "y210be") if odd else av.VideoFrame.from_ndarray(good, format="rgb24")
            wait(1.2)

    monkeypatch.setattr(capture, "read_file", read_odd)
    video = rig.var.parent / "odd.mp4"
    video.touch()
    with caplog.at_level(logging.WARNING):
        rig.start(second=f"{{name: odd, source: {video}, model: wall, fps: 10, read_timeout: 5s}}")
        odd = rig.supervisor.cameras[1]
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
    wait_for(lambda: rig.worker.capture.counters.connections == 2, 3)
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
    assert rig.store.phase("outflow") is Phase.UNKNOWN
    assert rig.alarms == []
    assert {verdict.verdict.label for verdict in rig.verdicts} == {"normal"}


def test_a_stream_of_damaged_pictures_alone_means_unknown(rig: Rig) -> None:
    rig.start()
    rig.reaches(Phase.NORMAL)
    rig.camera.switch("corrupt=1")
    rig.reaches(Phase.UNKNOWN)
    assert rig.worker.capture.state is CaptureState.LIVE
    assert rig.worker.capture.counters.damaged > 0
    rig.camera.switch("none")
    rig.reaches(Phase.NORMAL)


def test_an_old_picture_is_never_scored(rig: Rig) -> None:
    async def sample_late() -> int:
        config = parse_config(rig.text(), name="test").cameras[0]
        async with VisionClient(rig.api.url) as client:
            camera = Camera(config, client)
            camera.capture.start()
            await asyncio.to_thread(wait_for, lambda: camera.capture.counters.frames, 3)
            rig.camera.camera.switch(Fault(FaultKind.STALL))
            await asyncio.sleep(1.4)
            await camera.sample()
            camera.capture.stop()
            return camera.counters.scored

    assert rig.loop.run(sample_late()) == 0
    assert rig.api.requests == []


def test_a_slow_model_gets_the_newest_picture_and_one_request_at_a_time(rig: Rig) -> None:
    rig.api.delay = 0.4
    rig.start()
    wait_for(lambda: len(rig.verdicts) >= 5, 6)
    assert rig.api.most_in_flight == 1
    assert max(verdict.age for verdict in rig.verdicts) < 0.4 + 0.6


def test_evidence_that_cannot_be_written_does_not_hold_the_alarm_back(rig: Rig) -> None:
    rig.var.mkdir()
    (rig.var / "evidence").write_text("in the way")
    rig.scene.anomalous = True
    rig.start()
    rig.reaches(Phase.UNACKNOWLEDGED)
    (alarm,) = rig.alarms
    assert alarm.evidence == ()
    assert "could not be saved" in alarm.note


def test_capture_threads_that_hang_are_replaced_and_after_three_the_worker_ends(rig: Rig) -> None:
    rig.camera.switch("slow")
    rig.start(heartbeat=0.3)
    assert rig.exit.result(8) == EXIT_STUCK
    assert rig.worker.counters.abandoned_threads == 2


def test_an_alarm_database_that_cannot_be_opened_is_told(rig: Rig) -> None:
    (rig.var / "alarms" / "worker.db").mkdir(parents=True)
    rig.launch()
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        rig.exit.result(3)
