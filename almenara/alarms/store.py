"""The alarm store: steps sources and commits state, alarm, transition and messages together."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.exc import DataError, IntegrityError

from almenara.alarms import sources, tables
from almenara.alarms.changeset import Act, Cause
from almenara.alarms.leases import Leases
from almenara.alarms.outbox import Outbox
from almenara.alarms.plant import CHANGES, PlantRecord, is_applied, new_directive, note_applied
from almenara.alarms.queries import read_alarm
from almenara.alarms.records import Action, AlarmRecord, Delivery, Directive, EvidenceFile, Transition
from almenara.alarms.rule import Rule
from almenara.alarms.sources import Loaded
from almenara.alarms.state import (
    Acknowledgement,
    Event,
    Reading,
    Removal,
    Reset,
    ServiceReturn,
    Shelving,
    Tick,
    Unshelving,
)
from almenara.alarms.stepping import Also, Channels, Guard, Stepper
from almenara.alarms.suppression import Silences, named, remark
from almenara.alarms.vocabulary import Change, Phase, Verdict
from almenara.contracts import Observation
from almenara.errors import InputError

_TICKS = 200
"""Most sources that one call of `AlarmStore.tick` steps."""
_PRUNED = 2000
"""Most rows that are removed at once, so that nobody waits long for the database."""


class AlarmStore(Stepper, Silences, PlantRecord):
    """Alarms in a SQLite file or in PostgreSQL, shared by any number of threads and processes.

    A source's state is a row with a version. A step is a compare-and-swap of that row in the transaction that also
    writes the alarm, the transition and one delivery row per channel: an alarm that is committed will be told, and
    one that is not was never there. Whoever loses the swap reloads and steps again. What is kept in memory of a source
    counts only as long as nobody has committed, so that several processes do together what one would do alone.

    Clocks: the database holds UTC. Each store ties the monotonic clock of its callers to UTC at its first observation
    or tick, so that delays do not follow the wall clock; but anew when the wall clock is set or has gone on while the
    machine was suspended, by more than 5 s, since what people set, such as the end of a silence, goes by the wall.

    An alarm of another store, merged here, is acknowledged and reset here too, and its source shelved: what people see
    changes at once, and a directive tells that store to do the same.

    Args:
        url: ``sqlite:///path`` or ``postgresql+psycopg2://…``; the database is created and migrated.
        channels: names of the channels that every message goes to, or gives them for an alarm. An alarm whose source is
            ``channel/NAME`` is never told on the channel of this name.
        origin: this store's name at the plant-wide record; empty for the record itself.
        wall_clock: gives the present as an aware datetime.
        monotonic: the clock that callers read; needed by those who report what was observed some time ago.

    Attributes:
        outbox: messages on their way.
        leases: who ticks and who delivers.

    Raises:
        ConfigurationError: the database cannot be opened.
    """

    def __init__(
        self,
        url: str,
        channels: Channels = ("log",),
        *,
        origin: str = "",
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(url, channels=channels, origin=origin, wall_clock=wall_clock, monotonic=monotonic)
        self.outbox = Outbox(self._engine)
        self.leases = Leases(self._engine)

    def observe(
        self,
        observation: Observation,
        rule: Rule,
        *,
        now: float,
        evidence: Callable[[], tuple[EvidenceFile, ...]] | None = None,
        also: Also | None = None,
    ) -> tuple[Transition, ...]:
        """Apply one verdict to its source and commit what follows from it.

        Args:
            observation: what was scored, or that nothing could be.
            rule: the source's rule; it stays in force for ticks until the next observation.
            now: when it was observed, seconds on a monotonic clock (``time.monotonic()``), the same one for every call
                of this store.
            evidence: saves the evidence and returns its files. Called at most once, only when this observation raises
                an alarm, before the transaction. If it fails the alarm goes out with a note instead.
            also: writes more in the same transaction, each time that it is tried; if it raises, nothing of this
                observation is kept. Not called by an observation of which nothing has to be written.

        Returns:
            The transitions that were committed, oldest first; usually none.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database cannot be read or written; nothing of this observation is kept,
                and the next one steps from where the source stood.
        """
        at = observation.observed_at
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        cause = Cause(observation.source, at, observation, rule)
        return self._step(cause, Reading(observation.anomaly), self._time.at(now), now, save=evidence, also=also)

    def tick(self, now: float) -> tuple[Transition, ...]:
        """Let time pass for the sources that wait for it, 200 at most: ends of shelving, cooldown and silence, stale
        input, reminders, calm after chatter.

        Args:
            now: seconds on the clock of `observe`.

        Returns:
            The transitions that were committed.

        Raises:
            ValueError, sqlalchemy.exc.IntegrityError, sqlalchemy.exc.DataError: a source cannot be read or written; the
                others have been stepped all the same.
            sqlalchemy.exc.SQLAlchemyError: the database cannot be read or written.
        """
        clock = self._time.at(now)
        with self._engine.begin() as connection:
            due = sources.due(connection, clock.at(now), _TICKS)
        transitions: list[Transition] = []
        failure: Exception | None = None
        for source in due:
            try:
                transitions += self._step(Cause(source, clock.at(now)), Tick(), clock, now)
            except (ValueError, IntegrityError, DataError) as error:
                failure = error
        if failure is not None:
            raise failure
        return tuple(transitions)

    def next_tick(self, now: float) -> float:
        """Seconds from `now`, on the clock of `observe`, until the next source needs a tick; infinite if none does.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database cannot be read.
        """
        with self._engine.begin() as connection:
            due = sources.next_due(connection)
        return math.inf if due is None else (due - self._time.at(now).at(now)).total_seconds()

    def acknowledge(self, alarm_id: str, user: str, comment: str = "", verdict: Verdict | None = None) -> AlarmRecord:
        """Note that somebody has seen an alarm, and what was found; a verdict may come later than the first time.

        Raises:
            InputError: no such alarm, or no user.
        """
        alarm, now = self.alarm(alarm_id), self._wall_clock()
        act = Act(Change.ACKNOWLEDGED, named(user), remark(comment), verdict)
        if self._is_remote(alarm):
            facts = {"alarm_id": alarm_id, "comment": comment, "verdict": verdict}
            return self._direct_alarm(new_directive("acknowledge", alarm.origin, alarm.source, act.user, now, **facts))
        return self._end(alarm, act, now)

    def reset(self, alarm_id: str, user: str, comment: str = "") -> AlarmRecord:
        """End a latched alarm; one that has ended stays as it is.

        Raises:
            InputError: no such alarm, one that is not latched, or no user.
        """
        alarm, now = self.alarm(alarm_id), self._wall_clock()
        act = Act(Change.RESET, named(user), remark(comment))
        if alarm.phase not in (Phase.LATCHED, Phase.NORMAL):
            raise InputError(
                "alarm-not-latched",
                f"Alarm {alarm_id} is {alarm.phase.replace('_', ' ')}: only a latched one can be reset.",
                "Acknowledge it, and wait until its condition returns to normal.",
            )
        if self._is_remote(alarm):
            facts = {"alarm_id": alarm_id, "comment": comment}
            return self._direct_alarm(new_directive("reset", alarm.origin, alarm.source, act.user, now, **facts))
        return self._end(alarm, act, now)

    def shelve(self, source: str, user: str, seconds: float, comment: str = "") -> Phase:
        """Tell nobody about a source for so many seconds from now; it is judged and logged as ever.

        Raises:
            InputError: no such source, no user, or no time.
        """
        if not seconds > 0:
            raise InputError(
                "shelving-seconds", f"A shelving of {seconds:g} s shelves nothing.", "Give a time above 0."
            )
        return self._manage("shelve", Shelving(seconds), source, user, comment)

    def unshelve(self, source: str, user: str, comment: str = "") -> Phase:
        """End a shelving before its time; what still stands is told.

        Raises:
            InputError: no such source, or no user.
        """
        return self._manage("unshelve", Unshelving(), source, user, comment)

    def remove_from_service(self, source: str, user: str, comment: str = "") -> Phase:
        """Stop judging a source until somebody returns it to service.

        Raises:
            InputError: no such source, or no user.
        """
        return self._manage("remove_from_service", Removal(), source, user, comment)

    def return_to_service(self, source: str, user: str, comment: str = "") -> Phase:
        """Judge a source again.

        Raises:
            InputError: no such source, or no user.
        """
        return self._manage("return_to_service", ServiceReturn(), source, user, comment)

    def revise_evidence(self, alarm_id: str, files: tuple[EvidenceFile, ...]) -> AlarmRecord:
        """Set an alarm's evidence: a file was completed or has moved. Of an alarm of another store only the copy here.

        Raises:
            InputError: no such alarm.
        """
        alarm = self.alarm(alarm_id)
        if self._is_remote(alarm):
            return self._revise_remote(alarm_id, files)
        return self._amend(alarm, Cause(alarm.source, self._wall_clock()), Change.EVIDENCE, evidence=files)

    def apply(self, directive: Directive) -> None:
        """Carry out what a person did at the plant-wide record; again, or too late, it changes nothing.

        An acknowledgement or a reset is of one raise: if the alarm has been raised again since, it still stands.
        """
        with self._engine.begin() as connection:
            if is_applied(connection, directive.id):
                return
            alarm = read_alarm(connection, directive.alarm_id or "", self._origin)
            known = sources.find(connection, directive.source) is not None
        act = Act(
            CHANGES[directive.action], directive.user, directive.comment, directive.verdict, directive_id=directive.id
        )
        now = self._time.moment()
        if alarm is not None and alarm.idempotency_key == directive.raise_key:
            self._end(alarm, act, directive.at)
        elif known and (event := _event(directive, now)) is not None:
            self._act(directive.source, act, event, now)
        with self._writer.begin() as connection:
            note_applied(connection, directive.id, now)

    def prune(self, before: datetime) -> None:
        """Forget what came before a time: transitions that are of no alarm, directives that are done, past silences."""
        log, orders, done, quiet = tables.transitions, tables.directives, tables.applied, tables.silences
        newest = select(func.max(log.c.id)).scalar_subquery()  # stays, since SQLite would give its id again
        for key, old in (
            (log.c.id, (log.c.at < before) & log.c.alarm_id.is_(None) & (log.c.id < newest)),
            (orders.c.id, orders.c.done_at < before),
            (done.c.directive_id, done.c.at < before),
            (quiet.c.id, quiet.c.ends_at < before),
        ):
            some = delete(key.table).where(key.in_(select(key).where(old).limit(_PRUNED)))
            removed = _PRUNED
            while removed == _PRUNED:
                with self._writer.begin() as connection:
                    removed = connection.execute(some).rowcount

    def pending_deliveries(self) -> list[Delivery]:
        """Messages that are still to be sent, oldest first."""
        return self.outbox.pending()

    def dead_deliveries(self) -> list[Delivery]:
        """Messages that were given up, oldest first; one that cannot be read any more is only logged."""
        return self.outbox.dead()

    def overdue(self, now: float) -> float:
        """Seconds that the oldest message which is still to be sent is late, by the clock of `observe`; 0 if none."""
        return self.outbox.overdue(self._time.at(now).at(now))

    def _end(self, alarm: AlarmRecord, act: Act, at: datetime) -> AlarmRecord:
        """Acknowledge or reset one raise of an alarm of this store, and note the verdict even if that was done."""

        def same(before: Loaded) -> bool:
            found = before.alarm
            return found is not None and (found.id, found.idempotency_key) == (alarm.id, alarm.idempotency_key)

        self._act(alarm.source, act, Reset() if act.change is Change.RESET else Acknowledgement(), at, same)
        if act.verdict is None:
            return self.alarm(alarm.id)
        return self._amend(alarm, Cause(alarm.source, at, act=act), Change.ACKNOWLEDGED, verdict=act.verdict)

    def _act(self, source: str, act: Act, event: Event, at: datetime, guard: Guard = lambda _: True) -> None:
        clock, now = self._time.present()
        self._step(Cause(source, at, act=act), event, clock, now, guard=guard)

    def _manage(self, action: Action, event: Event, source: str, user: str, comment: str) -> Phase:
        act, now = Act(CHANGES[action], named(user), remark(comment)), self._wall_clock()
        with self._engine.begin() as connection:
            own = sources.find(connection, source) is not None
        if own:
            self._act(source, act, event, now)
            return self.phase(source)
        until = now + timedelta(seconds=event.seconds) if isinstance(event, Shelving) else None
        return self._direct_source(new_directive(action, "", source, act.user, now, comment=comment, until=until))


def _event(directive: Directive, now: datetime) -> Event | None:
    """What a directive about a source is to the state machine; None for a shelving that is over."""
    match directive.action:
        case "shelve" if directive.until is not None and directive.until > now:
            return Shelving((directive.until - now).total_seconds())
        case "unshelve":
            return Unshelving()
        case "remove_from_service":
            return Removal()
        case "return_to_service":
            return ServiceReturn()
        case _:
            return None
