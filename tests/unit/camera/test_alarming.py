"""The alarm desk: what it tells, alarms of the platform itself, strips, and how it ends."""

from __future__ import annotations

import logging
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from almenara.alarms import Phase
from almenara.contracts import ModelRef, Observation, VisionVerdict
from almenara.errors import ConfigurationError
from camera_worker.alarming import AlarmDesk, CameraAlarms
from camera_worker.config import CameraConfig
from camera_worker.history import Moment
from camera_worker.quality import Condition
from camera_worker.states import Scored
from tests.support.camera import wait_for

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
PICTURE = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
VERDICT = VisionVerdict(
    model=ModelRef(name="wall", version="3"), label="anomaly", score=9, anomaly=0.9, p_value=0.01, threshold=5
)
CAMERA = {"name": "outflow", "source": "rtsp://cam/1", "alarm": {"on_delay": "0s", "cooldown": "0s"}}


def open_files(folder: Path) -> list[str]:
    """Files under `folder` that this process holds open."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(descriptor.readlink()))
        except OSError:  # the one that lists the folder
            continue
    return [link for link in links if link.startswith(str(folder))]


def sink(desk: AlarmDesk, *, after: str = "300ms") -> CameraAlarms:
    return desk.sink(CameraConfig.model_validate({**CAMERA, "evidence": {"before": "5s", "after": after}}))


def see(alarms: CameraAlarms, at: float, anomaly: float | None, *, jpeg: bytes = PICTURE, reason: str = "") -> Phase:
    """One picture at `at` seconds as the camera's turn hands it on."""
    alarms.history.add(Moment(at, NOON, jpeg, Condition.GOOD, anomaly))
    seen = Observation(source="outflow", kind="vision", anomaly=anomaly, reason=reason, observed_at=NOON)
    scored = Scored("outflow", NOON, jpeg, VERDICT, 0.1, 0.05) if anomaly is not None else None
    return alarms.observe(seen, at, scored)


def columns(desk: AlarmDesk) -> int:
    """Pictures side by side in the strip that the one alarm shows now."""
    (alarm,) = desk.store.alarms()
    image = cv2.imread(alarm.evidence[1].uri)
    assert image is not None
    return int(image.shape[1]) // 488


def test_an_alarm_goes_out_at_once_with_the_seconds_before_and_the_strip_is_finished_later(tmp_path: Path) -> None:
    with AlarmDesk(tmp_path) as desk:
        alarms = sink(desk)
        see(alarms, 1, 0.1)
        assert see(alarms, 2, 0.9) is Phase.UNACKNOWLEDGED
        (alarm,) = desk.store.alarms()
        assert [file.name for file in alarm.evidence] == ["frame.jpg", "strip.jpg", "verdict.json"]
        assert columns(desk) == 2
        see(alarms, 2.25, 0.9)
        see(alarms, 2.5, 0.9)
        wait_for(lambda: columns(desk) == 3, 2, "the whole strip")


def test_a_desk_that_ends_finishes_its_strips(tmp_path: Path) -> None:
    with AlarmDesk(tmp_path) as desk:
        alarms = sink(desk, after="5s")
        see(alarms, 1, 0.9)
        see(alarms, 2, 0.9)
        assert columns(desk) == 1
    with AlarmDesk(tmp_path) as desk:
        assert columns(desk) == 2


def test_without_seconds_after_the_strip_is_finished_at_once(tmp_path: Path) -> None:
    with AlarmDesk(tmp_path) as desk:
        alarms = sink(desk, after="0s")
        see(alarms, 1, 0.9)
        see(alarms, 2, 0.9)
        assert columns(desk) == 1
    with AlarmDesk(tmp_path) as desk:
        assert columns(desk) == 1


def test_a_picture_that_makes_no_strip_still_is_evidence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with AlarmDesk(tmp_path) as desk:
        see(sink(desk), 1, 0.9, jpeg=b"no picture")
        (alarm,) = desk.store.alarms()
    assert [file.name for file in alarm.evidence] == ["frame.jpg", "verdict.json"]
    assert "could not be drawn" in caplog.text


def test_evidence_that_cannot_be_written_does_not_hold_the_alarm_back(tmp_path: Path) -> None:
    (tmp_path / "evidence").write_text("in the way")
    with AlarmDesk(tmp_path) as desk:
        assert see(sink(desk), 1, 0.9) is Phase.UNACKNOWLEDGED
        (alarm,) = desk.store.alarms()
    assert alarm.evidence == ()
    assert alarm.note == "no picture: not a directory"


def test_what_is_observed_holds_no_credentials(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), AlarmDesk(tmp_path) as desk:
        see(sink(desk), 1, 0.9, reason="rtsp://plant.op:hunter2@cam/1 looks odd")
        desk.system("detection", True, "http://op:hunter2@api is away", 1.0)
        assert sorted(alarm.reason for alarm in desk.store.alarms()) == [
            "http://***@api is away",
            "rtsp://***@cam/1 looks odd",
        ]
    assert "hunter2" not in caplog.text
    assert "hunter2" not in (tmp_path / "alarms" / "alarms.log").read_text()


def test_an_alarm_of_the_platform_is_raised_at_once_and_told_once_in_its_cooldown(tmp_path: Path) -> None:
    with AlarmDesk(tmp_path) as desk:
        assert desk.system("detection", True, "the API is away", 10.0) is Phase.UNACKNOWLEDGED
        assert desk.system("detection", True, "the API is away", 11.0) is Phase.UNACKNOWLEDGED
        (alarm,) = desk.store.alarms()
        assert (alarm.kind, alarm.priority, alarm.reason) == ("system", "critical", "the API is away")
        assert alarm.evidence == ()
        assert desk.system("detection", False, "pictures are scored", 12.0) is Phase.RETURNED_UNACKNOWLEDGED
    told = (tmp_path / "alarms" / "alarms.log").read_text().splitlines()
    assert len(told) == 1


def test_a_platform_that_sees_raises_nothing(tmp_path: Path) -> None:
    with AlarmDesk(tmp_path) as desk:
        assert desk.system("outflow/sight", False, "", 10.0, priority="high") is Phase.NORMAL
        assert desk.store.alarms() == []


def test_a_blind_camera_has_the_priority_it_is_given(tmp_path: Path) -> None:
    with AlarmDesk(tmp_path) as desk:
        desk.system("outflow/sight", True, "the camera is offline", 10.0, priority="low")
        assert desk.store.alarms()[0].priority == "low"


def test_a_desk_whose_outbox_fails_at_the_end_says_so_and_closes_its_store(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), AlarmDesk(tmp_path) as desk:
        assert desk.store.alarms() == []
        assert open_files(tmp_path)
        with sqlite3.connect(tmp_path / "alarms" / "worker.db") as database:
            database.execute("DROP TABLE alarm_deliveries")
        database.close()
    assert "could not be told and stay in the outbox: no such table: alarm_deliveries" in caplog.text
    assert open_files(tmp_path) == []


def test_two_workers_do_not_share_a_folder(tmp_path: Path) -> None:
    with AlarmDesk(tmp_path), pytest.raises(ConfigurationError, match="Another camera worker keeps its alarms in"):
        AlarmDesk(tmp_path)
    with AlarmDesk(tmp_path):
        pass


def test_evidence_that_cannot_be_saved_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "evidence").write_text("in the way")
    with AlarmDesk(tmp_path) as desk:
        assert see(sink(desk), 2, 0.9) is Phase.UNACKNOWLEDGED
    assert "outflow: the alarm goes out without evidence" in caplog.text
