"""The deliverer: takes messages from the outbox to their channels, again and again until they arrive."""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from almenara.alarms.channels.base import Channel, Listening
from almenara.alarms.leases import Lease
from almenara.alarms.lull import Lull
from almenara.alarms.pacing import Send, Wait, decide, new_batch
from almenara.alarms.queries import AlarmFilter
from almenara.alarms.records import Delivery, Message
from almenara.alarms.rule import Rule
from almenara.alarms.store import AlarmStore
from almenara.alarms.ticking import Endurance
from almenara.contracts import Observation
from almenara.redaction import redact

_log = logging.getLogger(__name__)

FAILING_SECONDS = 300.0
"""A channel on which every attempt has failed for so long becomes an alarm."""
_MOST_TOGETHER = 2000
"""Notifications in one group or digest; the rest follows in the next."""
_CHANNEL_RULE = Rule(on_delay_seconds=0, off_delay_seconds=0)


class Deliverer:
    """Sends what is due on each channel, one thread a channel, so that a slow one holds up no other.

    Several deliverers, in any processes, may share a store: a channel is served by whoever holds its lease. Failed
    messages are tried again, by default for more than a day, then given up and kept: `AlarmStore.dead_deliveries`.
    No failure ends a channel's thread.

    A channel that fails for five minutes, or gives a message up, becomes an alarm of its own, source ``channel/NAME``,
    which is told through the others and returns when a message arrives.

    Args:
        store: whose outbox to empty.
        channels: what to send through; messages for other channels are left alone. Who opened them closes them.
        lease_seconds: after which another process takes over from one that was killed or hangs.
        poll_seconds: how often an empty outbox is looked at; one in SQLite only after a commit or when one is due.
        first_retry_seconds: pause after the first failure of a message; it doubles with every further one.
        longest_retry_seconds: longest pause. Of each a random half is taken off, so that many senders do not return in
            step.
        max_attempts: after so many a message is given up.
        wall_clock: gives the present as an aware datetime.
        monotonic: the clock that `AlarmStore.observe` is given.
    """

    def __init__(
        self,
        store: AlarmStore,
        channels: Sequence[Channel],
        *,
        lease_seconds: float = 30.0,
        poll_seconds: float = 0.25,
        first_retry_seconds: float = 1.0,
        longest_retry_seconds: float = 300.0,
        max_attempts: int = 600,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        owner, retries = str(uuid.uuid4()), _Retries(first_retry_seconds, longest_retry_seconds, max_attempts)
        self._poll_seconds = poll_seconds
        self._threads: dict[str, threading.Thread] = {}
        self._lines = [
            _Line(
                store,
                channel,
                Lease(
                    store.leases, f"channel:{channel.name}", owner=owner, seconds=lease_seconds, wall_clock=wall_clock
                ),
                retries,
                wall_clock,
                monotonic,
            )
            for channel in channels
        ]

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set; an attempt in progress is finished.

        Its threads are daemons: a process that ends without setting `stop` is not kept alive, and what it was sending
        is sent again by the next.
        """
        self._threads = {
            line.name: threading.Thread(
                target=self._serve, args=(line, stop), name=f"alarms-to-{line.name}", daemon=True
            )
            for line in self._lines
        }
        for thread in self._threads.values():
            thread.start()
        stop.wait()
        for thread in self._threads.values():
            thread.join()

    @property
    def busy(self) -> frozenset[str]:
        """Names of the channels that `run` serves, or has not left yet."""
        return frozenset(name for name, thread in self._threads.items() if thread.is_alive())

    def drain(self) -> int:
        """Try everything that is due now, once, except on channels that are busy; the number of messages that arrived.

        For the end of a process.
        """
        busy = self.busy
        return sum(line.drain() for line in self._lines if line.name not in busy)

    def _serve(self, line: _Line, stop: threading.Event) -> None:
        endurance = Endurance(f"Delivering on channel {line.name}", _log)
        while not stop.is_set():
            if endurance.run(line.look) is None:
                line.listen()
                stop.wait(self._poll_seconds)
        endurance.run(line.release)


@dataclass(frozen=True)
class _Retries:
    """When a failed message is tried again, and after how many attempts it is given up."""

    first_seconds: float
    longest_seconds: float
    attempts: int

    def pause_seconds(self, attempts: int) -> float:
        """Pause after the given number of failed attempts."""
        doubled = self.first_seconds * 2.0 ** min(attempts - 1, 60)
        return min(doubled, self.longest_seconds) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret


class _Line:
    """The way to one channel."""

    def __init__(
        self,
        store: AlarmStore,
        channel: Channel,
        lease: Lease,
        retries: _Retries,
        wall_clock: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._store, self._outbox, self._channel, self._lease = store, store.outbox, channel, lease
        self._retries, self._wall_clock, self._monotonic = retries, wall_clock, monotonic
        self._lock = threading.Lock()
        self._unmarked: tuple[int, ...] = ()
        self._has_arrived = False
        self._listens = False
        self._failing_since: datetime | None = None
        self._in_trouble: bool | None = None
        self._lull = Lull()

    @property
    def name(self) -> str:
        return self._channel.name

    def drain(self) -> int:
        arrived = 0
        try:
            while (success := self.attempt()) is not None:
                arrived += success
        finally:
            self.release()
        return arrived

    def look(self) -> bool | None:
        """As `attempt`, without a look into an outbox that is known to hold nothing that is due."""
        if self._lull.lasts(self._store.version, self._monotonic()):
            return None
        return self.attempt()

    def attempt(self) -> bool | None:
        """Try the next message: whether it arrived, or None if there is none to try now."""
        with self._lock:
            self._note_arrival()
            if not self._lease.known:
                self._in_trouble, self._listens = None, False
            if not self._lease.held():
                return None
            version, now = self._store.version(), self._wall_clock()
            send = self._next(now)
            if send is not None:
                return self._try(send)
            if version is not None:
                self._lull = Lull(version, until=self._monotonic() + self._pause_seconds(now))
            return None

    def _pause_seconds(self, now: datetime) -> float:
        """How long nothing becomes due on the channel, as far as nobody commits."""
        due = self._outbox.next_at(self.name)
        pause = self._lease.renewal_seconds
        return pause if due is None else min(pause, (due - now).total_seconds())

    def listen(self) -> None:
        """Have the channel there before its first message, if this process serves it; once, whatever becomes of it."""
        if self._listens or not self._lease.known or not isinstance(self._channel, Listening):
            return
        self._listens = True
        try:
            self._channel.start()
        except Exception as error:  # noqa: BLE001 - the first message will try again
            _log.warning("Channel %s: %s", self.name, redact(f"{type(error).__name__}: {error}"))

    def release(self) -> None:
        """Let another process serve the channel at once."""
        with self._lock:
            self._lease.release()

    def _next(self, now: datetime) -> Send | None:
        first = self._outbox.due(self.name, now)
        pace = self._channel.pace
        if first is None or pace is None:
            return None if first is None else Send((first.id,), "single")
        waiting = self._outbox.waiting(self.name, now, _MOST_TOGETHER)
        sent = self._outbox.sent_times(self.name, now - timedelta(seconds=2 * pace.window_seconds))
        chosen = decide(pace, waiting or [first], sent, now)
        if isinstance(chosen, Wait):
            self._outbox.postpone(self.name, now, chosen.until)
            return None
        if chosen.kind != "single" and chosen.batch is None:
            batch = new_batch(chosen.kind, now)
            self._outbox.batch(chosen.ids, batch)
            return Send(chosen.ids, chosen.kind, batch)
        return chosen

    def _try(self, send: Send) -> bool:
        now = self._wall_clock()
        if send.batch is None:
            deliveries = self._outbox.read(send.ids, now)
        else:
            deliveries = self._outbox.read_batch(self.name, send.batch, now)
        if not deliveries:
            return False
        message = self._message(send, deliveries)
        try:
            self._channel.send(message)
        except Exception as error:  # noqa: BLE001 - whatever a channel fails with, the message is kept and retried
            self._note_failure(message, deliveries, redact(f"{type(error).__name__}: {error}"))
            return False
        self._unmarked = tuple(delivery.id for delivery in deliveries)
        self._note_arrival()
        return True

    def _message(self, send: Send, deliveries: Sequence[Delivery]) -> Message:
        notifications = tuple(delivery.notification for delivery in deliveries)
        if send.batch is None:
            return Message(key=notifications[0].key, notifications=notifications)
        pace = self._channel.pace
        earlier = (
            self._outbox.told_before(self.name, send.batch, pace.window_seconds)
            if pace is not None and send.kind == "digest"
            else ()
        )
        return Message(key=send.batch, kind=send.kind, notifications=notifications, earlier=tuple(earlier))

    def _note_arrival(self) -> None:
        """Mark what arrived. As long as the database does not take that, nothing else is sent, nor the same again."""
        if self._unmarked:
            self._outbox.sent(self._unmarked, self._wall_clock())
            self._unmarked, self._has_arrived, self._failing_since = (), True, None
        if self._has_arrived:
            if self._in_trouble is None:
                standing = AlarmFilter(source=self._source, standing=True)
                self._in_trouble = bool(self._store.alarms(standing, limit=1))
            self._report(0.0, "A message arrived.")
            self._has_arrived = False

    def _note_failure(self, message: Message, deliveries: Sequence[Delivery], error: str) -> None:
        now, ids = self._wall_clock(), [delivery.id for delivery in deliveries]
        attempts = min(delivery.attempts for delivery in deliveries) + 1
        if attempts >= self._retries.attempts:
            _log.error("Channel %s: message %s given up after %d attempts: %s", self.name, message.key, attempts, error)
            self._outbox.give_up(ids, now, error)
            self._report(1.0, f"A message was given up after {attempts} attempts: {error}")
            return
        pause = self._retries.pause_seconds(attempts)
        _log.warning(
            "Channel %s: message %s, attempt %d failed (%s); again in %.1f s.",
            self.name,
            message.key,
            attempts,
            error,
            pause,
        )
        self._outbox.failed(ids, error, now + timedelta(seconds=pause))
        since = self._failing_since = self._failing_since or now
        if (now - since).total_seconds() >= FAILING_SECONDS:
            self._report(1.0, f"Nothing has arrived since {since:%Y-%m-%d %H:%M} UTC: {error}")

    def _report(self, anomaly: float, reason: str) -> None:
        """Tell the store how the channel is, unless it knows."""
        in_trouble = anomaly > 0
        if self._in_trouble is in_trouble:
            return
        seen = Observation(
            source=self._source, kind="system", anomaly=anomaly, reason=reason, observed_at=self._wall_clock()
        )
        self._store.observe(seen, _CHANNEL_RULE, now=self._monotonic())
        self._in_trouble = in_trouble

    @property
    def _source(self) -> str:
        return f"channel/{self.name}"
