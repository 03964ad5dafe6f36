"""What one step of a source writes: the effects of the state machine turned into records and rows."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, delete, insert, update

from almenara.alarms import tables
from almenara.alarms.records import AlarmRecord, Notification, Transition
from almenara.alarms.state import Change, Effect, Move, Notify, Phase, Rule, State
from almenara.contracts import Observation


@dataclass(frozen=True)
class Evidence:
    """Paths of what was saved, or a note that says why nothing was."""

    paths: tuple[str, ...] = ()
    note: str = ""

    @classmethod
    def save(cls, save: Callable[[], tuple[str, ...]] | None) -> Evidence:
        """Let the caller save its evidence; an alarm goes out whatever becomes of that."""
        if save is None:
            return cls()
        try:
            return cls(paths=tuple(save()))
        except Exception as error:  # noqa: BLE001 - a full disk must not hold an alarm back
            return cls(note=f"Evidence could not be saved: {type(error).__name__}: {error}")


@dataclass(frozen=True)
class Cause:
    """What made the source step: an observation under a rule, or a person."""

    source: str
    at: datetime
    observation: Observation | None = None
    rule: Rule | None = None
    evidence: Evidence = Evidence()
    user: str | None = None
    comment: str = ""

    @property
    def reason(self) -> str:
        return self.comment if self.observation is None else self.observation.reason

    @property
    def anomaly(self) -> float | None:
        return None if self.observation is None else self.observation.anomaly


@dataclass
class Changeset:
    """Alarm, transitions and notifications of one step, collected and then written.

    Attributes:
        cause: what made the source step.
        alarm: the standing alarm, or the one that this step raises.
        held_back: whether the standing alarm's latest raise was waiting to be told before this step.
        notifications: what to tell, each with the seconds for which it is held back.
    """

    cause: Cause
    alarm: AlarmRecord | None
    held_back: bool = False
    transitions: list[Transition] = field(default_factory=list)
    notifications: list[tuple[Notification, float]] = field(default_factory=list)

    @classmethod
    def of(
        cls, cause: Cause, alarm: AlarmRecord | None, before: State, after: State, effects: Sequence[Effect]
    ) -> Changeset:
        """Collect the effects of a step from one settled state to the next."""
        changes = cls(cause, alarm, before.held_back)
        for effect in effects:
            if isinstance(effect, Move):
                changes._move(effect, after.peak)
            else:
                changes._notify(effect)
        if changes.standing_id is not None:
            changes._alter(peak=after.peak)
        return changes

    @property
    def standing_id(self) -> str | None:
        """Id of the alarm that stands after this step."""
        return None if self.alarm is None or self.alarm.phase is Phase.NORMAL else self.alarm.id

    def write(self, connection: Connection, known: AlarmRecord | None, channels: Sequence[str], now: datetime) -> None:
        """Write it all; ``known`` is the alarm as the database has it, messages not held back are due ``now``."""
        if self.alarm is not None and self.alarm != known:
            values = self.alarm.model_dump()
            if known is not None and known.id == self.alarm.id:
                connection.execute(update(tables.alarms).where(tables.alarms.c.id == known.id).values(values))
            else:
                connection.execute(insert(tables.alarms).values(values))
            if known is not None and self.held_back:
                self._revise_held(connection, known.idempotency_key, self.alarm, now)
        if self.transitions:
            connection.execute(insert(tables.transitions), [t.model_dump() for t in self.transitions])
        rows = [
            _delivery(notification, channel, now + timedelta(seconds=delay))
            for notification, delay in self.notifications
            for channel in channels
        ]
        if rows:
            connection.execute(insert(tables.deliveries), rows)

    @staticmethod
    def _revise_held(connection: Connection, key: str, alarm: AlarmRecord, now: datetime) -> None:
        """Let the message of a raise that is held back show the alarm as it stands; withdraw one that is outdated."""
        rows = tables.deliveries
        held = and_(rows.c.key == key, rows.c.attempts == 0, rows.c.next_at > now)
        if alarm.idempotency_key != key or alarm.acknowledged_at is not None:
            connection.execute(delete(rows).where(held))
        else:
            message = Notification(key=key, event="raised", at=alarm.raised_at, alarm=alarm)
            connection.execute(update(rows).where(held).values(notification=message.model_dump(mode="json")))

    def _move(self, move: Move, peak: float) -> None:
        key = str(uuid.uuid4())
        match move.change:
            case Change.RAISED:
                self.alarm = self._new_alarm(key, peak)
            case Change.RAISED_AGAIN:
                self._alter(
                    phase=move.phase,
                    score=self.cause.anomaly,
                    reason=self.cause.reason,
                    evidence=self.cause.evidence.paths,
                    note=self.cause.evidence.note,
                    raised_at=self.cause.at,
                    cleared_at=None,
                    idempotency_key=key,
                )
            case Change.RETURNED:
                self._alter(phase=move.phase, cleared_at=self.cause.at)
            case Change.ACKNOWLEDGED:
                self._alter(
                    phase=Phase.NORMAL if move.phase is Phase.PENDING else move.phase,
                    acknowledged_at=self.cause.at,
                    acknowledged_by=self.cause.user,
                    comment=self.cause.comment,
                )
        self.transitions.append(
            Transition(
                key=key,
                source=self.cause.source,
                alarm_id=None if self.alarm is None else self.alarm.id,
                change=move.change,
                previous=move.previous,
                phase=move.phase,
                at=self.cause.at,
                anomaly=self.cause.anomaly,
                reason=self.cause.reason,
                user=self.cause.user,
            )
        )

    def _notify(self, notify: Notify) -> None:
        alarm = self._standing_or_ended()
        key = alarm.idempotency_key if notify.event == "raised" else self.transitions[-1].key
        notification = Notification(key=key, event=notify.event, at=self.cause.at, alarm=alarm)
        self.notifications.append((notification, notify.delay_seconds))

    def _new_alarm(self, key: str, peak: float) -> AlarmRecord:
        cause, observation, rule = self.cause, self.cause.observation, self.cause.rule
        if observation is None or observation.anomaly is None or rule is None:
            raise ValueError("only a scored observation raises an alarm")
        return AlarmRecord(
            id=str(uuid.uuid4()),
            source=cause.source,
            kind=observation.kind,
            priority=rule.priority,
            phase=Phase.UNACKNOWLEDGED,
            score=observation.anomaly,
            peak=peak,
            reason=observation.reason,
            model=observation.model,
            evidence=cause.evidence.paths,
            note=cause.evidence.note,
            raised_at=cause.at,
            idempotency_key=key,
        )

    def _alter(self, **values: Any) -> None:
        self.alarm = self._standing_or_ended().model_copy(update=values)

    def _standing_or_ended(self) -> AlarmRecord:
        if self.alarm is None:
            raise ValueError(f"source {self.cause.source!r} has no alarm to change")
        return self.alarm


def _delivery(notification: Notification, channel: str, due: datetime) -> dict[str, Any]:
    return {
        "key": notification.key,
        "alarm_id": notification.alarm.id,
        "channel": channel,
        "notification": notification.model_dump(mode="json"),
        "attempts": 0,
        "next_at": due,
        "error": "",
    }
