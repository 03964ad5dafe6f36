"""Rows of sources: the state machine's state in UTC, swapped by version."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, case, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from almenara.alarms import tables
from almenara.alarms.records import AlarmRecord, SourceStatus
from almenara.alarms.rule import Rule
from almenara.alarms.state import State, resume
from almenara.alarms.vocabulary import Phase

_rows = tables.sources
_TIMES = ("since", "blind_since", "seen_at", "shelved_until", "told_at")
_FACTS = ("phase", "peak", "readings", "chattering", "known", "out_of_service", "news", "told")
_SEEN_SHARE = 4
_APART_SECONDS = 5.0
"""How far the two clocks may come apart: more than any slewing, less than what people notice."""


@dataclass(frozen=True)
class Clock:
    """A reading of a monotonic clock and the UTC moment it was taken at; converts between the two."""

    seconds: float
    moment: datetime

    def to_seconds(self, moment: datetime | None) -> float | None:
        return None if moment is None else self.seconds + (moment - self.moment).total_seconds()

    def to_moment(self, seconds: float | None) -> datetime | None:
        return None if seconds is None else self.at(seconds)

    def at(self, seconds: float) -> datetime:
        return self.moment + timedelta(seconds=seconds - self.seconds)


class TiedClock:
    """The callers' monotonic clock, tied to UTC at its first reading, and anew when the two have come apart by more
    than 5 s: the machine was suspended, or its clock was set.

    Args:
        wall_clock: gives the present as an aware datetime.
        monotonic: the callers' clock; without it the first `now` of theirs is the present, for good.
    """

    def __init__(self, wall_clock: Callable[[], datetime], monotonic: Callable[[], float] | None) -> None:
        self._wall_clock = wall_clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._clock: Clock | None = None

    def at(self, now: float) -> Clock:
        """The clock for a call that was made at `now`."""
        with self._lock:
            seconds, moment = now if self._monotonic is None else self._monotonic(), self._wall_clock()
            if self._clock is None or (self._monotonic is not None and _are_apart(self._clock, seconds, moment)):
                self._clock = Clock(seconds, moment)
            return self._clock

    def present(self) -> tuple[Clock, float]:
        """The clock and what it reads now; of callers' clocks that cannot be read the wall clock takes the place."""
        if self._monotonic is None:
            return Clock(0.0, self._wall_clock()), 0.0
        now = self._monotonic()
        return self.at(now), now

    def moment(self) -> datetime:
        """The present, as `present` has it."""
        clock, now = self.present()
        return clock.at(now)


def _are_apart(clock: Clock, seconds: float, moment: datetime) -> bool:
    return abs((clock.at(seconds) - moment).total_seconds()) > _APART_SECONDS


@dataclass(frozen=True)
class Stored:
    """What the database has of a source: a row, if it was ever written, with its rule, its alarm and its silences."""

    row: RowMapping | None
    rule: Rule
    alarm: AlarmRecord | None
    mentioned: AlarmRecord | None
    quiet_times: tuple[tuple[datetime, datetime], ...]


@dataclass(frozen=True)
class Loaded:
    """A source as it stands at a moment.

    Attributes:
        state: as it is taken over at the present.
        version: None for a source that was never written.
        rule: the last one in force; the default one where none is known.
        row: what is stored, by column.
        alarm: the one that stands.
        mentioned: the alarm that news are of; it may have ended meanwhile.
        quiet_until: when the silences end that are in force for it.
    """

    state: State
    version: int | None
    rule: Rule
    row: Mapping[str, Any]
    alarm: AlarmRecord | None
    mentioned: AlarmRecord | None
    quiet_until: float | None


def find(connection: Connection, source: str) -> RowMapping | None:
    """The row of a source."""
    return connection.execute(select(_rows).where(_rows.c.source == source)).mappings().first()


