"""The plant-wide record: alarms that other stores report, and what people do here for those stores to carry out."""

from __future__ import annotations

import difflib
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from almenara.alarms import merging, tables
from almenara.alarms.queries import Records, alarm_row, read_alarm, remote_status, transition_row
from almenara.alarms.records import Action, AlarmRecord, Directive, EvidenceFile, Report, SourceStatus, Transition
from almenara.alarms.vocabulary import Change, Phase
from almenara.errors import InputError

CHANGES: dict[Action, Change] = {
    "acknowledge": Change.ACKNOWLEDGED,
    "reset": Change.RESET,
    "shelve": Change.SHELVED,
    "unshelve": Change.UNSHELVED,
    "remove_from_service": Change.REMOVED_FROM_SERVICE,
    "return_to_service": Change.RETURNED_TO_SERVICE,
}
"""The transition that each action of a directive makes, here and at the store it is for."""

_MOST_DIRECTIVES = 500

_remote = tables.remote_sources


class PlantRecord(Records):
    """Merges reports, and keeps directives until their store confirms them."""

    def merge(self, reports: Sequence[Report]) -> int:
        """Take over what another store reports, in any order and any number of times; the number of new transitions.

        Nobody is told: the store that raised an alarm tells it.

        Raises:
            InputError: a report without origin, of an alarm of this store, or without the alarm of its transition.
        """
        for report in reports:
            _check(report)
        alarms: dict[str, AlarmRecord] = {}
        for alarm in (report.alarm for report in reports):
            if alarm is not None and (alarm.id not in alarms or alarm.revision > alarms[alarm.id].revision):
                alarms[alarm.id] = alarm
        transitions = {report.transition.key: report.transition for report in reports}
        with self._writer.begin() as connection:
            for _, alarm in sorted(alarms.items()):
                self._merge_alarm(connection, alarm)
            log = tables.transitions
            known = set(connection.execute(select(log.c.key).where(log.c.key.in_(transitions))).scalars())
            new = [transition_row(each, self._origin) for key, each in transitions.items() if key not in known]
            if new:
                connection.execute(_insert(connection, log).on_conflict_do_nothing(index_elements=["key"]), new)
            for report in reports:
                if report.status is not None:
                    _keep_status(connection, report.status)
        return len(new)

    def directives(self, origin: str) -> list[Directive]:
        """What a store still has to carry out, oldest first; at most 500, the others once those are confirmed."""
        rows = tables.directives
        still_open = select(rows).where(rows.c.origin == origin, rows.c.done_at.is_(None))
        query = still_open.order_by(rows.c.number).limit(_MOST_DIRECTIVES)
        with self._engine.begin() as connection:
            found = connection.execute(query).mappings().all()
        return [Directive.model_validate({name: row[name] for name in Directive.model_fields}) for row in found]

    def confirm_directives(self, ids: Sequence[str], origin: str) -> None:
        """Note that a store has carried out directives; ids that are none of its own are let pass."""
        rows = tables.directives
        done = update(rows).where(rows.c.id.in_(ids), rows.c.origin == origin, rows.c.done_at.is_(None))
        with self._writer.begin() as connection:
            connection.execute(done.values(done_at=self._wall_clock()))

    def cursor(self, name: str) -> int:
        """A place in the log that somebody keeps here; 0 at first."""
        rows = tables.cursors
        with self._engine.begin() as connection:
            return connection.execute(select(rows.c.value).where(rows.c.name == name)).scalar() or 0

    def move_cursor(self, name: str, value: int) -> None:
        """Keep a place in the log."""
        with self._writer.begin() as connection:
            row = _insert(connection, tables.cursors).values(name=name, value=value)
            connection.execute(row.on_conflict_do_update(index_elements=["name"], set_={"value": value}))

    def _is_remote(self, alarm: AlarmRecord) -> bool:
        return alarm.origin != self._origin

    def _direct_alarm(self, directive: Directive) -> AlarmRecord:
        """Change an alarm of another store as that store will, and tell it to; nothing if it is so already."""
        with self._writer.begin() as connection:
            known = read_alarm(connection, directive.alarm_id or "", self._origin, lock=True)
            if known is None:
                raise ValueError(f"alarm {directive.alarm_id} is gone")
            alarm = _directed(known, directive)
            if alarm != known:
                rows = tables.alarms
                connection.execute(update(rows).where(rows.c.id == alarm.id).values(alarm_row(alarm, self._origin)))
                directive = directive.model_copy(update={"raise_key": alarm.idempotency_key})
                self._write_directive(connection, directive, known.phase, alarm.phase, alarm.id)
                standing = {"alarm_id": alarm.id if alarm.stands else None}
                shown = (_remote.c.source == alarm.source, _remote.c.origin == alarm.origin)
                connection.execute(update(_remote).where(*shown, _remote.c.alarm_id == alarm.id).values(standing))
                if alarm.phase is not known.phase:
                    moved = update(_remote).where(*shown, _remote.c.phase == known.phase)
                    connection.execute(moved.values(phase=alarm.phase, since=directive.at))
        return alarm

    def _direct_source(self, directive: Directive) -> Phase:
        """Change a source of another store as that store will, and tell it to; nothing if it is so already.

        Raises:
            InputError: no store has reported such a source.
        """
        with self._writer.begin() as connection:
            known = _find_status(connection, directive.source, directive.at)
            if known is None:
                raise _unknown_source(connection, directive.source)
            alarm = None if known.alarm_id is None else read_alarm(connection, known.alarm_id, self._origin)
            phase = _phase_after(known, directive, alarm)
            until = directive.until if directive.action in ("shelve", "unshelve") else known.shelved_until
            if (phase, until) != (known.phase, known.shelved_until):
                directive = directive.model_copy(update={"origin": known.origin})
                alarm_id = None if alarm is None else alarm.id  # one that was not reported yet is not here
                self._write_directive(connection, directive, known.phase, phase, alarm_id)
                row = update(_remote).where(_remote.c.source == known.source, _remote.c.origin == known.origin)
                since = known.since if phase is known.phase else directive.at
                connection.execute(row.values(phase=phase, since=since, shelved_until=until))
        return phase

    def _revise_remote(self, alarm_id: str, files: tuple[EvidenceFile, ...]) -> AlarmRecord:
        """Note where this record keeps the evidence of another store's alarm, as far as it still is that alarm's."""
        rows = tables.alarms
        with self._writer.begin() as connection:
            known = read_alarm(connection, alarm_id, self._origin, lock=True)
            if known is None:
                raise ValueError(f"alarm {alarm_id} is gone")
            evidence = merging.placed(known.evidence, files)
            dumped = [file.model_dump() for file in evidence]
            connection.execute(update(rows).where(rows.c.id == alarm_id).values(evidence=dumped))
        return known.model_copy(update={"evidence": evidence})

    def _write_directive(
        self, connection: Connection, directive: Directive, previous: Phase, phase: Phase, alarm_id: str | None
    ) -> None:
        """Write a directive and its transition, which the other store will report under the same key."""
        connection.execute(insert(tables.directives).values(directive.model_dump()))
        transition = Transition(
            key=directive.id,
            origin=directive.origin,
            source=directive.source,
            alarm_id=alarm_id,
            change=CHANGES[directive.action],
            previous=previous,
            phase=phase,
            at=directive.at,
            anomaly=None,
            reason=directive.comment,
            user=directive.user,
        )
        connection.execute(insert(tables.transitions).values(transition_row(transition, self._origin)))

    def _merge_alarm(self, connection: Connection, incoming: AlarmRecord) -> None:
        values = alarm_row(incoming, self._origin)
        fresh = _insert(connection, tables.alarms).values(values).on_conflict_do_nothing(index_elements=["id"])
        if connection.execute(fresh).rowcount == 1:
            return
        known = read_alarm(connection, incoming.id, self._origin, lock=True)
        if known is None or not self._is_remote(known):
            raise InputError("report-of-own-alarm", f"Alarm {incoming.id} was raised here, nobody else may report it.")
        merged = merging.merge(known, incoming)
        if merged != known:
            row = update(tables.alarms).where(tables.alarms.c.id == merged.id)
            connection.execute(row.values(alarm_row(merged, self._origin)))


