"""Opening the alarm database: durability, migrations, and what is refused."""

from __future__ import annotations

import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect
from sqlalchemy.exc import OperationalError

from almenara.alarms import AlarmStore, Phase, Rule, database
from almenara.alarms.database import open_database
from almenara.alarms.tables import metadata
from almenara.errors import ConfigurationError
from almenara.settings import Settings
from tests.support.alarms import NOW_RULE, Clock, observation, observe, told
from tests.support.postgresql import postgresql_server


def test_sqlite_is_durable(url: str) -> None:
    engine = open_database(url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    engine.dispose()


def test_migrations_make_the_tables_that_queries_use(url: str) -> None:
    engine = open_database(url)
    made = inspect(engine)
    for table in metadata.tables.values():
        assert {c["name"] for c in made.get_columns(table.name)} == set(table.c.keys())
        nullable = {c["name"]: c["nullable"] for c in made.get_columns(table.name)}
        assert nullable == {c.name: c.nullable for c in table.c}
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "alarm_revision"})
        assert context.get_current_revision() == "0003"
        added = [d for d in compare_metadata(context, metadata) if str(d[0]).startswith("add_")]
    assert added == []
    engine.dispose()


def test_opening_again_changes_nothing(url: str) -> None:
    AlarmStore(url).close()
    AlarmStore(url).close()


def test_database_of_a_newer_release_is_refused(url: str) -> None:
    engine = open_database(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alarm_revision SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(ConfigurationError, match=r"does not know.*Upgrade Almenara"):
        AlarmStore(url)


@pytest.mark.parametrize("address", ["sqlite://", "sqlite:///:memory:", "mysql://host/alarms"])
def test_database_that_would_not_survive_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="must survive a restart"):
        AlarmStore(address)


def test_address_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no database URL"):
        AlarmStore("alarms.db")


def test_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "alarms.db"
    path.write_text("this is a text file, not a database" * 100, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"alarms\.db cannot be opened: file is not a database"):
        AlarmStore(f"sqlite:///{path}")


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        AlarmStore(f"sqlite:///{tmp_path / 'file' / 'alarms.db'}")


def test_server_that_is_away_is_named_without_its_password() -> None:
    with pytest.raises(ConfigurationError, match="cannot be opened") as caught:
        AlarmStore("postgresql+psycopg2://almenara:secret@127.0.0.1:9/alarms")
    assert "secret" not in str(caught.value)


def test_locked_file_fails_before_a_request_is_over(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.model_fields["request_timeout_seconds"].default > database._PATIENCE_SECONDS
    monkeypatch.setattr(database, "_PATIENCE_SECONDS", 0.2)
    with AlarmStore(url) as store:
        rival = sqlite3.connect(tmp_path / "alarms" / "alarms.db", isolation_level=None)
        rival.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        with pytest.raises(OperationalError, match="locked"):
            store.observe(observation(0.9), Rule(), now=0)
        assert time.monotonic() - begun < 3
        rival.close()


def test_server_that_accepts_and_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_PATIENCE_SECONDS", 2)  # libpq knows no less
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port, begun = silent.getsockname()[1], time.monotonic()
        with pytest.raises(ConfigurationError, match="timeout expired"):
            AlarmStore(f"postgresql+psycopg2://almenara@127.0.0.1:{port}/alarms")
    assert time.monotonic() - begun < 8


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    with postgresql_server() as address:
        yield address


def test_postgresql_keeps_alarms_and_their_messages(postgresql: str, clock: Clock) -> None:
    with AlarmStore(postgresql, wall_clock=clock.wall) as store:
        for anomaly in (0.9, 0.1, 0.8):
            observe(store, clock, anomaly, NOW_RULE.model_copy(update={"cooldown_seconds": 60}))
        assert told(store) == ["raised"]
        store.acknowledge(store.alarms()[0].id, "eva", verdict="true_alarm")
        clock.forward(60)
        store.tick(clock.seconds)
        assert told(store) == ["raised"], "nobody needs to be told of what was acknowledged"
        assert store.alarms()[0].phase is Phase.ACKNOWLEDGED


def test_statement_that_waits_for_a_lock_fails_before_a_request_is_over(
    postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_PATIENCE_SECONDS", 1)
    with AlarmStore(postgresql) as store, open_database(postgresql).begin() as rival:
        rival.exec_driver_sql("LOCK TABLE alarm_sources IN ACCESS EXCLUSIVE MODE")
        begun = time.monotonic()
        with pytest.raises(OperationalError, match="statement timeout"):
            store.observe(observation(0.9), Rule(), now=0)
        assert time.monotonic() - begun < 4


def test_address_may_set_its_own_limits(postgresql: str) -> None:
    engine = open_database(f"{postgresql}?options=-c%20statement_timeout%3D700")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "700ms"
    engine.dispose()
