"""A worker whose configuration is read again: what changed is replaced, all else goes on."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from almenara.alarms import Phase
from almenara.contracts import Observation
from almenara.errors import InputError
from almenara.settings import Settings
from camera_worker.alarming import CameraAlarms
from camera_worker.camera import Camera, CameraState, Scored
from camera_worker.config import WorkerConfig, load_config, parse_config
from camera_worker.sight import Sight
from camera_worker.supervisor import Supervisor
from tests.support.camera import wait_for, write_video
from tests.support.worker import Rig, worker_rig

pytestmark = pytest.mark.slow


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with worker_rig(tmp_path) as made:
        yield made


class File:
    """A configuration file that is written again, and how often it was read."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.path, self.reads = rig, rig.var.parent / "cameras.yaml", 0

    def write(self, *cameras: str, head: str = "") -> str:
        text = self.rig.whole(*cameras, head=head)
        self.path.write_text(text)
        return text

    def load(self) -> WorkerConfig:
        self.reads += 1
        return load_config(self.path)

    def reload(self, log: pytest.LogCaptureFixture) -> None:
        """Until the worker has said what came of it."""
        log.clear()
        with log.at_level(logging.INFO):
            self.rig.reload()
            wait_for(lambda: "onfiguration" in log.text, 5, "a reload")


def live(rig: Rig, name: str) -> Callable[[], bool]:
    """Whether the camera is scored."""
    return lambda: name in rig.supervisor.cameras and rig.supervisor.cameras[name].counters.scored > 0


