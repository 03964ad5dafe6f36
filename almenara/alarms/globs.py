"""Globs of source names: ``*`` stands for any characters, ``/`` among them, ``?`` for one; case matters."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from sqlalchemy import ColumnElement


def matches(pattern: str, source: str) -> bool:
    """Whether a source's name fits a glob."""
    return fnmatchcase(source, _without_sets(pattern))


def like(column: ColumnElement[Any], pattern: str, dialect: str) -> ColumnElement[bool]:
    """The same as a condition in SQL, for ``sqlite`` or ``postgresql``."""
    if dialect == "sqlite":
        return column.op("GLOB", is_comparison=True)(_without_sets(pattern))
    for character in "\\%_":
        pattern = pattern.replace(character, f"\\{character}")
    return column.like(pattern.replace("*", "%").replace("?", "_"), escape="\\")


def _without_sets(pattern: str) -> str:
    return pattern.replace("[", "[[]")
