"""Which database revisions this release knows, read from the migrations without running them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from almenara.errors import InputError

_REVISION = re.compile(r"""^revision(?:\s*:\s*\w+)?\s*=\s*["'](\w+)["']""", re.MULTILINE)
REVISION_TABLES = {"mlflow": "alembic_version", "alarms": "alarm_revision"}
"""Where each schema keeps the revision it has."""


def revisions_in(text: str) -> frozenset[str]:
    """The revisions that migrations with this source text make."""
    return frozenset(_REVISION.findall(text))


def known_alarm_revisions() -> frozenset[str]:
    """Of the alarm database."""
    return _known(Path(__file__).parents[1] / "alarms" / "migrations" / "versions")


def known_mlflow_revisions() -> frozenset[str]:
    """Of MLflow's database; none where MLflow is not installed."""
    found = find_spec("mlflow")
    places = list(found.submodule_search_locations or ()) if found else []
    return frozenset().union(*(_known(Path(place, "store", "db_migrations", "versions")) for place in places))


def revisions_of(database: Path) -> dict[str, str]:
    """Schema to revision, as a SQLite file says it."""
    found = {}
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=rw", uri=True, timeout=30)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for schema, table in REVISION_TABLES.items():
            row = table in tables and connection.execute(f"SELECT version_num FROM {table}").fetchone()  # noqa: S608 - ours
            if row:
                found[schema] = str(row[0])
    return found


def require_known(schema: str, revisions: Iterable[str], known: frozenset[str]) -> None:
    """Raises InputError: the backup has a database that is newer than this release."""
    for revision in revisions:
        if revision not in known:
            fact = f"The backup's {schema} database has the revision {revision}, which this installation does not know."
            remedy = "Install the release that made the backup, or a newer one, then restore. Nothing was changed."
            raise InputError("backup-newer", fact, remedy)


def _known(versions: Path) -> frozenset[str]:
    return frozenset().union(*(revisions_in(file.read_text(encoding="utf-8")) for file in versions.glob("*.py")))
