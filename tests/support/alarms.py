"""Observations, clocks and channels for tests of the alarm engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from almenara.alarms import Notification
from almenara.contracts import ModelRef, Observation

START = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)
MODEL = ModelRef(name="outflow", version="3", alias="champion")


@dataclass
class Clock:
    """A clock that stands until it is moved; monotonic seconds and wall time go together."""

    seconds: float = 1000.0

    def wall(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def forward(self, seconds: float) -> None:
        self.seconds += seconds


@dataclass
class CollectingChannel:
    """Keeps what it is sent; fails as often as told to."""

    name: str = "log"
    failures: int = 0
    received: list[Notification] = field(default_factory=list)

    def send(self, notification: Notification) -> None:
        if self.failures > 0:
            self.failures -= 1
            raise ConnectionError("receiver is away")
        self.received.append(notification)


def observation(anomaly: float | None, *, source: str = "outflow-1", at: datetime = START) -> Observation:
    return Observation(
        source=source,
        kind="vision",
        anomaly=anomaly,
        reason="foreign object",
        model=MODEL,
        observed_at=at,
    )