def read_state(row: RowMapping | None, clock: Clock, now: float) -> State:
    """The state in a row; a source without one has been out of sight until now."""
    if row is None:
        return State(blind_since=now)
    moments = (datetime.fromisoformat(text) for text in row["raises"])
    state = State(
        phase=Phase(row["phase"]),
        since=clock.to_seconds(row["since"]),
        blind_since=clock.to_seconds(row["blind_since"]),
        seen_at=clock.to_seconds(row["seen_at"]),
        peak=row["peak"],
        readings=row["readings"],
        raises=tuple(clock.seconds + (moment - clock.moment).total_seconds() for moment in moments),
        chattering=row["chattering"],
        known=row["known"],
        shelved_until=clock.to_seconds(row["shelved_until"]),
        out_of_service=row["out_of_service"],
        news=row["news"],
        told=row["told"],
        told_at=clock.to_seconds(row["told_at"]),
        due=clock.to_seconds(row["due_at"]),
    )
    return resume(state, now)


def read_rule(row: RowMapping | None) -> Rule:
    """The rule in a row, less what a newer release may have added."""
    return Rule() if row is None or row["rule"] is None else Rule.model_validate(row["rule"], extra="ignore")


def row_of(state: State, rule: Rule, clock: Clock) -> dict[str, Any]:
    """What is stored of a state and its rule."""
    moments = [clock.at(seconds).isoformat() for seconds in state.raises]
    return {
        **{name: getattr(state, name) for name in _FACTS},
        **{name: clock.to_moment(getattr(state, name)) for name in _TIMES},
        "raises": moments,
        "due_at": clock.to_moment(state.due),
        "rule": rule.model_dump(mode="json"),
    }


def differs(row: Mapping[str, Any], values: Mapping[str, Any], rule: Rule) -> bool:
    """Whether an observation has changed a row enough to write it.

    When the source was seen is written a quarter of its stale time late at most; so a source whose readings come
    irregularly is found stale after three quarters of it at the earliest. That a tick is needed later than stored is
    left to the tick at the stored time.
    """
    changed = {name for name, value in values.items() if row[name] != value}
    if changed - {"seen_at", "due_at"}:
        return True
    due, stored_due = values["due_at"], row["due_at"]
    if due is not None and (stored_due is None or due < stored_due):
        return True
    seen, stored_seen, stale = values["seen_at"], row["seen_at"], rule.stale_after_seconds
    if "seen_at" not in changed or stale is None:
        return False
    return stored_seen is None or seen is None or (seen - stored_seen).total_seconds() >= stale / _SEEN_SHARE


def swap(connection: Connection, source: str, version: int | None, values: Mapping[str, Any]) -> bool:
    """Write a source's row if it still has the version that was read."""
    if version is None:
        try:
            connection.execute(insert(_rows).values(source=source, version=1, **values))
        except IntegrityError:
            return False
        return True
    changed = update(_rows).where(_rows.c.source == source, _rows.c.version == version)
    return connection.execute(changed.values(version=version + 1, **values)).rowcount == 1


def due(connection: Connection, moment: datetime, limit: int) -> list[str]:
    """Sources that need a tick, the one that waits longest first."""
    query = select(_rows.c.source).where(_rows.c.due_at <= moment).order_by(_rows.c.due_at).limit(limit)
    return list(connection.execute(query).scalars())


def next_due(connection: Connection) -> datetime | None:
    """When the next source needs a tick; None if none does."""
    return connection.execute(select(func.min(_rows.c.due_at, type_=_rows.c.due_at.type))).scalar()


def wake(connection: Connection, moment: datetime) -> None:
    """Let the next tick decide again for every source that waits for one; every step in progress starts over."""
    sooner = case((_rows.c.due_at > moment, moment), else_=_rows.c.due_at)
    connection.execute(update(_rows).values(due_at=sooner, version=_rows.c.version + 1))


def status(row: RowMapping, origin: str) -> SourceStatus:
    """Where one of this store's sources stands."""
    phase = State(
        phase=Phase(row["phase"]),
        blind_since=None if row["blind_since"] is None else 0.0,
        shelved_until=None if row["shelved_until"] is None else 0.0,
        out_of_service=row["out_of_service"],
    ).visible
    return SourceStatus(
        source=row["source"],
        origin=origin,
        revision=row["version"],
        phase=phase,
        since=row["entered_at"],
        shelved_until=row["shelved_until"],
        alarm_id=row["alarm_id"],
    )
