"""Makes the databases that the platform lacks on its PostgreSQL server: MLflow's, and those named as arguments.

The server is that of MLFLOW_BACKEND_STORE_URI, the password PGPASSWORD. Databases that are there stay as they are.
"""

from __future__ import annotations

import os
import sys

from sqlalchemy import URL, create_engine, make_url, text
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


def main() -> None:
    server = make_url(os.environ["MLFLOW_BACKEND_STORE_URI"])
    if server.get_backend_name() != "postgresql":
        return
    names = [str(server.database), *sys.argv[1:]]
    try:
        make_databases(server, names)
    except (OperationalError, ProgrammingError) as error:
        sys.exit(
            f"The databases {' and '.join(names)} cannot be made: {str(error.orig).strip()} "
            "Check POSTGRES_HOST, POSTGRES_PORT, POSTGRES_USER and POSTGRES_PASSWORD, or make them yourself."
        )


if __name__ == "__main__":
    main()
