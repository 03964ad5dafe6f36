"""What /metrics tells of alarms, messages, evidence and disk."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy.exc import OperationalError

from almenara.alarms import Rule
from almenara.alarms.office import AlarmOffice
from almenara.contracts import AlarmKind, Observation
from almenara.settings import Settings
from almenara_api.metrics import AlarmGauges
from almenara_api.services import open_office
from almenara_api.watch import AlarmWatch
from tests.support.api import wait_until


class Looked:
    """An office that is looked at; nothing is delivered, since it is not started."""

    def __init__(self, office: AlarmOffice, var_dir: Path) -> None:
        self.office = office
        self.registry = CollectorRegistry()
        self.watch = AlarmWatch(office, var_dir, AlarmGauges(self.registry))

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"almenara_{name}", labels)

    def raise_alarm(self, source: str, kind: AlarmKind = "vision") -> str:
        seen = Observation(source=source, kind=kind, anomaly=0.9, observed_at=datetime.now(UTC))
        rule = Rule(on_delay_seconds=0, off_delay_seconds=0, priority="high")
        (raised,) = self.office.store.observe(seen, rule, now=time.monotonic())[-1:]
        assert raised.alarm_id
        return raised.alarm_id


@pytest.fixture
def looked(tmp_path: Path) -> Iterator[Looked]:
    office = open_office(Settings(var_dir=tmp_path))
    yield Looked(office, tmp_path)
    office.store.close()


def test_standing_alarms_are_counted_by_kind_and_priority(looked: Looked) -> None:
    for source in ("north", "south"):
        looked.raise_alarm(source)
    looked.raise_alarm("detection", "system")
    looked.watch.look()
    assert looked.value("alarms_standing", kind="vision", priority="high") == 2
    assert looked.value("alarms_standing", kind="system", priority="high") == 1
    assert looked.value("alarms_standing", kind="vibration", priority="low") == 0


def test_alarms_that_nobody_has_acknowledged_are_counted(looked: Looked) -> None:
    first, _ = looked.raise_alarm("north"), looked.raise_alarm("south")
    looked.office.store.acknowledge(first, "eva")
    looked.watch.look()
    assert looked.value("alarms_unacknowledged") == 1


def test_raises_of_the_last_ten_minutes_are_counted(looked: Looked) -> None:
    for source in ("north", "south"):
        looked.raise_alarm(source)
    looked.watch.look()
    assert looked.value("alarms_raised_lately") == 2


def test_alarms_are_counted_by_what_people_found(looked: Looked) -> None:
    ids = [looked.raise_alarm(source) for source in ("a", "b", "c", "d")]
    for alarm in ids[:2]:
        looked.office.store.acknowledge(alarm, "eva", verdict="false_alarm")
    looked.office.store.acknowledge(ids[2], "eva", verdict="true_alarm")
    looked.watch.look()
    assert looked.value("alarms_judged", verdict="false_alarm") == 2
    assert looked.value("alarms_judged", verdict="true_alarm") == 1


def test_a_message_that_waits_is_late(looked: Looked) -> None:
    looked.raise_alarm("north")
    looked.watch.look()
    late = looked.value("outbox_late_seconds")
    assert late is not None
    assert 0 < late < 5


def test_evidence_on_its_way_to_object_storage_has_an_age(looked: Looked, tmp_path: Path) -> None:
    looked.watch.look()
    assert looked.value("evidence_waiting_seconds") == 0
    for name, age in (("new", 5), ("old", 90)):
        file = tmp_path / "evidence" / "outgoing" / "record" / name / "frame.jpg"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"jpeg")
        os.utime(file, (time.time() - age, time.time() - age))
    looked.watch.look()
    assert looked.value("evidence_waiting_seconds") == pytest.approx(90, abs=5)


def test_the_disk_is_told(looked: Looked) -> None:
    looked.watch.look()
    free, size = looked.value("disk_free_bytes"), looked.value("disk_size_bytes")
    assert free is not None
    assert size is not None
    assert 0 < free < size


def failing(*_: object, **__: object) -> None:
    raise OperationalError("SELECT", {}, OSError("no route"))


def test_a_database_that_is_away_is_told_and_the_disk_all_the_same(
    looked: Looked, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked.watch.look()
    assert (looked.value("alarm_store_up"), looked.value("heartbeat_withheld")) == (1, 0)
    monkeypatch.setattr(looked.office.store, "alarms", failing)
    looked.watch.look()
    assert (looked.value("alarm_store_up"), looked.value("heartbeat_withheld")) == (0, 1)
    assert looked.value("disk_free_bytes")


def is_set(looked: Looked, name: str) -> Callable[[], bool]:
    return lambda: bool(looked.value(name))


def test_the_watch_looks_by_itself_until_it_is_closed(looked: Looked) -> None:
    looked.watch.start()
    wait_until(is_set(looked, "alarm_store_up"), 5)
    looked.watch.close()