def new_directive(action: Action, origin: str, source: str, user: str, at: datetime, **facts: Any) -> Directive:
    """A directive with an id of its own."""
    return Directive.model_validate(
        {"id": str(uuid.uuid4()), "origin": origin, "action": action, "source": source, "user": user, "at": at, **facts}
    )


def is_applied(connection: Connection, directive_id: str) -> bool:
    """Whether a directive of the record has been carried out here: noted, or logged before it could be noted."""
    noted = select(tables.applied.c.directive_id).where(tables.applied.c.directive_id == directive_id)
    logged = select(tables.transitions.c.key).where(tables.transitions.c.key == directive_id)
    return connection.execute(noted.union_all(logged)).first() is not None


def note_applied(connection: Connection, directive_id: str, at: datetime) -> None:
    """Remember that a directive has been carried out here."""
    row = _insert(connection, tables.applied).values(directive_id=directive_id, at=at)
    connection.execute(row.on_conflict_do_nothing(index_elements=["directive_id"]))


def _directed(alarm: AlarmRecord, directive: Directive) -> AlarmRecord:
    if directive.action == "reset":
        return alarm if alarm.phase is not Phase.LATCHED else alarm.model_copy(update={"phase": Phase.NORMAL})
    return merging.acknowledge(alarm, directive.user, directive.comment, directive.verdict, directive.at)


