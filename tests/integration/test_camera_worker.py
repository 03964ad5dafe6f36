"""The worker against a real RTSP camera and a real HTTP server: verdicts, alarms and their evidence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import httpx
import pytest

from almenara.alarms import AlarmStore, Phase
from almenara.errors import ConfigurationError
from tests.support.camera import wait_for
from tests.support.worker import Rig, worker_rig

pytestmark = pytest.mark.slow


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with worker_rig(tmp_path) as made:
        yield made


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
    assert [file.name for file in alarm.evidence] == ["frame.jpg", "overlay.png", "strip.jpg", "verdict.json"]
    frame = cv2.imread(alarm.evidence[0].uri)
    assert frame is not None
    assert frame.shape == (240, 320, 3)
    assert frame[60, 100].tolist() == pytest.approx([0, 0, 254], abs=40)
    wait_for(lambda: [message["alarm"]["id"] for message in rig.told] == [alarm.id], 2, "the message")
    rig.scene.anomalous = False
    rig.reaches(Phase.RETURNED_UNACKNOWLEDGED)
    assert rig.stop() == 0
    assert [message["event"] for message in rig.told] == ["raised"]  # the return is told when the cooldown is over


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
    assert any("overlay" in file.name for file in rig.alarms[0].evidence)


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
    assert [file.name for file in again.evidence] == ["frame.jpg", "overlay.png", "strip.jpg", "verdict.json"]


@pytest.mark.parametrize("returned", [False, True])
def test_an_alarm_raised_by_the_first_picture_after_blindness_has_its_overlay(rig: Rig, returned: bool) -> None:
    """Blindness pauses an on-delay; one that was over by then raises the alarm at the first verdict."""
    rig.start(on_delay="1s")
    rig.reaches(Phase.NORMAL)
    if returned:
        rig.scene.anomalous = True
        rig.reaches(Phase.UNACKNOWLEDGED)
        rig.scene.anomalous = False
        rig.reaches(Phase.RETURNED_UNACKNOWLEDGED)
    rig.scene.anomalous = True
    wait_for(lambda: rig.verdicts[-1].verdict.anomaly > 0.75, 3)
    rig.api.mode = "503"
    rig.reaches(Phase.UNKNOWN)
    rig.api.mode = "ok"
    rig.reaches(Phase.UNACKNOWLEDGED)
    (alarm,) = rig.alarms
    assert any("overlay" in file.name for file in alarm.evidence)


def test_evidence_that_cannot_be_written_does_not_hold_the_alarm_back(rig: Rig) -> None:
    rig.var.mkdir()
    (rig.var / "evidence").write_text("in the way")
    rig.scene.anomalous = True
    rig.start()
    rig.reaches(Phase.UNACKNOWLEDGED)
    (alarm,) = rig.alarms
    assert alarm.evidence == ()
    assert alarm.note == "no picture: not a directory"


def test_an_alarm_database_that_cannot_be_opened_is_told(rig: Rig) -> None:
    (rig.var / "alarms" / "worker.db").mkdir(parents=True)
    rig.launch(rig.text())
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        rig.exit.result(3)


def test_a_store_that_fails_is_counted_and_the_next_observation_tries_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig.start()
    rig.reaches(Phase.NORMAL)

    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr(AlarmStore, "observe", fail)
        wait_for(lambda: rig.worker.counters.store_failures > 2, 3)
        scored = rig.worker.counters.scored
        wait_for(lambda: rig.worker.counters.scored > scored, 3)
    assert "outflow: the alarm store failed" in caplog.text
    rig.scene.anomalous = True
    rig.reaches(Phase.UNACKNOWLEDGED)


def test_the_worker_tells_how_it_is_where_its_configuration_says(rig: Rig) -> None:
    rig.run(rig.text(head="status: {port: 0}"))
    status = rig.supervisor.status
    assert status is not None
    wait_for(lambda: rig.worker.last, 5)
    assert httpx.get(f"{status.address}/readyz").status_code == 200
    (camera,) = httpx.get(f"{status.address}/cameras").json()
    assert (camera["name"], camera["state"]) == ("outflow", "live")
    address = status.address
    assert rig.stop() == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/healthz")


def test_a_status_server_that_cannot_listen_is_told(rig: Rig) -> None:
    rig.launch(rig.text(head=f"status: {{port: {rig.api.port}}}"))
    with pytest.raises(ConfigurationError, match="cannot listen"):
        rig.exit.result(5)
