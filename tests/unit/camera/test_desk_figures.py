"""How a worker's alarm desk is doing, and what /metrics tells of it."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy.exc import OperationalError

from almenara.alarms import Rule
from almenara.contracts import Observation
from camera_worker.alarming import AlarmDesk, DeskFigures, Record
from camera_worker.metrics import Desk, worker_registry
from tests.support.api import NOWHERE


def raise_alarm(desk: AlarmDesk) -> None:
    seen = Observation(source="outflow", kind="vision", anomaly=0.9, observed_at=datetime.now(UTC))
    desk.store.observe(seen, Rule(on_delay_seconds=0, off_delay_seconds=0), now=time.monotonic())


def value(desk: Desk | None, name: str) -> float | None:
    worker = SimpleNamespace(cameras={}, sight=SimpleNamespace(detection_blind=False), breaker_open=False, desk=desk)
    return worker_registry(worker).get_sample_value(f"almenara_{name}")


def test_a_quiet_desk_is_well(tmp_path: Path) -> None:
    with AlarmDesk(tmp_path) as desk:
        figures = desk.figures()
    assert (figures.outbox_late, figures.heartbeat_withheld, figures.evidence_waiting) == (0, False, 0)
    assert 0 < figures.disk_free < figures.disk_size


def test_a_desk_that_forwards_nothing_says_nothing_of_the_record(tmp_path: Path) -> None:
    with AlarmDesk(tmp_path) as desk:
        raise_alarm(desk)
        assert desk.figures().record_late is None
        assert value(desk, "record_late_seconds") is None


def test_what_the_record_lacks_has_an_age(tmp_path: Path) -> None:
    with AlarmDesk(tmp_path, name="worker-1", record=Record(NOWHERE, None)) as desk:
        assert desk.figures().record_late == 0
        raise_alarm(desk)
        late = desk.figures().record_late
    assert late is not None
    assert 0 < late < 5


def test_evidence_on_its_way_to_object_storage_has_an_age(tmp_path: Path) -> None:
    file = tmp_path / "evidence" / "outgoing" / "worker" / "outflow" / "frame.jpg"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"jpeg")
    os.utime(file, (time.time() - 90, time.time() - 90))
    with AlarmDesk(tmp_path) as desk:
        assert desk.figures().evidence_waiting == pytest.approx(90, abs=5)


def test_what_is_blind_withholds_the_heartbeat(tmp_path: Path) -> None:
    with AlarmDesk(tmp_path, blind=lambda: "outflow: the picture is black") as desk:
        assert desk.figures().heartbeat_withheld


def test_the_figures_are_metrics() -> None:
    desk = SimpleNamespace(figures=lambda: DeskFigures(61.0, 3.0, True, 700.0, 10, 100))
    assert value(desk, "alarm_store_up") == 1
    assert value(desk, "outbox_late_seconds") == 61
    assert value(desk, "record_late_seconds") == 3
    assert value(desk, "heartbeat_withheld") == 1
    assert value(desk, "evidence_waiting_seconds") == 700
    assert (value(desk, "disk_free_bytes"), value(desk, "disk_size_bytes")) == (10, 100)


def away() -> DeskFigures:
    raise OperationalError("SELECT", {}, OSError("disk I/O error"))


def test_a_store_that_fails_is_told_and_hides_nothing_else() -> None:
    desk = SimpleNamespace(figures=away)
    assert value(desk, "alarm_store_up") == 0
    assert value(desk, "disk_free_bytes") is None
    assert value(desk, "detection_blind") == 0


def test_a_worker_without_alarms_says_nothing_of_them() -> None:
    assert value(None, "alarm_store_up") is None
