"""The revisions that a release knows are those of its migrations."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from almenara.alarms import database
from almenara.backup.schema import known_alarm_revisions, known_mlflow_revisions, require_known
from almenara.errors import InputError


def revisions(migrations: Path) -> set[str]:
    return {script.revision for script in ScriptDirectory(str(migrations)).walk_revisions()}


def test_alarm_revisions_are_those_of_the_migrations() -> None:
    assert known_alarm_revisions() == revisions(Path(database.__file__).parent / "migrations")


def test_mlflow_revisions_are_those_of_the_installed_mlflow() -> None:
    import mlflow

    assert known_mlflow_revisions() == revisions(Path(mlflow.__file__).parent / "store" / "db_migrations")


def test_a_revision_that_is_not_known_is_refused_with_the_remedy() -> None:
    with pytest.raises(InputError, match="0009") as refused:
        require_known("alarm", ("0001", "0009"), frozenset({"0001", "0002"}))
    assert "newer" in refused.value.remedy
