"""What a process with alarms does when its store fails, a channel hangs, or messages wait for nobody."""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import SQLAlchemyError

from almenara.alarms import AlarmStore, Rule
from almenara.alarms.config import AlarmsConfig
from almenara.alarms.office import AlarmOffice
from almenara.configuration.loading import parse_config
from tests.support.alarms import observation
from tests.support.camera import wait_for

RULE = Rule(on_delay_seconds=0)


def office(folder: Path, text: str = "") -> AlarmOffice:
    config = parse_config(text, AlarmsConfig, name="alarms.yaml", environment={})
    return AlarmOffice(f"sqlite:///{folder / 'alarms.db'}", folder, config=config)


def see(made: AlarmOffice, source: str, anomaly: float) -> None:
    reading = observation(anomaly, source=source, at=datetime.now(UTC))
    made.committing(lambda: made.store.observe(reading, RULE, now=time.monotonic()), source=source)


def rename(folder: Path, table: str, name: str) -> None:
    database = sqlite3.connect(folder / "alarms.db")
    database.execute(f"ALTER TABLE {table} RENAME TO {name}")
    database.close()


def test_an_alarm_that_cannot_be_kept_is_a_reason_for_no_heartbeat_until_it_is_kept(tmp_path: Path) -> None:
    made = office(tmp_path)
    see(made, "a", 0.1)
    see(made, "b", 0.1)
    rename(tmp_path, "alarm_deliveries", "away")
    with pytest.raises(SQLAlchemyError):
        see(made, "a", 0.9)
    rename(tmp_path, "away", "alarm_deliveries")
    see(made, "b", 0.1)
    assert made.unhealthy() == "a: the alarm store failed: no such table: alarm_deliveries"
    see(made, "a", 0.9)
    assert made.unhealthy() is None
    made.store.close()


def test_old_messages_for_a_channel_that_nobody_serves_are_given_up_but_not_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=2)
    with AlarmStore(f"sqlite:///{tmp_path / 'alarms.db'}", channels=("gone",), wall_clock=lambda: long_ago) as store:
        store.observe(observation(0.9, at=long_ago), RULE, now=time.monotonic())
    with office(tmp_path) as made:
        wait_for((tmp_path / "alarms" / "reserve").exists, 10, "the end of the first upkeep")
        assert made.store.dead_deliveries() == []
    monkeypatch.setattr("almenara.alarms.office._UPKEEP_SECONDS", 0.01)
    monkeypatch.setattr("almenara.alarms.office._FORGET_SECONDS", 0.02)
    with office(tmp_path) as made:
        wait_for(made.store.dead_deliveries, 10, "the message that is given up")


def test_a_channel_that_hangs_keeps_nothing_else_from_its_end(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes the request and never answers
        made = office(
            tmp_path, f"channels: [{{name: hook, type: apprise, url: 'json://127.0.0.1:{mute.getsockname()[1]}'}}]"
        )
        made.start()
        see(made, "a", 0.9)
        connection, _ = mute.accept()
        wait_for(lambda: len(logged(tmp_path)) == 1, 10, "the first message in the log")
        see(made, "b", 0.9)
        made.close(0.3)
        assert logged(tmp_path) == ["a", "b"]
        assert open_files(tmp_path) == []
        (hung,) = (thread for thread in threading.enumerate() if thread.name == "alarms-to-hook")
    connection.close()
    hung.join(20)


def logged(folder: Path) -> list[str]:
    """Sources of the messages in the alarm log."""
    log = folder / "alarms" / "alarms.log"
    return [json.loads(line)["alarm"]["source"] for line in log.read_text().splitlines()] if log.exists() else []


def open_files(folder: Path) -> list[str]:
    """Files of the database that this process holds open."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists the folder
            links.append(str(descriptor.readlink()))
    return [link for link in links if link.startswith(str(folder / "alarms.db")) and not link.endswith(".alive")]
