"""Reading the alarm database: alarms, transitions, sources, and changes since a place in the log."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, Select, and_, or_, select

from almenara.alarms import sources, tables
from almenara.alarms.database import Commits, open_database
from almenara.alarms.globs import like
from almenara.alarms.records import AlarmRecord, Report, SourceStatus, Transition
from almenara.alarms.vocabulary import Phase, Priority
from almenara.contracts import AlarmKind
from almenara.errors import InputError

_alarms = tables.alarms
_log = tables.transitions
_remote = tables.remote_sources


@dataclass(frozen=True)
class AlarmFilter:
    """Which alarms to list; what is left out does not matter.

    Attributes:
        source: glob of `*` and `?`.
        kind: what it is about.
        phases: one of these.
        priority: exactly this one.
        standing: open ones, or those that have ended.
        since: raised then or later.
        until: raised before.
    """

    source: str | None = None
    kind: AlarmKind | None = None
    phases: tuple[Phase, ...] = ()
    priority: Priority | None = None
    standing: bool | None = None
    since: datetime | None = None
    until: datetime | None = None


class Records:
    """The alarm database, and what can be read from it.

    Rows of this store have no origin in the database, so that a worker may be renamed; they are handed out with its
    name.

    Args:
        url: ``sqlite:///path`` or ``postgresql+psycopg2://…``; the database is created and migrated.
        origin: this store's name at the plant-wide record; empty for the record itself.
        wall_clock: gives the present as an aware datetime.
        monotonic: the clock that callers read, if its present is not that of the first call.

    Raises:
        ConfigurationError: the database cannot be opened.
    """

    def __init__(
        self,
        url: str,
        *,
        origin: str,
        wall_clock: Callable[[], datetime],
        monotonic: Callable[[], float] | None,
    ) -> None:
        self._engine = open_database(url)
        self._commits = Commits(self._engine)
        self._writer = self._engine.execution_options(writes=True)
        self._origin = origin
        self._wall_clock = wall_clock
        self._time = sources.TiedClock(wall_clock, monotonic)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._commits.close()
        self._engine.dispose()

    @property
    def engine(self) -> Engine:
        """Of the database, for what is kept beside the alarms."""
        return self._engine

    def version(self) -> int | None:
        """A number that differs after every commit, whoever made it; None where only a look tells."""
        return self._commits.version()

    def alarm(self, alarm_id: str) -> AlarmRecord:
        """One alarm.

        Raises:
            InputError: no such alarm.
        """
        with self._engine.begin() as connection:
            record = read_alarm(connection, alarm_id, self._origin)
        if record is None:
            raise InputError("alarm-unknown", f"There is no alarm {alarm_id}.", "Take an id from the list of alarms.")
        return record

    def alarms(
        self, where: AlarmFilter | None = None, *, limit: int = 100, before: str | None = None
    ) -> list[AlarmRecord]:
        """Alarms, the one raised last first; with `before` those that come after this one in the list.

        Raises:
            InputError: there is no alarm `before`.
        """
        conditions = list(self._conditions(where or AlarmFilter()))
        if before is not None:
            last = self.alarm(before)
            same = and_(_alarms.c.raised_at == last.raised_at, _alarms.c.id > last.id)
            conditions.append(or_(_alarms.c.raised_at < last.raised_at, same))
        query = select(_alarms).where(*conditions).order_by(_alarms.c.raised_at.desc(), _alarms.c.id).limit(limit)
        with self._engine.begin() as connection:
            return [_alarm(row, self._origin) for row in connection.execute(query).mappings()]

    def transitions(
        self,
        source: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 1000,
    ) -> list[Transition]:
        """The newest transitions, of one source or of all, from `since` on and before `until`; oldest first."""
        query = select(_log).order_by(_log.c.id.desc()).limit(limit)
        if source is not None:
            query = query.where(_log.c.source == source)
        if since is not None:
            query = query.where(_log.c.at >= since)
        if until is not None:
            query = query.where(_log.c.at < until)
        return self._transitions(query)[::-1]

    def history(self, alarm_id: str, *, limit: int = 1000) -> list[Transition]:
        """The newest transitions of one alarm, oldest first.

        Raises:
            InputError: no such alarm.
        """
        self.alarm(alarm_id)
        query = select(_log).where(_log.c.alarm_id == alarm_id).order_by(_log.c.at.desc(), _log.c.id.desc())
        return self._transitions(query.limit(limit))[::-1]

    def sources(self) -> list[SourceStatus]:
        """Where every source stands, those of other stores as they last reported; by name."""
        with self._engine.begin() as connection:
            found = [sources.status(row, self._origin) for row in connection.execute(select(tables.sources)).mappings()]
            remote = connection.execute(select(_remote)).mappings().all()
            found += [remote_status(connection, row, self._wall_clock()) for row in remote]
        return sorted(found, key=lambda each: (each.source, each.origin))

    def phase(self, source: str) -> Phase:
        """Where a source stands; UNKNOWN for one that was never scored."""
        with self._engine.begin() as connection:
            found = self._statuses(connection, [source])
        return found[0].phase if found else Phase.UNKNOWN

    def changes_after(self, transition_id: int, limit: int = 500) -> list[tuple[int, Report]]:
        """Transitions after a place in the log, oldest first, each with its own place.

        In PostgreSQL transactions may commit in another order than that of their places: whoever must not miss one
        looks back some seconds and tells by its key what it knows already. In SQLite, and per source, order holds.
        """
        query = select(_log).where(_log.c.id > transition_id).order_by(_log.c.id).limit(limit)
        with self._engine.begin() as connection:
            rows = connection.execute(query).mappings().all()
            if not rows:
                return []
            ids = {row["alarm_id"] for row in rows if row["alarm_id"] is not None}
            found = connection.execute(select(_alarms).where(_alarms.c.id.in_(ids))).mappings()
            alarms = {row["id"]: _alarm(row, self._origin) for row in found}
            statuses = self._statuses(connection, {row["source"] for row in rows})
        standing = {(each.origin, each.source): each for each in statuses}
        changes = []
        for row in rows:
            transition = _transition(row, self._origin)
            status = standing.get((transition.origin, transition.source))
            changes.append((row["id"], Report(transition=transition, alarm=alarms.get(row["alarm_id"]), status=status)))
        return changes

    def _conditions(self, where: AlarmFilter) -> Iterable[ColumnElement[bool]]:
        table = _alarms.c
        if where.source is not None:
            yield like(table.source, where.source, self._engine.dialect.name)
        if where.kind is not None:
            yield table.kind == where.kind
        if where.phases:
            yield table.phase.in_(where.phases)
        if where.priority is not None:
            yield table.priority == where.priority
        if where.standing is not None:
            yield table.phase != Phase.NORMAL if where.standing else table.phase == Phase.NORMAL
        if where.since is not None:
            yield table.raised_at >= where.since
        if where.until is not None:
            yield table.raised_at < where.until

    def _statuses(self, connection: Connection, names: Collection[str]) -> list[SourceStatus]:
        """Where these sources stand: this store's own first."""
        own = connection.execute(select(tables.sources).where(tables.sources.c.source.in_(names))).mappings().all()
        remote = connection.execute(select(_remote).where(_remote.c.source.in_(names))).mappings().all()
        present = self._wall_clock()
        return [
            *(sources.status(row, self._origin) for row in own),
            *(remote_status(connection, row, present) for row in remote),
        ]

    def _transitions(self, query: Select[Any]) -> list[Transition]:
        with self._engine.begin() as connection:
            return [_transition(row, self._origin) for row in connection.execute(query).mappings()]


