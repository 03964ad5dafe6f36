"""What the alarm store hands out and takes: alarms, transitions, messages, silences, and reports between stores."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from almenara.alarms.vocabulary import Change, Phase, Priority, Verdict
from almenara.contracts import AlarmKind, Contract, ModelRef

MessageEvent = Literal["raised", "returned", "reminder", "test"]
Action = Literal["acknowledge", "reset", "shelve", "unshelve", "remove_from_service", "return_to_service"]
"""What a person may do to an alarm or a source."""

LONGEST_NAME, LONGEST_COMMENT, LONGEST_REASON = 200, 2000, 4000
"""Characters of a source or a person, of what somebody said, and of what a verdict says."""
_STORABLE = r"^[^\x00]*$"  # PostgreSQL keeps no NUL
Identity = Annotated[str, StringConstraints(max_length=36, pattern=_STORABLE)]
Name = Annotated[str, StringConstraints(max_length=LONGEST_NAME, pattern=_STORABLE)]
Origin = Annotated[str, StringConstraints(max_length=100, pattern=_STORABLE)]
Comment = Annotated[str, StringConstraints(max_length=LONGEST_COMMENT, pattern=_STORABLE)]
Reason = Annotated[str, StringConstraints(max_length=LONGEST_REASON, pattern=_STORABLE)]
Storable = Annotated[str, StringConstraints(pattern=_STORABLE)]
Revision = Annotated[int, Field(ge=0, lt=2**31)]


class EvidenceFile(Contract):
    """One file that shows why an alarm was raised."""

    name: str = Field(max_length=100, description="within the alarm, such as frame.jpg")
    uri: str = Field(max_length=1000, description="a local path, or s3://bucket/key")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0, description="bytes")
    media_type: str = Field(max_length=100)


class AlarmRecord(Contract):
    """One alarm, from its raise to its end. Times are UTC."""

    id: Identity = Field(description="UUID; stays when the alarm is raised again before it was acknowledged")
    origin: Origin = Field(default="", description="the worker that raised it; empty: this store")
    revision: Revision = Field(default=0, description="counts its changes at the store that raised it")
    source: Name = Field(description="camera or asset")
    kind: AlarmKind
    priority: Priority
    phase: Phase = Field(description="of this alarm: normal once it has returned and been acknowledged")
    score: float = Field(ge=0, le=1, description="anomaly of the reading that raised it")
    peak: float = Field(ge=0, le=1, description="highest anomaly since its on-delay began")
    reason: Reason
    model: ModelRef | None
    evidence: tuple[EvidenceFile, ...] = Field(description="of the latest raise")
    note: Storable = Field(default="", description="why there is no evidence, when saving it failed")
    raised_at: datetime = Field(description="of the latest raise")
    cleared_at: datetime | None = Field(default=None, description="when its condition returned to normal")
    acknowledged_at: datetime | None = None
    acknowledged_by: Name | None = None
    comment: Comment = ""
    verdict: Verdict | None = Field(default=None, description="what the person who acknowledged it found")
    idempotency_key: Identity = Field(description="of the latest raise; the message that tells it carries this key")

    @property
    def stands(self) -> bool:
        """Whether it is still open: its condition lasts, or nobody has acknowledged or reset it."""
        return self.phase is not Phase.NORMAL


class Transition(Contract):
    """One step of one source, as it was logged."""

    key: Identity = Field(description="unique; the idempotency key of messages about it")
    origin: Origin = Field(default="", description="the store that logged it; empty: this one")
    source: Name
    alarm_id: Identity | None = Field(description="null: no alarm stood")
    change: Change
    previous: Phase
    phase: Phase
    at: datetime
    anomaly: float | None
    reason: Reason
    user: Name | None = Field(default=None, description="who acknowledged, reset, shelved …")

    @property
    def raised(self) -> bool:
        """Whether this transition put an alarm before people."""
        return self.change.raises


class Notification(Contract):
    """What is told about one alarm. The same key always means the same."""

    key: str = Field(description="idempotency key: at-least-once delivery may bring a message twice, never its key")
    event: MessageEvent
    at: datetime = Field(description="when it was committed for telling")
    alarm: AlarmRecord = Field(description="as it stood then")
    chattering: bool = Field(default=False, description="raised at least three times within a minute")


class Message(Contract):
    """What a channel sends at once: one notification, those of a group, or the digest of a flood."""

    key: str = Field(description="idempotency key: of its only notification, else of the group or digest")
    kind: Literal["single", "group", "digest"] = "single"
    notifications: tuple[Notification, ...] = Field(min_length=1, description="oldest first")
    earlier: tuple[Notification, ...] = Field(default=(), description="digest: told one by one in the same flood")


class Delivery(Contract):
    """A notification on its way to one channel."""

    id: int
    channel: str
    notification: Notification
    attempts: int
    next_at: datetime = Field(description="not tried before")
    batch: str | None = Field(default=None, description="key of the group or digest that it is sent with")
    sent_at: datetime | None
    dead_at: datetime | None = Field(description="when it was given up")
    error: str = Field(description="of the last failed attempt")


class Silence(Contract):
    """A planned time in which nobody is told of some sources; what still stands afterwards is told then."""

    id: Identity = Field(default="", description="UUID, given by the store")
    sources: Name = Field(min_length=1, description="glob, such as line-2/* or *")
    starts_at: datetime
    ends_at: datetime
    user: Name = Field(min_length=1)
    comment: Comment = ""
    ended_by: Name | None = Field(default=None, description="who ended it before its time")


class SourceStatus(Contract):
    """Where a source stands."""

    source: Name
    origin: Origin = Field(default="", description="the store that judges it; empty: this one")
    revision: Revision = Field(default=0, description="counts the changes of its state at that store")
    phase: Phase
    since: datetime | None = Field(description="when it came into this phase; null: not known")
    shelved_until: datetime | None = None
    alarm_id: Identity | None = Field(default=None, description="the alarm that stands")


class Report(Contract):
    """A transition, and how its alarm and its source stand now, as one store tells another."""

    transition: Transition
    alarm: AlarmRecord | None
    status: SourceStatus | None = None


class Directive(Contract):
    """What a person did at the plant-wide record, for the worker whose alarm or source it concerns."""

    id: Identity = Field(description="UUID; applied once")
    origin: Origin = Field(description="the worker it is for")
    action: Action
    source: Name
    alarm_id: Identity | None = None
    raise_key: Identity | None = Field(
        default=None, description="the raise that was acknowledged or reset; no later one is"
    )
    until: datetime | None = Field(default=None, description="end of a shelving")
    user: Name
    comment: Comment = ""
    verdict: Verdict | None = None
    at: datetime


class Directives(Contract):
    """All that a worker has to know of what people did at the record."""

    directives: tuple[Directive, ...]
    silences: tuple[Silence, ...] = Field(description="in force now or later; they replace the worker's copy")
    evidence_wanted: tuple[str, ...] = Field(default=(), description="ids of alarms whose evidence the record lacks")
