"""Blindness that lasts is an alarm, and a state that people are told; through a real camera, API and alarm store."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from almenara.alarms import AlarmRecord, Change
from camera_worker.alarming import AlarmDesk
from camera_worker.camera import Blindness, CameraState
from camera_worker.picture import Preparer
from tests.support.camera import wait_for
from tests.support.worker import Rig, worker_rig

pytestmark = pytest.mark.slow


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with worker_rig(tmp_path) as made:
        yield made


def start(rig: Rig, options: str = "", *, head: str = "blind_after: 1500ms") -> None:
    """Two cameras that are scored."""
    second = rig.camera_text("inlet", "frozen_after: off")
    rig.run(rig.whole(rig.camera_text(options=options), second, head=head))
    wait_for(lambda: all(camera.last for camera in rig.supervisor.cameras.values()), 5)


def standing(rig: Rig) -> dict[str, AlarmRecord]:
    return {alarm.source: alarm for alarm in rig.alarms if alarm.cleared_at is None}


def test_an_api_that_stays_away_is_one_alarm_that_names_the_cameras(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    start(rig)
    rig.api.stop()
    away = time.monotonic()
    wait_for(lambda: standing(rig), 6, "an alarm")
    assert time.monotonic() - away > 1.5
    assert set(standing(rig)) == {"detection"}
    alarm = standing(rig)["detection"]
    assert (alarm.kind, alarm.priority) == ("system", "critical")
    assert "outflow" in alarm.reason
    assert "inlet" in alarm.reason
    assert rig.supervisor.sight.detection_blind
    assert rig.supervisor.breaker_open
    rig.api.start()
    back = [camera.counters.scored for camera in rig.supervisor.cameras.values()]
    resumed = wait_for(
        lambda: all(
            camera.counters.scored > n for camera, n in zip(rig.supervisor.cameras.values(), back, strict=True)
        ),
        3,
    )
    assert resumed < 2
    wait_for(lambda: not standing(rig), 3, "the end of the alarm")
    assert not rig.supervisor.sight.detection_blind
    assert "detection is blind: no verdict on the pictures of outflow, inlet" in caplog.text


@pytest.mark.parametrize("mode", ["404", "nan"])
def test_an_api_that_gives_no_verdict_is_the_same_alarm_and_told_once(
    rig: Rig, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    start(rig)
    rig.api.mode = mode
    wait_for(lambda: "detection" in standing(rig), 6, "an alarm")
    camera = rig.worker
    assert camera.blindness is (Blindness.REFUSED if mode == "404" else Blindness.VERDICT)
    assert camera.counters.refused + camera.counters.malformed > 5
    assert camera.counters.api_failures == 0
    assert caplog.text.count("outflow: nothing can be scored") == 1
    assert camera.state is CameraState.LIVE


def test_a_camera_that_stays_away_has_its_own_alarm_of_its_own_priority(rig: Rig) -> None:
    start(rig)
    rig.camera.switch("refuse")
    wait_for(lambda: set(standing(rig)) == {"outflow/sight", "inlet/sight"}, 8, "two alarms")
    alarm = standing(rig)["outflow/sight"]
    assert (alarm.kind, alarm.priority) == ("system", "high")
    assert "the camera is offline" in alarm.reason
    assert not rig.supervisor.sight.detection_blind
    rig.camera.switch("none")
    wait_for(lambda: not standing(rig), 6, "the end of the alarms")


def test_black_pictures_are_blindness_of_the_camera(rig: Rig) -> None:
    start(rig)
    rig.camera.switch("black")
    wait_for(lambda: "outflow/sight" in standing(rig), 6, "an alarm")
    assert standing(rig)["outflow/sight"].reason.startswith("the picture is black")


def test_blindness_shorter_than_the_delay_is_no_alarm(rig: Rig) -> None:
    start(rig, head="blind_after: 4s")
    rig.api.mode = "503"
    wait_for(lambda: rig.worker.blindness is Blindness.REFUSED, 3)
    time.sleep(1.5)
    rig.api.mode = "ok"
    wait_for(lambda: rig.worker.blindness is None, 3)
    time.sleep(2.5)
    assert [each.change for each in rig.store.transitions() if each.source.endswith("sight")].count(Change.RAISED) == 0
    assert rig.alarms == []


def test_without_alarms_blindness_is_still_logged(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.launch(rig.text(head="blind_after: 1s\nalerts: false"))
    wait_for(lambda: rig.supervisor.cameras and rig.worker.last, 5)
    rig.api.stop()
    wait_for(lambda: "detection is blind" in caplog.text, 5)
    wait_for(lambda: rig.supervisor.sight.untold == (), 2)
    rig.loop.loop.call_soon_threadsafe(rig.supervisor.stop)
    assert rig.exit.result(5) == 0


def test_a_store_that_fails_is_told_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start(rig)
    wait_for(lambda: rig.supervisor.sight.untold == (), 3)
    taken = AlarmDesk.system

    def failing(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(AlarmDesk, "system", failing)
    rig.api.stop()
    wait_for(lambda: "detection: the alarm store failed" in caplog.text, 6)
    assert standing(rig) == {}
    assert caplog.text.count("detection is blind") == 1
    monkeypatch.setattr(AlarmDesk, "system", taken)
    wait_for(lambda: "detection" in standing(rig), 4)


def test_a_turn_that_hangs_is_blindness_too(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes back from preparing a picture: the camera cannot notice by itself, its watch does."""
    monkeypatch.setattr("camera_worker.camera._STUCK_SECONDS", 1.0)
    start(rig)
    prepare = Preparer.prepare

    def hang(self: Preparer, frame: object, jpeg_quality: int) -> object:
        time.sleep(4)
        return prepare(self, frame, jpeg_quality)  # type: ignore[arg-type]

    monkeypatch.setattr(Preparer, "prepare", hang)
    wait_for(lambda: "outflow/sight" in standing(rig), 6, "an alarm")
    assert standing(rig)["outflow/sight"].reason == "its pictures are not processed"
    monkeypatch.undo()
    wait_for(lambda: rig.worker.blindness is None, 6)


def test_an_api_that_does_not_answer_is_blindness_of_detection_before_its_time_is_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("camera_worker.camera._STUCK_SECONDS", 1.0)
    text = rig.text(head="blind_after: 1s").replace("timeout: 1s}\nvar", "timeout: 15s}\nvar")
    rig.run(text)
    wait_for(lambda: rig.worker.last, 5)
    rig.api.mode = "hang"
    wait_for(lambda: "detection" in standing(rig), 6, "an alarm")
    assert "the API does not answer" in standing(rig)["detection"].reason


def test_a_camera_with_many_damaged_pictures_is_degraded(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        start(rig)
        rig.camera.switch("corrupt=0.05")
        wait_for(lambda: "of its pictures are damaged" in rig.worker.reason, 15, "damage")
        assert rig.worker.state is CameraState.DEGRADED
        wait_for(lambda: "outflow (rtsp://" in caplog.text and "is degraded: " in caplog.text, 1)
        scored = rig.worker.counters.scored
        wait_for(lambda: rig.worker.counters.scored > scored, 6)
        rig.camera.switch("none")
        wait_for(rig.is_in(CameraState.LIVE), 15)
