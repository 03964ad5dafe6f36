"""Stepping sources: load, step, and commit by compare-and-swap, again until nobody else was faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from almenara.alarms import sources
from almenara.alarms.changeset import Cause, Changeset, Evidence
from almenara.alarms.queries import Records, read_alarm, read_mentioned
from almenara.alarms.records import AlarmRecord, EvidenceFile, Transition
from almenara.alarms.sources import Clock, Loaded, Stored
from almenara.alarms.state import Event, Move, Reading, step
from almenara.alarms.suppression import quiet_times, quiet_until
from almenara.alarms.vocabulary import Change

Channels = Sequence[str] | Callable[[AlarmRecord], Sequence[str]]
Guard = Callable[[Loaded], bool]
"""Whether a step is still wanted, seeing how the source stands."""
Also = Callable[[Connection], None]
"""Writes what belongs to a step into its transaction, if it has one; if it raises, nothing of the step is kept."""


class Stepper(Records):
    """The one way in which this store's sources change.

    Args:
        url: of the database.
        channels: names of the channels that every message goes to, or gives them for an alarm.
        origin: name of this store.
        wall_clock: gives the present as an aware datetime.
        monotonic: the clock that callers read, if its present is not that of the first call.
    """

    def __init__(
        self,
        url: str,
        *,
        channels: Channels,
        origin: str,
        wall_clock: Callable[[], datetime],
        monotonic: Callable[[], float] | None,
    ) -> None:
        super().__init__(url, origin=origin, wall_clock=wall_clock, monotonic=monotonic)
        self._channels = channels
        self._known: dict[str, tuple[int, Stored]] = {}  # by source, with the version of the database that has it so

    def _step(
        self,
        cause: Cause,
        event: Event,
        clock: Clock,
        now: float,
        *,
        save: Callable[[], tuple[EvidenceFile, ...]] | None = None,
        guard: Guard = lambda _: True,
        also: Also | None = None,
    ) -> tuple[Transition, ...]:
        """Step a source by one event; `save` makes the evidence if it raises an alarm."""
        while True:
            before = self._load(cause.source, clock, now)
            if not guard(before):
                return ()
            rule = cause.rule or before.rule
            after, effects = step(before.state, event, now, rule, before.quiet_until)
            if save is not None and any(isinstance(effect, Move) and effect.change.raises for effect in effects):
                cause, save = replace(cause, evidence=Evidence.save(save)), None
            changes = Changeset.of(cause, self._origin, before, after, effects, self._wall_clock())
            values = {
                **sources.row_of(after, rule, clock),
                "alarm_id": changes.standing_id,
                "news_key": changes.news_key,
                "entered_at": before.row.get("entered_at"),
            }
            if before.version is None or after.visible is not before.state.visible:
                values["entered_at"] = cause.at
            seen_only = isinstance(event, Reading) and not effects and before.version is not None
            unchanged = not sources.differs(before.row, values, rule) if seen_only else values == before.row
            if unchanged or self._commit(before, values, changes, also):
                return tuple(changes.transitions)

    def _amend(self, alarm: AlarmRecord, cause: Cause, change: Change, **values: Any) -> AlarmRecord:
        """Change facts of one of this store's alarms, unless it has been raised again meanwhile; its source stays."""
        while True:
            clock = Clock(0.0, self._wall_clock())
            before = self._load(alarm.source, clock, 0.0)
            known = self.alarm(alarm.id)
            changes = Changeset(cause, self._origin, known, known)
            if known.idempotency_key == alarm.idempotency_key:
                changes.amend(change, **values)
            if not changes.transitions or self._commit(before, {}, changes):
                return self.alarm(alarm.id)

    def _load(self, source: str, clock: Clock, now: float) -> Loaded:
        moment = clock.at(now)
        stored = self._stored(source, moment)
        row, rule = stored.row, stored.rule
        state = sources.read_state(row, clock, now)
        quiet = clock.to_seconds(quiet_until(stored.quiet_times, moment))
        if row is None:
            return Loaded(state, None, rule, {}, None, None, quiet)
        values = {name: value for name, value in row.items() if name not in ("source", "version")}
        return Loaded(state, row["version"], rule, values, stored.alarm, stored.mentioned, quiet)

    def _stored(self, source: str, moment: datetime) -> Stored:
        """What the database has of a source; read only if somebody has committed since the last time."""
        version = self.version()
        known = self._known.get(source)
        if known is not None and known[0] == version:
            return known[1]
        with self._engine.begin() as connection:
            row = sources.find(connection, source)
            rule, quiet = sources.read_rule(row), quiet_times(connection, source, moment)
            alarm = mentioned = None
            if row is not None and row["alarm_id"]:
                alarm = mentioned = read_alarm(connection, row["alarm_id"], self._origin)
            if row is not None and alarm is None and row["news_key"]:
                mentioned = read_mentioned(connection, row["news_key"], self._origin)
        stored = Stored(row, rule, alarm, mentioned, quiet)
        if version is not None:
            self._known[source] = version, stored
        return stored

    def _commit(self, before: Loaded, values: dict[str, Any], changes: Changeset, also: Also | None = None) -> bool:
        """Write everything in one transaction; False, and nothing is written, if somebody else was faster."""
        with self._writer.connect() as connection:
            if not sources.swap(connection, changes.cause.source, before.version, values):
                return False
            changes.write(connection, self._channels_of, self._wall_clock())
            if also is not None:
                also(connection)
            connection.commit()
        return True

    def _channels_of(self, alarm: AlarmRecord) -> list[str]:
        """Where an alarm is told: an alarm about a channel never on this channel."""
        names = self._channels(alarm) if callable(self._channels) else self._channels
        return [name for name in dict.fromkeys(names) if alarm.source != f"channel/{name}"]
