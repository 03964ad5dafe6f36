"""Observations, clocks and channels for tests of the alarm engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from almenara.alarms import AlarmStore, Change, EvidenceFile, Message, Notification, Rule
from almenara.alarms.channels import Pace
from almenara.contracts import ModelRef, Observation

START = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)
MODEL = ModelRef(name="outflow", version="3", alias="champion")
NOW_RULE = Rule(on_delay_seconds=0, off_delay_seconds=0, cooldown_seconds=0)
SLOW_RULE = Rule(on_delay_seconds=2, off_delay_seconds=5, cooldown_seconds=60, priority="critical")


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
    pace: Pace | None = None
    messages: list[Message] = field(default_factory=list)
    closed: bool = False

    @property
    def received(self) -> list[Notification]:
        return [notification for message in self.messages for notification in message.notifications]

    def send(self, message: Message) -> None:
        if self.failures > 0:
            self.failures -= 1
            raise ConnectionError("receiver is away")
        self.messages.append(message)

    def close(self) -> None:
        self.closed = True


@contextmanager
def running(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """`Deliverer.run` or `Ticker.run` in a thread of its own."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()


def evidence_file(name: str = "frame.jpg", content: str = "0") -> EvidenceFile:
    return EvidenceFile(
        name=name, uri=f"/evidence/{name}", sha256=content * 64, size=len(content), media_type="image/jpeg"
    )


def observation(anomaly: float | None, *, source: str = "outflow-1", at: datetime = START) -> Observation:
    return Observation(
        source=source,
        kind="vision",
        anomaly=anomaly,
        reason="foreign object",
        model=MODEL,
        observed_at=at,
    )


def observe(
    store: AlarmStore, clock: Clock, anomaly: float | None, rule: Rule = NOW_RULE, *, source: str = "outflow-1"
) -> list[Change]:
    """Let a store see something now; what changed."""
    seen = observation(anomaly, source=source, at=clock.wall())
    return [transition.change for transition in store.observe(seen, rule, now=clock.seconds)]


def told(store: AlarmStore, channel: str = "log") -> list[str]:
    """What is to be told on a channel, oldest first."""
    return [each.notification.event for each in store.pending_deliveries() if each.channel == channel]