def _phase_after(known: SourceStatus, directive: Directive, alarm: AlarmRecord | None) -> Phase:
    """What a source will show; what lies beneath a shelving is not known here but for an alarm that stands."""
    out = known.phase is Phase.OUT_OF_SERVICE
    match directive.action:
        case "remove_from_service":
            return Phase.OUT_OF_SERVICE
        case "return_to_service" if out:
            return Phase.UNKNOWN if known.shelved_until is None else Phase.SHELVED
        case "shelve" if not out:
            return Phase.SHELVED
        case "unshelve" if known.phase is Phase.SHELVED:
            return Phase.UNKNOWN if alarm is None else alarm.phase
        case _:
            return known.phase


def _check(report: Report) -> None:
    transition, alarm, status = report.transition, report.alarm, report.status
    others = [part.origin for part in (alarm, status) if part is not None]
    if not transition.origin or any(origin != transition.origin for origin in others):
        raise InputError("report-origin", f"Report {transition.key} does not name one store that it is from.")
    if transition.alarm_id != (None if alarm is None else alarm.id):
        raise InputError("report-alarm", f"Report {transition.key} does not bring the alarm of its transition.")


def _unknown_source(connection: Connection, source: str) -> InputError:
    """Says that there is no such source, and names the five that are called most like it."""
    known = [*connection.scalars(select(tables.sources.c.source)), *connection.scalars(select(_remote.c.source))]
    near = difflib.get_close_matches(source, sorted(set(known)), n=5, cutoff=0.0)
    remedy = (
        f"Give the whole name of one source, no pattern, such as {', '.join(near)}." if near else "None is known yet."
    )
    return InputError("source-unknown", f"There is no source {source}.", remedy)


def _find_status(connection: Connection, source: str, present: datetime) -> SourceStatus | None:
    """The source of another store, locked until the transaction ends; of several the one that changed last."""
    query = select(_remote).where(_remote.c.source == source).order_by(_remote.c.since.desc()).limit(1)
    row = connection.execute(query.with_for_update()).mappings().first()
    return None if row is None else remote_status(connection, row, present)


def _keep_status(connection: Connection, status: SourceStatus) -> None:
    """Keep what is newer: by its revision, or by its time when the other store has lost its database."""
    row = _insert(connection, _remote).values(status.model_dump())
    newer = row.on_conflict_do_update(
        index_elements=["origin", "source"],
        set_=status.model_dump(exclude={"origin", "source"}),
        where=or_(_remote.c.revision < row.excluded.revision, _remote.c.since < row.excluded.since),
    )
    connection.execute(newer)


def _insert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An insert that knows what to do about a row that is there already."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
