"""Opening the alarm database: SQLite made durable, migrations run once whoever starts first."""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from almenara.errors import ConfigurationError

_PATIENCE_SECONDS = 5
"""How long a database may keep a caller waiting; well below the API's default request timeout of 10 s."""
_MIGRATION_SECONDS = 60
_MIGRATION_LOCK = 0x616C6D65  # "alme": advisory lock of PostgreSQL
_URLS = "Use sqlite:////var/lib/almenara/alarms.db or postgresql+psycopg2://user@host/database."


def open_database(url: str) -> Engine:
    """Open the database, in WAL mode with full synchronisation if it is SQLite, and migrate it to the newest revision.

    Safe when several processes start at once. A transaction of the engine is deferred; one made with the execution
    option ``writes=True`` takes SQLite's write lock at its start, so that it cannot fail halfway for a stale snapshot.

    Nothing waits for the database without end: a lock that is not given, a statement that does not finish, a server
    that does not accept a connection or no longer takes what is sent fails after 5 s. An address of PostgreSQL may set
    ``connect_timeout``, ``tcp_user_timeout`` and ``options`` itself.

    Raises:
        ConfigurationError: an address that is no file or PostgreSQL, a database that cannot be opened, or one that a
            newer release has migrated.
    """
    address = _parse(url)
    try:
        if address.get_backend_name() == "sqlite":
            return _open_sqlite(address)
        engine = create_engine(
            address, pool_pre_ping=True, pool_timeout=_PATIENCE_SECONDS, connect_args=_postgresql_arguments(address)
        )
        with engine.begin() as connection:
            connection.execute(text(f"SET LOCAL statement_timeout = '{_MIGRATION_SECONDS}s'"))  # others migrate first
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            _migrate(connection)
    except (DBAPIError, sqlite3.Error, OSError) as error:
        reason = getattr(error, "orig", None) or error
        raise ConfigurationError(
            f"The alarm database {address.render_as_string()} cannot be opened: {str(reason).strip()}.",
            "Check the address, the folder's permissions and the free space.",
        ) from error
    return engine


class Commits:
    """Tells whether anybody has committed to a database, at a fraction of what a look into it costs.

    Args:
        engine: of the database, as `open_database` gives it.
    """

    def __init__(self, engine: Engine) -> None:
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None  # one that never commits, so that every commit is another's
        if engine.dialect.name == "sqlite":
            path = str(engine.url.database)
            self._connection = sqlite3.connect(path, timeout=_PATIENCE_SECONDS, check_same_thread=False)

    def version(self) -> int | None:
        """A number that differs after every commit; None where only a look tells: PostgreSQL, a file that fails."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            if self._connection is not None:
                return int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        return None

    def close(self) -> None:
        """Nothing is told any more."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None


def _parse(url: str) -> URL:
    try:
        address = make_url(url)
    except ArgumentError as error:
        raise ConfigurationError("The alarm database's address is no database URL.", _URLS) from error
    backend = address.get_backend_name()
    on_disk = backend == "sqlite" and address.database not in {None, "", ":memory:"}
    if not on_disk and backend != "postgresql":
        raise ConfigurationError(
            f"Alarms cannot be kept in {address.render_as_string()}: they must survive a restart.", _URLS
        )
    return address


def _postgresql_arguments(address: URL) -> dict[str, Any]:
    milliseconds = _PATIENCE_SECONDS * 1000
    arguments = {
        "connect_timeout": _PATIENCE_SECONDS,
        "tcp_user_timeout": milliseconds,
        "options": f"-c statement_timeout={milliseconds}",
    }
    return {name: value for name, value in arguments.items() if name not in address.query}


def _open_sqlite(address: URL) -> Engine:
    path = Path(str(address.database)).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(address, pool_timeout=_PATIENCE_SECONDS, connect_args={"timeout": _PATIENCE_SECONDS})
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    # Switching to WAL needs the file for itself and does not wait for it, so processes take turns.
    with _file_lock(path.with_name(path.name + ".lock")):
        raw = engine.raw_connection()
        try:
            raw.cursor().execute("PRAGMA journal_mode=WAL")
        finally:
            raw.close()
        with engine.execution_options(writes=True).begin() as connection:
            _migrate(connection)
    return engine


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin in _begin_sqlite, not in the driver
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrate(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigurationError(
            f"The alarm database has a revision that this release does not know: {error}.",
            "Upgrade Almenara, or restore the backup that was made before the newer release ran.",
        ) from error


@contextlib.contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """Hold a file for this process; the system lets go of it when the process dies, however it dies."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