def read_alarm(connection: Connection, alarm_id: str, origin: str, *, lock: bool = False) -> AlarmRecord | None:
    """An alarm, locked against other writers until the transaction ends if asked for (SQLite has but one).

    The lock lets others refer to the alarm, so that it takes its turn with one who holds its source and logs about it.
    """
    query = select(_alarms).where(_alarms.c.id == alarm_id)
    row = connection.execute(query.with_for_update(key_share=True) if lock else query).mappings().first()
    return None if row is None else _alarm(row, origin)


def read_mentioned(connection: Connection, transition_key: str, origin: str) -> AlarmRecord | None:
    """The alarm that a transition was of."""
    query = select(_log.c.alarm_id).where(_log.c.key == transition_key)
    alarm_id = connection.execute(query).scalar()
    return None if alarm_id is None else read_alarm(connection, alarm_id, origin)


def alarm_row(alarm: AlarmRecord, origin: str) -> dict[str, Any]:
    """What is stored of an alarm."""
    return alarm.model_dump() | {"origin": "" if alarm.origin == origin else alarm.origin}


def transition_row(transition: Transition, origin: str) -> dict[str, Any]:
    """What is stored of a transition."""
    return transition.model_dump() | {"origin": "" if transition.origin == origin else transition.origin}


def remote_status(connection: Connection, row: RowMapping, present: datetime) -> SourceStatus:
    """Where a source of another store stands; beneath a shelving that is over only a standing alarm is known of."""
    status = SourceStatus.model_validate(dict(row))
    if status.shelved_until is None or status.shelved_until > present:
        return status
    phase = status.phase
    if phase is Phase.SHELVED:
        beneath = connection.execute(select(_alarms.c.phase).where(_alarms.c.id == status.alarm_id)).scalar()
        phase = Phase.UNKNOWN if beneath is None else Phase(beneath)
    return status.model_copy(update={"phase": phase, "shelved_until": None})


def _alarm(row: RowMapping, origin: str) -> AlarmRecord:
    return AlarmRecord.model_validate({**row, "origin": row["origin"] or origin})


def _transition(row: RowMapping, origin: str) -> Transition:
    fields = {name: row[name] for name in Transition.model_fields}
    return Transition.model_validate(fields | {"origin": row["origin"] or origin})