def test_only_cameras_that_changed_are_touched(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    file = File(rig)
    a, b, c = (rig.camera_text(name) for name in "abc")
    rig.run(file.write(a, b), load=file.load)
    wait_for(lambda: live(rig, "a")() and live(rig, "b")(), 5)
    before = dict(rig.supervisor.cameras)
    file.write(a, rig.camera_text("b", "frozen_after: 20s"), c)
    file.reload(caplog)
    wait_for(lambda: live(rig, "b")() and live(rig, "c")(), 5)
    after = rig.supervisor.cameras
    assert "changed: b; new: c" in caplog.text
    assert list(after) == ["a", "b", "c"]
    assert after["a"] is before["a"]
    assert after["a"].capture.meter.counters.connections == 1
    assert after["b"] is not before["b"]
    wait_for(lambda: not before["b"].capture.alive, 2, "the end of the old thread")
    file.write(c)
    file.reload(caplog)
    assert list(rig.supervisor.cameras) == ["c"]
    wait_for(lambda: not before["a"].capture.alive, 2, "the end of the removed camera")
    assert rig.stop() == 0


def test_the_alarm_of_a_removed_camera_is_unknown_though_the_store_fails_at_first(
    rig: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = File(rig)
    rig.scene.anomalous = True
    rig.run(file.write(rig.camera_text(), rig.camera_text("b")), load=file.load)
    rig.reaches(Phase.UNACKNOWLEDGED)
    observe = CameraAlarms.observe
    failed: list[Observation] = []

    def fail_once(self: CameraAlarms, observation: Observation, now: float, scored: Scored | None) -> Phase:
        if observation.source == "outflow" and not failed:
            failed.append(observation)
            raise OSError("no space left")
        return observe(self, observation, now, scored)

    file.write(rig.camera_text("b"))
    monkeypatch.setattr(rig.supervisor.cameras["outflow"]._scoring, "_alarms", None)
    monkeypatch.setattr(CameraAlarms, "observe", fail_once)
    file.reload(caplog)
    rig.reaches(Phase.UNKNOWN)
    assert [each.reason for each in failed] == ["the camera is not watched any more"]
    assert "outflow: the alarm store failed" in caplog.text
    (alarm,) = (alarm for alarm in rig.alarms if alarm.source == "outflow")
    assert alarm.cleared_at is None
    assert rig.stop() == 0


@pytest.mark.parametrize("blind", ["api", "camera"])
def test_a_standing_alarm_of_blindness_outlasts_a_reload_of_the_only_camera(
    rig: Rig, blind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = File(rig)
    monkeypatch.setattr("camera_worker.supervisor._WATCH_SECONDS", 0.05)
    end = Supervisor._end

    async def take_time(self: Supervisor, cameras: Collection[Camera], tasks: Collection[asyncio.Task[None]]) -> None:
        await end(self, cameras, tasks)
        await asyncio.sleep(0.3)

    monkeypatch.setattr(Supervisor, "_end", take_time)
    rig.run(file.write(rig.camera_text(), head="blind_after: 500ms"), load=file.load)
    wait_for(lambda: rig.worker.last, 5)
    if blind == "api":
        rig.api.mode = "503"
    else:
        rig.camera.switch("refuse")
    source = "detection" if blind == "api" else "outflow/sight"
    wait_for(lambda: rig.store.phase(source) is Phase.UNACKNOWLEDGED, 8)
    file.write(rig.camera_text(options="frozen_after: 20s"), head="blind_after: 500ms")
    file.reload(caplog)
    assert "changed: outflow" in caplog.text
    time.sleep(0.5)
    assert rig.store.phase(source) is Phase.UNACKNOWLEDGED
    assert f"{source} is back" not in caplog.text


def test_an_invalid_file_changes_nothing_and_is_told_with_its_line(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    file = File(rig)
    rig.run(file.write(rig.camera_text("a")), load=file.load)
    wait_for(live(rig, "a"), 5)
    before = rig.supervisor.cameras["a"]
    file.write(rig.camera_text("b", "fpps: 3"))
    file.reload(caplog)
    assert "The configuration is left as it was" in caplog.text
    assert "cameras.yaml, line 15" in caplog.text
    assert rig.supervisor.cameras == {"a": before}
    file.write(rig.camera_text("a"), f"  - {{name: gone, source: {rig.var}/gone.mp4}}")
    file.reload(caplog)
    assert "There is no video file" in caplog.text
    assert rig.supervisor.cameras == {"a": before}
    scored = before.counters.scored
    wait_for(lambda: before.counters.scored > scored, 2)
    file.write(rig.camera_text("a"), rig.camera_text("b"))
    file.reload(caplog)
    wait_for(live(rig, "b"), 5)


def test_a_reload_that_fails_in_an_unforeseen_way_changes_nothing(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    def load() -> WorkerConfig:
        raise RuntimeError("as the test wants it")

    rig.run(rig.text(), load=load)
    file = File(rig)
    file.reload(caplog)
    assert "since reading it failed" in caplog.text
    wait_for(live(rig, "outflow"), 5)


def test_reloads_during_start_and_twice_quickly_are_safe(rig: Rig) -> None:
    file = File(rig)
    rig.launch(file.write(rig.camera_text("a")), load=file.load)
    file.write(rig.camera_text("a"), rig.camera_text("b"))
    for _ in range(5):
        rig.reload()
    wait_for(lambda: file.reads and list(rig.supervisor.cameras) == ["a", "b"], 5)
    file.write(rig.camera_text("b"))
    rig.reload()
    rig.reload()
    wait_for(lambda: list(rig.supervisor.cameras) == ["b"], 5)
    wait_for(live(rig, "b"), 5)
    rig.loop.loop.call_soon_threadsafe(rig.supervisor.stop)
    assert rig.exit.result(5) == 0


def test_settings_of_the_worker_apply_at_once_or_are_named(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    file = File(rig)
    rig.run(file.write(rig.camera_text("a")), load=file.load)
    file.write(rig.camera_text("a"), head="blind_after: 5s\nalerts: false")
    file.reload(caplog)
    wait_for(lambda: rig.supervisor.sight.blind_after == 5, 2)
    wait_for(lambda: "A change of alerts holds from the next start" in caplog.text, 2)
    file.reload(caplog)
    wait_for(lambda: "A change of alerts holds from the next start" in caplog.text, 2)


def test_a_worker_goes_on_after_a_reload_that_replaces_files(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """The worker ends with its last file, and a file that has ended and is left as it is does not play again."""
    video = write_video(rig.var.parent / "a.mp4", frames=10)
    first = f"  - {{name: first, source: {video}, model: wall}}"
    slow = f"  - {{name: slow, source: {video}, model: wall, realtime: true"
    file = File(rig)
    rig.run(file.write(first, rig.camera_text("live")), load=file.load)
    wait_for(lambda: rig.supervisor.cameras["first"].state is CameraState.ENDED, 5)
    file.write(first, slow + ", fps: 5}")
    file.reload(caplog)
    assert not rig.exit.done()
    assert rig.exit.result(8) == 0
    assert rig.supervisor.cameras["first"].counters.scored == 10
    assert rig.supervisor.cameras["slow"].counters.scored in range(3, 8)


def test_a_mistake_is_a_sentence_and_no_traceback(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    def load() -> WorkerConfig:
        raise InputError("config-invalid", "cameras.yaml, line 3: unknown.", "See there.")

    rig.run(rig.text(), load=load)
    File(rig).reload(caplog)
    assert "Traceback" not in caplog.text


def test_without_a_file_there_is_nothing_to_read_again(rig: Rig) -> None:
    rig.run(rig.text())
    before = rig.worker
    rig.reload()
    wait_for(live(rig, "outflow"), 5)
    assert rig.worker is before


def test_signals_reload_and_end_a_worker(rig: Rig) -> None:
    """In the main thread, where signals arrive."""
    file = File(rig)
    config = parse_config(file.write(rig.camera_text("a")), name="test")

    async def work() -> tuple[int, list[str]]:
        supervisor = Supervisor(config, Settings(), load=file.load)
        running = asyncio.create_task(supervisor.run())
        await asyncio.to_thread(wait_for, lambda: supervisor.cameras, 5)
        file.write(rig.camera_text("a"), rig.camera_text("b"))
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.to_thread(wait_for, lambda: "b" in supervisor.cameras, 5)
        os.kill(os.getpid(), signal.SIGTERM)
        return await running, list(supervisor.cameras)

    assert asyncio.run(work()) == (0, ["a", "b"])
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_an_error_of_the_supervisor_itself_ends_the_worker(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would notice blindness if the watch over it were gone."""

    def fail(*_: object) -> None:
        raise RuntimeError("as the test wants it")

    monkeypatch.setattr(Sight, "step", fail)
    rig.run(rig.text())
    with pytest.raises(RuntimeError, match="as the test wants it"):
        rig.exit.result(5)
