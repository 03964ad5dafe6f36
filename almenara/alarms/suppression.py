"""Silences: planned times in which nobody is told of some sources."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from almenara.alarms import sources, tables
from almenara.alarms.globs import matches
from almenara.alarms.queries import Records
from almenara.alarms.records import LONGEST_COMMENT, LONGEST_NAME, Silence
from almenara.errors import InputError

_rows = tables.silences


class Silences(Records):
    """Keeps silences. Whatever changes them lets the next tick decide again what may be told."""

    def silence(self, silence: Silence) -> Silence:
        """Keep a silence; it comes back with its id.

        Raises:
            InputError: it ends before it starts, or has ended.
        """
        if not max(silence.starts_at, self._time.moment()) < silence.ends_at:
            raise InputError(
                "silence-empty",
                f"A silence from {silence.starts_at:%F %T} to {silence.ends_at:%F %T} silences nothing.",
                "Let it end after its start and in the future.",
            )
        kept = silence.model_copy(update={"id": silence.id or str(uuid.uuid4())})
        with self._writer.begin() as connection:
            connection.execute(insert(_rows).values(kept.model_dump()))
        return kept

    def end_silence(self, silence_id: str, user: str) -> Silence:
        """End a silence before its time; one that has ended stays as it is.

        Raises:
            InputError: no such silence, or no user.
        """
        user, now = named(user), self._time.moment()
        with self._writer.begin() as connection:
            open_row = update(_rows).where(_rows.c.id == silence_id, _rows.c.ends_at > now)
            if connection.execute(open_row.values(ends_at=now, ended_by=user)).rowcount:
                sources.wake(connection, now)
            row = connection.execute(select(_rows).where(_rows.c.id == silence_id)).mappings().first()
        if row is None:
            raise InputError("silence-unknown", f"There is no silence {silence_id}.", "Take an id from their list.")
        return Silence.model_validate(dict(row))

    def silences(self, active_at: datetime | None = None) -> list[Silence]:
        """Those in force at a moment; without one those in force now or later. By their start."""
        query = select(_rows).order_by(_rows.c.starts_at, _rows.c.id)
        if active_at is None:
            query = query.where(_rows.c.ends_at > self._time.moment())
        else:
            query = query.where(_rows.c.starts_at <= active_at, _rows.c.ends_at > active_at)
        with self._engine.begin() as connection:
            return [Silence.model_validate(dict(row)) for row in connection.execute(query).mappings()]

    def replace_silences(self, silences: Sequence[Silence]) -> None:
        """Take over the silences of the plant-wide record in place of all that are kept here."""
        with self._writer.begin() as connection:
            connection.execute(delete(_rows))
            if silences:
                connection.execute(insert(_rows), [silence.model_dump() for silence in silences])
            sources.wake(connection, self._time.moment())


def quiet_times(connection: Connection, source: str, moment: datetime) -> tuple[tuple[datetime, datetime], ...]:
    """Start and end of each silence of a source that is in force or will be."""
    query = select(_rows.c.sources, _rows.c.starts_at, _rows.c.ends_at).where(_rows.c.ends_at > moment)
    return tuple((start, end) for glob, start, end in connection.execute(query) if matches(glob, source))


def quiet_until(times: Iterable[tuple[datetime, datetime]], moment: datetime) -> datetime | None:
    """When the silences end that are in force; None without any."""
    return max((end for start, end in times if start <= moment < end), default=None)


def named(user: str) -> str:
    """The name of who acts.

    Raises:
        InputError: there is none, or it cannot be kept.
    """
    if not user.strip():
        raise InputError("alarm-user-missing", "Whoever changes an alarm has to give a name.", "Set `user`.")
    return _kept(user.strip(), LONGEST_NAME, "name")


def remark(comment: str) -> str:
    """What somebody says who acts.

    Raises:
        InputError: it cannot be kept.
    """
    return _kept(comment, LONGEST_COMMENT, "comment")


def _kept(text: str, longest: int, what: str) -> str:
    if len(text) > longest or "\0" in text:
        raise InputError(
            "alarm-text", f"The {what} has more than {longest} characters or one that is NUL.", "Shorten it."
        )
    return text
