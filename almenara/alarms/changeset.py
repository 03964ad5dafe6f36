"""What one step of a source writes: the effects of the state machine turned into records and rows."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, update

from almenara.alarms import tables
from almenara.alarms.queries import alarm_row, transition_row
from almenara.alarms.records import LONGEST_REASON, AlarmRecord, EvidenceFile, Notification, Transition
from almenara.alarms.rule import Rule
from almenara.alarms.sources import Loaded
from almenara.alarms.state import Effect, Move, Notify, State
from almenara.alarms.vocabulary import Change, Phase, Verdict
from almenara.contracts import Observation
from almenara.errors import NoEvidenceError
from almenara.redaction import redact


@dataclass(frozen=True)
class Evidence:
    """What was saved, or a note that says why nothing was."""

    files: tuple[EvidenceFile, ...] = ()
    note: str = ""

    @classmethod
    def save(cls, save: Callable[[], tuple[EvidenceFile, ...]]) -> Evidence:
        """Let the caller save its evidence; an alarm goes out whatever becomes of that."""
        try:
            return cls(files=tuple(save()))
        except NoEvidenceError as error:
            return cls(note=_kept(redact(str(error))))
        except Exception as error:  # noqa: BLE001 - whatever fails must not hold an alarm back
            return cls(note=_kept(redact(f"Evidence could not be saved: {type(error).__name__}: {error}.")))


@dataclass(frozen=True)
class Act:
    """What a person did.

    Attributes:
        change: the transition that it makes; others of the same step are nobody's.
        user: who.
        comment: why.
        verdict: what was found.
        directive_id: set when it was done at the plant-wide record; the transition takes this key.
    """

    change: Change
    user: str
    comment: str = ""
    verdict: Verdict | None = None
    directive_id: str | None = None


@dataclass(frozen=True)
class Cause:
    """What made the source step: an observation under a rule, a person, or, without both, time."""

    source: str
    at: datetime
    observation: Observation | None = None
    rule: Rule | None = None
    evidence: Evidence = Evidence()
    act: Act | None = None


@dataclass
class Changeset:
    """Alarm, transitions and notifications of one step, collected and then written.

    Attributes:
        cause: what made the source step.
        origin: name of this store.
        known: the standing alarm as the database has it.
        alarm: the standing alarm, or the one that this step raises or ends.
        mentioned: the alarm that news are of.
        news_key: key of the return that is still to be told.
    """

    cause: Cause
    origin: str
    known: AlarmRecord | None
    alarm: AlarmRecord | None
    mentioned: AlarmRecord | None = None
    news_key: str | None = None
    transitions: list[Transition] = field(default_factory=list)
    notifications: list[Notification] = field(default_factory=list)

    @classmethod
    def of(
        cls, cause: Cause, origin: str, before: Loaded, after: State, effects: Sequence[Effect], moment: datetime
    ) -> Changeset:
        """Collect the effects of a step; messages are told at `moment`."""
        changes = cls(cause, origin, before.alarm, before.alarm, before.mentioned, before.row.get("news_key"))
        for effect in effects:
            if isinstance(effect, Move):
                changes._move(effect, after)
        if changes.alarm is not None:
            phase = Phase.NORMAL if after.phase is Phase.PENDING else after.phase
            changes._alter(phase=phase, peak=changes.alarm.peak if phase is Phase.NORMAL else after.peak)
            changes._count_revision()
        for effect in effects:
            if isinstance(effect, Notify):
                changes._notify(effect, moment, chattering=after.chattering)
        if after.news != "returned":
            changes.news_key = None
        return changes

    @property
    def standing_id(self) -> str | None:
        """Id of the alarm that stands after this step."""
        return None if self.alarm is None or not self.alarm.stands else self.alarm.id

    def amend(self, change: Change, **values: Any) -> None:
        """Change the alarm and log it, where the source does not step; nothing if it is so already."""
        if self.alarm is not None and any(getattr(self.alarm, name) != value for name, value in values.items()):
            self._alter(**values)
            self._count_revision()
            move = Move(change, self.alarm.phase, self.alarm.phase)
            self._log(move, self._key(move))

    def write(self, connection: Connection, channels: Callable[[AlarmRecord], Sequence[str]], moment: datetime) -> None:
        """Write it all; messages are due at `moment`."""
        if self.alarm is not None and self.alarm != self.known:
            values = alarm_row(self.alarm, self.origin)
            if self.known is not None and self.known.id == self.alarm.id:
                connection.execute(update(tables.alarms).where(tables.alarms.c.id == self.alarm.id).values(values))
            else:
                connection.execute(insert(tables.alarms).values(values))
        if self.transitions:
            rows = [transition_row(transition, self.origin) for transition in self.transitions]
            connection.execute(insert(tables.transitions), rows)
        rows = [_delivery(each, channel, moment) for each in self.notifications for channel in channels(each.alarm)]
        if rows:
            connection.execute(insert(tables.deliveries), rows)

    def _move(self, move: Move, after: State) -> None:
        act, key = self._act(move), self._key(move)
        match move.change:
            case Change.RAISED:
                self.alarm = self._new_alarm(key, after.peak)
            case Change.RAISED_AGAIN:
                self._raise_again(key)
            case Change.RETURNED:
                self._alter(cleared_at=self.cause.at)
                self.news_key = key
            case Change.ACKNOWLEDGED if act is not None:
                facts = {"acknowledged_by": act.user, "comment": act.comment, "verdict": act.verdict}
                self._alter(acknowledged_at=self.cause.at, **facts)
        self._log(move, key)

    def _log(self, move: Move, key: str) -> None:
        act, observation = self._act(move), self.cause.observation
        if move.change is Change.LOST and (observation is None or observation.anomaly is not None):
            reason, anomaly = "no reading came", None
        else:
            reason = self._reason
            anomaly = None if observation is None else observation.anomaly
        nobodys = self.alarm is None or move.change is Change.PENDING
        self.transitions.append(
            Transition(
                key=key,
                origin=self.origin,
                source=self.cause.source,
                alarm_id=None if nobodys or self.alarm is None else self.alarm.id,
                change=move.change,
                previous=move.previous,
                phase=move.phase,
                at=self.cause.at,
                anomaly=anomaly,
                reason=reason if act is None else act.comment,
                user=None if act is None else act.user,
            )
        )

    @property
    def _reason(self) -> str:
        """What the observation says."""
        observation = self.cause.observation
        return "" if observation is None else _kept(observation.reason)

    def _count_revision(self) -> None:
        if self.alarm is not None and self.alarm != self.known:
            self._alter(revision=self.alarm.revision + 1)

    def _act(self, move: Move) -> Act | None:
        """What a person did to cause this transition."""
        act = self.cause.act
        return act if act is not None and act.change is move.change else None

    def _key(self, move: Move) -> str:
        act = self._act(move)
        return str(uuid.uuid4()) if act is None or act.directive_id is None else act.directive_id

    def _notify(self, notify: Notify, moment: datetime, *, chattering: bool) -> None:
        alarm = self.alarm or self.mentioned
        match notify.event:
            case "raised":
                key = None if alarm is None else alarm.idempotency_key
            case "returned":
                key = self.news_key
            case "reminder":
                key = self.transitions[-1].key
        if alarm is None or key is None:
            raise ValueError(f"source {self.cause.source!r} has nothing to tell")
        self.notifications.append(
            Notification(key=key, event=notify.event, at=moment, alarm=alarm, chattering=chattering)
        )

    def _new_alarm(self, key: str, peak: float) -> AlarmRecord:
        cause, observation, rule = self.cause, self.cause.observation, self.cause.rule
        if observation is None or observation.anomaly is None or rule is None:
            raise ValueError("only a scored observation raises an alarm")
        return AlarmRecord(
            id=str(uuid.uuid4()),
            origin=self.origin,
            source=cause.source,
            kind=observation.kind,
            priority=rule.priority,
            phase=Phase.UNACKNOWLEDGED,
            score=observation.anomaly,
            peak=peak,
            reason=self._reason,
            model=observation.model,
            evidence=cause.evidence.files,
            note=cause.evidence.note,
            raised_at=cause.at,
            idempotency_key=key,
        )

    def _raise_again(self, key: str) -> None:
        observation = self.cause.observation
        if observation is None:
            raise ValueError("only a scored observation raises an alarm")
        self._alter(
            score=observation.anomaly,
            reason=self._reason,
            evidence=self.cause.evidence.files,
            note=self.cause.evidence.note,
            raised_at=self.cause.at,
            cleared_at=None,
            acknowledged_at=None,
            acknowledged_by=None,
            comment="",
            verdict=None,
            idempotency_key=key,
        )

    def _alter(self, **values: Any) -> None:
        if self.alarm is None:
            raise ValueError(f"source {self.cause.source!r} has no alarm to change")
        self.alarm = self.alarm.model_copy(update=values)


def _kept(text: str) -> str:
    """A text as far as it can be kept: an alarm goes out whatever it says."""
    return text.replace("\0", "")[:LONGEST_REASON]


def _delivery(notification: Notification, channel: str, moment: datetime) -> dict[str, Any]:
    return {
        "key": notification.key,
        "alarm_id": notification.alarm.id,
        "channel": channel,
        "notification": notification.model_dump(mode="json"),
        "priority": notification.alarm.priority,
        "created_at": moment,
        "attempts": 0,
        "next_at": moment,
        "error": "",
    }
