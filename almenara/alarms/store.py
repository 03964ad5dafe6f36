"""The alarm store: applies observations to sources and commits state, alarm, transition and messages together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from sqlalchemy import Connection, RowMapping, insert, select, update
from sqlalchemy.exc import IntegrityError

from almenara.alarms import tables
from almenara.alarms.changeset import Cause, Changeset, Evidence
from almenara.alarms.database import open_database
from almenara.alarms.outbox import Outbox
from almenara.alarms.records import AlarmRecord, Delivery, Transition
from almenara.alarms.state import Acknowledgement, Move, Phase, Reading, Rule, State, resume, settle, step
from almenara.contracts import Observation
from almenara.errors import InputError


class AlarmStore:
    """Alarms in a SQLite file or in PostgreSQL, shared by any number of threads and processes.

    A source's state is a row with a version. A step is a compare-and-swap of that row in the transaction that also
    writes the alarm, the transition and one delivery row per channel: an alarm that is committed will be told, and
    one that is not was never there. Whoever loses the swap reloads and steps again.

    Clocks: the database holds UTC. Each store ties the monotonic clock of its callers to UTC once, at its first
    observation, so that within a process delays follow the monotonic clock whatever the wall clock does. After a
    restart alarms, acknowledgements and the cooldown stand as they were; a delay that was in progress starts again,
    because nobody watched in between.

    Args:
        url: ``sqlite:///path`` or ``postgresql+psycopg2://…``; the database is created and migrated.
        channels: names of the channels that every message goes to.
        wall_clock: gives the present as an aware datetime.
        monotonic: the clock that callers read; needed by those who report what was observed some time ago.

    Raises:
        ConfigurationError: the database cannot be opened.
    """

    def __init__(
        self,
        url: str,
        channels: Sequence[str] = ("log",),
        *,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        self._engine = open_database(url)
        self._writer = self._engine.execution_options(writes=True)
        self._channels = tuple(dict.fromkeys(channels))
        self._wall_clock = wall_clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._clock: _Clock | None = None
        self._met: set[str] = set()
        self.outbox = Outbox(self._engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def observe(
        self,
        observation: Observation,
        rule: Rule,
        *,
        now: float,
        evidence: Callable[[], tuple[str, ...]] | None = None,
    ) -> tuple[Transition, ...]:
        """Apply one verdict to its source and commit what follows from it.

        Args:
            observation: what was scored, or that nothing could be.
            rule: the source's rule.
            now: when it was observed, seconds on a monotonic clock (``time.monotonic()``), the same one for every call
                of this store.
            evidence: saves the evidence and returns its paths. Called at most once, only when this observation raises
                an alarm, before the transaction. If it fails the alarm goes out with a note instead.

        Returns:
            The transitions that were committed, oldest first; usually none.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database cannot be read or written; nothing of this observation is kept,
                and the next one steps from where the source stood.
        """
        clock = self._clock_at(now)
        age = 0.0 if self._monotonic is None else max(0.0, self._monotonic() - now)
        saved: Evidence | None = None
        while True:
            before = self._load(observation.source, clock)
            state = before.state if self._has_met(observation.source) else resume(before.state, now)
            state = settle(state, now)
            after, effects = step(state, Reading(observation.anomaly), now, rule)
            if saved is None and any(isinstance(effect, Move) and effect.change.raises for effect in effects):
                saved = Evidence.save(evidence)
            at = _utc(observation.observed_at)
            cause = Cause(observation.source, at, observation, rule, saved or Evidence())
            changes = Changeset.of(cause, before.alarm, state, after, effects)
            if (after == before.state and not effects) or self._commit(before, after, changes, clock, age):
                self._meet(observation.source)
                return tuple(changes.transitions)

    def acknowledge(self, alarm_id: str, user: str, comment: str = "") -> AlarmRecord:
        """Note that somebody has seen an alarm; acknowledging twice changes nothing.

        Raises:
            InputError: no such alarm, or no user.
        """
        if not user.strip():
            raise InputError("alarm-user-missing", "An acknowledgement needs the name of who gives it.")
        while True:
            clock = _Clock(0.0, self._wall_clock())
            alarm = self.alarm(alarm_id)
            before = self._load(alarm.source, clock)
            if before.alarm is None or before.alarm.id != alarm_id:
                return self.alarm(alarm_id)  # it has ended, which takes an acknowledgement
            state = settle(before.state, 0.0)
            after, effects = step(state, Acknowledgement(), 0.0, Rule())
            cause = Cause(alarm.source, clock.moment, user=user.strip(), comment=comment)
            changes = Changeset.of(cause, before.alarm, state, after, effects)
            if not effects or self._commit(before, after, changes, clock, 0.0):
                return self.alarm(alarm_id)

    def phase(self, source: str) -> Phase:
        """Where a source stands; UNKNOWN for one that was never scored."""
        return self._load(source, _Clock(0.0, self._wall_clock())).state.visible

    def alarm(self, alarm_id: str) -> AlarmRecord:
        """One alarm.

        Raises:
            InputError: no such alarm.
        """
        with self._engine.begin() as connection:
            record = _read_alarm(connection, alarm_id)
        if record is None:
            raise InputError("alarm-unknown", f"There is no alarm {alarm_id}.", "Take an id from the list of alarms.")
        return record

    def alarms(self, limit: int = 100, source: str | None = None) -> list[AlarmRecord]:
        """Alarms, the one raised last first."""
        table = tables.alarms
        query = select(table).order_by(table.c.raised_at.desc(), table.c.id).limit(limit)
        if source is not None:
            query = query.where(table.c.source == source)
        with self._engine.begin() as connection:
            return [_alarm(row) for row in connection.execute(query).mappings()]

    def transitions(self, source: str | None = None, *, limit: int = 1000) -> list[Transition]:
        """The newest transitions, of one source or of all, oldest first."""
        table = tables.transitions
        query = select(table).order_by(table.c.id.desc()).limit(limit)
        if source is not None:
            query = query.where(table.c.source == source)
        with self._engine.begin() as connection:
            rows = connection.execute(query).mappings().all()
        return [_transition(row) for row in reversed(rows)]

    def pending_deliveries(self) -> list[Delivery]:
        """Messages that are still to be sent, oldest first; those that the cooldown holds back are among them."""
        return self.outbox.pending()

    def dead_deliveries(self) -> list[Delivery]:
        """Messages that were given up, oldest first; one that cannot be read any more is only logged."""
        return self.outbox.dead()

    def _clock_at(self, now: float) -> _Clock:
        with self._lock:
            if self._clock is None:
                self._clock = _Clock(now if self._monotonic is None else self._monotonic(), self._wall_clock())
            return self._clock

    def _has_met(self, source: str) -> bool:
        with self._lock:
            return source in self._met

    def _meet(self, source: str) -> None:
        with self._lock:
            self._met.add(source)

    def _load(self, source: str, clock: _Clock) -> _Loaded:
        table = tables.sources
        with self._engine.begin() as connection:
            row = connection.execute(select(table).where(table.c.source == source)).mappings().first()
            if row is None:
                return _Loaded(State(blind_since=clock.seconds), None, None)
            alarm = _read_alarm(connection, row["alarm_id"]) if row["alarm_id"] else None
        state = State(
            phase=Phase(row["phase"]),
            since=clock.to_seconds(row["since"]),
            blind_since=clock.to_seconds(row["blind_since"]),
            peak=row["peak"],
            told=row["told"],
            told_at=clock.to_seconds(row["told_at"]),
        )
        return _Loaded(state, row["version"], alarm)

    def _commit(self, before: _Loaded, state: State, changes: Changeset, clock: _Clock, age: float) -> bool:
        """Write everything in one transaction; False, and nothing is written, if somebody else was faster.

        Messages are timed from ``age`` seconds ago, when the cause happened.
        """
        values = {
            "phase": state.phase,
            "since": clock.to_moment(state.since),
            "blind_since": clock.to_moment(state.blind_since),
            "peak": state.peak,
            "told": state.told,
            "told_at": clock.to_moment(state.told_at),
            "alarm_id": changes.standing_id,
        }
        with self._writer.connect() as connection:
            if not _swap(connection, changes.cause.source, before.version, values):
                return False
            moment = self._wall_clock() - timedelta(seconds=age)
            changes.write(connection, before.alarm, self._channels, moment)
            connection.commit()
        return True


@dataclass(frozen=True)
class _Clock:
    """A reading of a monotonic clock and the UTC moment it was taken at; converts between the two."""

    seconds: float
    moment: datetime

    def to_seconds(self, moment: datetime | None) -> float | None:
        return None if moment is None else self.seconds + (moment - self.moment).total_seconds()

    def to_moment(self, seconds: float | None) -> datetime | None:
        return None if seconds is None else self.moment + timedelta(seconds=seconds - self.seconds)


@dataclass(frozen=True)
class _Loaded:
    """A source as the database has it; ``version`` is None for one that was never written."""

    state: State
    version: int | None
    alarm: AlarmRecord | None


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _swap(connection: Connection, source: str, version: int | None, values: dict[str, Any]) -> bool:
    """Write a source's row if it still has the version that was read."""
    table = tables.sources
    if version is None:
        try:
            connection.execute(insert(table).values(source=source, version=1, **values))
        except IntegrityError:
            return False
        return True
    swap = update(table).where(table.c.source == source, table.c.version == version)
    return connection.execute(swap.values(version=version + 1, **values)).rowcount == 1


def _read_alarm(connection: Connection, alarm_id: str) -> AlarmRecord | None:
    row = connection.execute(select(tables.alarms).where(tables.alarms.c.id == alarm_id)).mappings().first()
    return None if row is None else _alarm(row)


def _alarm(row: RowMapping) -> AlarmRecord:
    return AlarmRecord.model_validate(dict(row))


def _transition(row: RowMapping) -> Transition:
    return Transition.model_validate({name: row[name] for name in Transition.model_fields})
