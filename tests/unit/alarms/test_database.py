"""Opening the alarm database: durability, migrations, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from almenara.alarms import AlarmStore
from almenara.alarms.database import open_database
from almenara.alarms.tables import metadata
from almenara.errors import ConfigurationError


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
        assert context.get_current_revision() == "0001"
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
