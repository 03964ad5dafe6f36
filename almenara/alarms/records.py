"""What the alarm store hands out: alarms, transitions, deliveries and the message that channels send."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from almenara.alarms.state import Change, Phase, Priority
from almenara.contracts import AlarmKind, Contract, ModelRef


class AlarmRecord(Contract):
    """One alarm, from its raise to its end. Times are UTC."""

    id: str = Field(description="UUID; stays when the alarm is raised again before it was acknowledged")
    source: str = Field(description="camera or asset")
    kind: AlarmKind
    priority: Priority
    phase: Phase = Field(description="of this alarm: normal once it has returned and been acknowledged")
    score: float = Field(ge=0, le=1, description="anomaly of the reading that raised it")
    peak: float = Field(ge=0, le=1, description="highest anomaly since its on-delay began")
    reason: str
    model: ModelRef | None
    evidence: tuple[str, ...] = Field(description="paths of the latest raise's evidence")
    note: str = Field(default="", description="why there is no evidence, when saving it failed")
    raised_at: datetime = Field(description="of the latest raise")
    cleared_at: datetime | None = Field(default=None, description="when its condition returned to normal")
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    comment: str = ""
    idempotency_key: str = Field(description="of the latest raise; the message that tells it carries this key")


class Transition(Contract):
    """One step of one source, as it was logged."""

    key: str = Field(description="unique; the idempotency key of messages about it")
    source: str
    alarm_id: str | None = Field(description="null: no alarm stood")
    change: Change
    previous: Phase
    phase: Phase
    at: datetime
    anomaly: float | None
    reason: str
    user: str | None = Field(default=None, description="who acknowledged")

    @property
    def raised(self) -> bool:
        """Whether this transition put an alarm before people."""
        return self.change.raises


class Notification(Contract):
    """One message to one channel. The same key always means the same message."""

    key: str = Field(description="idempotency key: at-least-once delivery may bring a message twice, never its key")
    event: Literal["raised", "returned"]
    at: datetime = Field(description="when it was committed for telling")
    alarm: AlarmRecord = Field(description="as it stood then")


class Delivery(Contract):
    """A message on its way to one channel."""

    id: int
    channel: str
    notification: Notification
    attempts: int
    next_at: datetime = Field(description="not tried before")
    sent_at: datetime | None
    dead_at: datetime | None = Field(description="when it was given up")
    error: str = Field(description="of the last failed attempt")
