"""The databases: reached or not, and how far migrated."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

import almenara.alarms
from almenara.doctor.findings import Finding, clock, ok, problem, skipped, warning
from almenara.doctor.place import Place
from almenara.errors import ConfigurationError

_CONNECT_SECONDS = 3
_OLDEST_POSTGRESQL = 14
_REVISION = re.compile(r"^(revision|down_revision)\b[^=\n]*=\s*[\"'](\w+)[\"']", re.MULTILINE)
_REMEDIES: Mapping[str, str] = {
    "password": "PGPASSWORD must be the server's, which keeps the one of its first start. To give it the new one: "
    "docker compose exec postgres psql --username {user} --dbname {database} --command '\\password'",
    "does not exist": "Make it: docker compose run --rm migrations",
    "resolve": "See whether it runs (docker compose ps postgres), and correct the host's name.",
    "translate": "See whether it runs (docker compose ps postgres), and correct the host's name.",
    "unable to open": "Correct the rights of the file and its folder.",
}
_NOT_RUNNING = "See whether it runs (docker compose ps postgres), and correct address and port."


def postgresql(place: Place) -> Iterator[Finding]:
    """The server of the alarms: version and clock."""
    address = _address(place.settings.alarms_database_url)
    if address.get_backend_name() != "postgresql":
        yield ok("PostgreSQL", "It is not used: alarms are kept in SQLite.")
        return
    try:
        with _reading(address).connect() as connection:
            version = int(connection.execute(text("SELECT current_setting('server_version_num')")).scalar_one())
            before = place.clock()
            theirs: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
            middle = (before + place.clock()) / 2
    except DBAPIError as error:
        yield _away("PostgreSQL", address, error)
        return
    major = version // 10_000
    fact = f"{address.host} answers; version {major}.{version % 10_000}."
    if major < _OLDEST_POSTGRESQL:
        yield warning("PostgreSQL", fact, f"It is not maintained any more; move to {_OLDEST_POSTGRESQL} or newer.")
    else:
        yield ok("PostgreSQL", fact)
    yield clock("PostgreSQL clock", theirs.timestamp() - middle)


def alarm_database(place: Place) -> Iterator[Finding]:
    """Its revision."""
    address = _address(place.settings.alarms_database_url)
    if _is_new(address):
        yield skipped("alarm database", f"There is none at {address.database} yet; the API makes it.")
        return
    try:
        with _reading(address).connect() as connection:
            revision = _revision(connection, "alarm_revision")
    except DBAPIError as error:
        if address.get_backend_name() == "sqlite":  # else the check of the server says so
            yield _away("alarm database", address, error)
        return
    yield _schema("alarm database", revision, _alarm_revisions(), "Start the API again, which migrates it.")


def mlflow_database(place: Place) -> Iterator[Finding]:
    """Its revision, where it is an embedded file or on the server of the alarms."""
    address = _mlflow_address(place)
    if address is None:
        fact = "It is not reached from here."
        yield skipped("MLflow database", fact, "Ask where it is: docker compose exec api almenara doctor")
        return
    if _is_new(address):
        yield skipped("MLflow database", f"There is none at {address.database} yet; the first training makes it.")
        return
    try:
        with _reading(address).connect() as connection:
            revision = _revision(connection, "alembic_version")
    except DBAPIError as error:
        absent = "does not exist" in str(error.orig)
        if absent and not place.environment.get("POSTGRES_DB"):
            yield skipped("MLflow database", "It is not on the server of the alarms, or POSTGRES_DB is not set here.")
        elif absent or not place.settings.tracking_uri.startswith("http"):  # else the check of the server says so
            yield _away("MLflow database", address, error)
        return
    known = mlflow_revisions()
    if not known:
        yield skipped("MLflow database", f"Revision {revision}; MLflow's own are not installed here to compare.")
        return
    remedy = "Back it up, then: docker compose run --rm migrations (a file: mlflow db upgrade ADDRESS)"
    yield _schema("MLflow database", revision, known, remedy)


def mlflow_revisions() -> list[str]:
    """Revisions of the installed MLflow's schema, the newest last; empty where they are not installed.

    They are read from its files: importing them takes seconds.
    """
    package = find_spec("mlflow")
    if package is None or package.origin is None:
        return []
    folder = Path(package.origin).parent / "store" / "db_migrations" / "versions"
    files = [dict(_REVISION.findall(path.read_text(encoding="utf-8"))) for path in folder.glob("*.py")]
    own, before = {each.get("revision") for each in files}, {each.get("down_revision") for each in files}
    return [*sorted(str(each) for each in own & before if each), *sorted(str(each) for each in own - before if each)]


def _schema(subject: str, revision: str | None, known: list[str], remedy: str) -> Finding:
    if revision == known[-1]:
        return ok(subject, f"Revision {revision}, the newest.")
    if revision is None:
        return problem(subject, "It is empty.", remedy)
    if revision in known:
        return problem(subject, f"Revision {revision}; this release needs {known[-1]}.", remedy)
    fact = f"Revision {revision} is of a newer release than this one, which knows {known[-1]}."
    return problem(subject, fact, "Upgrade Almenara, or restore the backup that was made before.")


def _mlflow_address(place: Place) -> URL | None:
    if place.settings.tracking_uri.startswith(("sqlite:", "postgresql")):
        return _address(place.settings.tracking_uri)
    alarms = _address(place.settings.alarms_database_url)
    if alarms.get_backend_name() != "postgresql":
        return None
    return alarms.set(database=place.environment.get("POSTGRES_DB") or "mlflow")


def _address(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError as error:
        fact = "The alarm database's address is no database URL."
        raise ConfigurationError(fact, "Write postgresql+psycopg2://user@host/database.") from error


def _reading(address: URL) -> Engine:
    """An engine that changes nothing and does not wait for long."""
    if address.get_backend_name() == "sqlite":
        path = quote(str(Path(str(address.database)).resolve()))
        return create_engine(f"sqlite:///file:{path}?mode=ro&uri=true", connect_args={"timeout": _CONNECT_SECONDS})
    options = f"-c statement_timeout={_CONNECT_SECONDS * 1000} -c default_transaction_read_only=on"
    return create_engine(address, connect_args={"connect_timeout": _CONNECT_SECONDS, "options": options})


def _is_new(address: URL) -> bool:
    return address.get_backend_name() == "sqlite" and not Path(str(address.database)).exists()


def _revision(connection: Connection, table: str) -> str | None:
    if not inspect(connection).has_table(table):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {table}")).scalar()  # noqa: S608  one of two names
    return None if found is None else str(found)


def _alarm_revisions() -> list[str]:
    config = Config()
    folder = Path(str(almenara.alarms.__file__)).parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return [str(script.revision) for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]


def _away(subject: str, address: URL, error: DBAPIError) -> Finding:
    reason = " ".join(str(error.orig).split())
    remedy = next((remedy for sign, remedy in _REMEDIES.items() if sign in reason), _NOT_RUNNING)
    remedy = remedy.format(user=address.username, database=address.database)
    return problem(subject, f"{address.render_as_string()} cannot be used: {reason}.", remedy)
