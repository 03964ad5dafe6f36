"""A database of the first release becomes one of this release, and nothing that was to be told is lost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, text

from almenara.alarms import AlarmStore, Change, Phase, database
from tests.support.alarms import START, Clock, observe
from tests.support.postgresql import postgresql_server

ALARM = {
    "id": "alarm-1",
    "source": "outflow-1",
    "kind": "vision",
    "priority": "high",
    "phase": "unacknowledged",
    "score": 0.9,
    "peak": 0.95,
    "reason": "foreign object",
    "note": "",
    "comment": "",
    "idempotency_key": "key-2",
}


@pytest.fixture(params=["sqlite", "postgresql"])
def first_release(request: pytest.FixtureRequest, url: str, tmp_path: Path) -> Iterator[str]:
    """The address of a database that the first release left behind, with a picture on the disk and one that is gone."""
    if request.param == "postgresql":
        with postgresql_server() as address:
            _leave_behind(address, tmp_path)
            yield address
    else:
        (tmp_path / "alarms").mkdir()
        _leave_behind(url, tmp_path)
        yield url


def _leave_behind(address: str, folder: Path) -> None:
    (folder / "frame.jpg").write_bytes(b"picture")
    evidence = [str(folder / "frame.jpg"), str(folder / "gone.jpg")]
    engine = create_engine(address)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        _fill(connection, evidence)
    engine.dispose()


def _fill(connection: Connection, evidence: list[str]) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL TIME ZONE 'UTC'")
    alarm: dict[str, Any] = {**ALARM, "raised_at": _written(40), "evidence": json.dumps(evidence)}
    _insert(connection, "alarms", **alarm)
    for number, change in ((1, "raised"), (2, "raised_again")):
        _insert(
            connection,
            "alarm_transitions",
            key=f"key-{number}",
            source="outflow-1",
            alarm_id="alarm-1",
            change=change,
            previous="pending",
            phase="unacknowledged",
            at=_written(number),
            reason="",
        )
    _insert(
        connection,
        "alarm_sources",
        source="outflow-1",
        version=4,
        phase="unacknowledged",
        peak=0.95,
        told=False,
        told_at=_written(60),
        alarm_id="alarm-1",
    )
    shown = {**ALARM, "raised_at": START.isoformat(), "evidence": evidence, "model": None, "cleared_at": None}
    shown |= {"acknowledged_at": None, "acknowledged_by": None}
    for number, due in ((1, 0), (2, 60)):
        message = {"key": f"key-{number}", "event": "raised", "at": START.isoformat(), "alarm": shown}
        _insert(
            connection,
            "alarm_deliveries",
            key=f"key-{number}",
            alarm_id="alarm-1",
            channel="log",
            notification=json.dumps(message),
            attempts=0,
            next_at=_written(due),
            lease_owner="a process that died",
            leased_until=_written(1),
            error="",
        )
    _insert(
        connection,
        "alarm_deliveries",
        key="key-1",
        alarm_id="alarm-1",
        channel="mail",
        notification='"no message"',
        attempts=0,
        next_at=_written(0),
        error="",
    )


def _written(second: int) -> str:
    return f"2026-03-01 06:{second // 60:02}:{second % 60:02}.000000"


def _insert(connection: Connection, table: str, **values: Any) -> None:
    names = ", ".join(f'"{name}"' for name in values)
    places = ", ".join(f":{name}" for name in values)
    connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({places})"), values)  # noqa: S608 - names of ours


def test_alarms_messages_and_evidence_of_the_first_release_are_kept(first_release: str, tmp_path: Path) -> None:
    with AlarmStore(first_release, wall_clock=Clock().wall) as store:
        [alarm] = store.alarms()
        pending = store.pending_deliveries()
        transitions = store.transitions()
    [picture] = alarm.evidence
    assert (picture.name, picture.uri, picture.size) == ("frame.jpg", str(tmp_path / "frame.jpg"), 7)
    assert picture.sha256 == hashlib.sha256(b"picture").hexdigest()
    assert picture.media_type == "image/jpeg"
    assert alarm.note == f"Evidence that can no longer be read: {tmp_path / 'gone.jpg'}."
    assert [each.notification.key for each in pending] == ["key-1", "key-2"]
    assert [each.notification.alarm.evidence for each in pending] == [(picture,), (picture,)]
    assert [(each.next_at - START).total_seconds() for each in pending] == [0, 60]
    assert [each.change for each in transitions] == [Change.RAISED, Change.RAISED_AGAIN]


def test_source_of_the_first_release_goes_on_and_tells_its_return(first_release: str) -> None:
    clock = Clock(seconds=100_000)
    with AlarmStore(first_release, wall_clock=clock.wall) as store:
        assert store.phase("outflow-1") is Phase.UNACKNOWLEDGED
        assert observe(store, clock, 0.1) == [Change.RETURNED]
        told = [each.notification for each in store.pending_deliveries()]
    assert [(each.event, each.alarm.id) for each in told] == [("raised", "alarm-1")] * 2 + [("returned", "alarm-1")]


def test_reminder_of_an_alarm_of_the_first_release_comes_without_an_observation(first_release: str) -> None:
    clock = Clock()
    with AlarmStore(first_release, wall_clock=clock.wall) as store:
        clock.forward(365 * 24 * 3600)
        assert [each.change for each in store.tick(clock.seconds)] == [Change.REMINDED]
