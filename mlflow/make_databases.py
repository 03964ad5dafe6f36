"""Makes the databases that the platform lacks on its PostgreSQL server: MLflow's, and those named as arguments.

The server is that of MLFLOW_BACKEND_STORE_URI, the password PGPASSWORD. Databases that are there stay as they are; one
that a newer MLflow has migrated is refused.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import URL, create_engine, inspect, make_url, text
from sqlalchemy.exc import OperationalError, ProgrammingError

ALREADY_THERE = {"42P04", "23505"}  # duplicate_database; unique_violation, when two make it at the same moment


def make_databases(server: URL, names: list[str]) -> None:
    engine = create_engine(server.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        present = set(connection.scalars(text("SELECT datname FROM pg_database")))
        for name in names:
            if name in present:
                continue
            quoted = engine.dialect.identifier_preparer.quote_identifier(name)
            try:
                connection.execute(text(f"CREATE DATABASE {quoted}"))
            except ProgrammingError as error:
                if getattr(error.orig, "pgcode", "") not in ALREADY_THERE:
                    raise
            sys.stdout.write(f"Database {name} is made.\n")


def refuse_newer(server: URL) -> None:
    """Ends with a sentence when a newer MLflow has migrated the database; MLflow itself would end with a traceback."""
    with create_engine(server).connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return
        revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
    package = find_spec("mlflow")
    places = package.submodule_search_locations if package else None
    files = Path(places[0], "store", "db_migrations", "versions").glob("*.py") if places else ()
    if not any(f'revision = "{revision}"' in file.read_text(encoding="utf-8") for file in files):
        sys.exit(
            f"The database {server.database} has the revision {revision}, which this release of MLflow does not know. "
            "Install the newer release again, or restore the backup that was made before it ran."
        )


def main() -> None:
    server = make_url(os.environ["MLFLOW_BACKEND_STORE_URI"])
    if server.get_backend_name() != "postgresql":
        return
    names = [str(server.database), *sys.argv[1:]]
    try:
        make_databases(server, names)
        refuse_newer(server)
    except (OperationalError, ProgrammingError) as error:
        sys.exit(
            f"The databases {' and '.join(names)} cannot be made: {str(error.orig).strip()} "
            "Check POSTGRES_HOST, POSTGRES_PORT, POSTGRES_USER and POSTGRES_PASSWORD, or make them yourself."
        )


if __name__ == "__main__":
    main()
