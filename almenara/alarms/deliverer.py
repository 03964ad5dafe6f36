"""The deliverer: takes messages from the outbox to their channels, again and again until they arrive."""

from __future__ import annotations

import logging
import random
import threading
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from almenara.alarms.channels import Channel
from almenara.alarms.records import Delivery
from almenara.alarms.store import AlarmStore

_log = logging.getLogger(__name__)


class Deliverer:
    """Sends what is due on each channel, one thread a channel, so that a slow one holds up no other.

    A failed message is tried again after ``first_retry_seconds``, doubled each time up to ``longest_retry_seconds``,
    of which a random half is taken off so that many senders do not return in step. After ``max_attempts`` (by default
    more than twelve hours) it is given up and kept: `AlarmStore.dead_deliveries`. So is a message that cannot be read;
    no failure ends a channel's thread.

    Args:
        store: whose outbox to empty; several deliverers, in any processes, may share it.
        channels: what to send through; messages for other channels are left alone.
        lease_seconds: how long one attempt may take before another deliverer takes the message over.
        poll_seconds: how often an empty outbox is looked at.
        wall_clock: gives the present as an aware datetime.
    """

    def __init__(
        self,
        store: AlarmStore,
        channels: Sequence[Channel],
        *,
        lease_seconds: float = 15.0,
        poll_seconds: float = 0.5,
        first_retry_seconds: float = 1.0,
        longest_retry_seconds: float = 300.0,
        max_attempts: int = 300,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._outbox = store.outbox
        self._channels = tuple(channels)
        self._lease_seconds = lease_seconds
        self._poll_seconds = poll_seconds
        self._first_retry_seconds = first_retry_seconds
        self._longest_retry_seconds = longest_retry_seconds
        self._max_attempts = max_attempts
        self._wall_clock = wall_clock
        self._owner = str(uuid.uuid4())
        self._random = random.Random()  # noqa: S311 - jitter, not a secret

    def run(self, stop: threading.Event) -> None:
        """Deliver until ``stop`` is set; an attempt in progress is finished.

        Its threads are daemons: a process that ends without setting ``stop`` is not kept alive, and what it was sending
        is sent again by the next.
        """
        threads = [
            threading.Thread(target=self._serve, args=(channel, stop), name=f"alarms-to-{channel.name}", daemon=True)
            for channel in self._channels
        ]
        for thread in threads:
            thread.start()
        stop.wait()
        for thread in threads:
            thread.join()

    def drain(self) -> int:
        """Try everything that is due now, once; the number of messages that arrived."""
        return sum(self._attempt_all(channel) for channel in self._channels)

    def retry_seconds(self, attempts: int) -> float:
        """Pause after the given number of failed attempts."""
        doubled = self._first_retry_seconds * 2.0 ** min(attempts - 1, 60)
        return min(doubled, self._longest_retry_seconds) * self._random.uniform(0.5, 1.0)

    def _serve(self, channel: Channel, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                attempted = self._attempt(channel) is not None
            except Exception:  # noqa: BLE001 - whatever fails, the channel's thread lives on
                _log.exception("Delivering on channel %s failed; trying again.", channel.name)
                attempted = False
            if not attempted:
                stop.wait(self._poll_seconds)

    def _attempt_all(self, channel: Channel) -> int:
        arrived = 0
        while (success := self._attempt(channel)) is not None:
            arrived += success
        return arrived

    def _attempt(self, channel: Channel) -> bool | None:
        """Try the next message that is due: whether it arrived, or None if there was none."""
        delivery = self._outbox.lease(channel.name, self._owner, self._wall_clock(), self._lease_seconds)
        if delivery is None:
            return None
        try:
            channel.send(delivery.notification)
        except Exception as error:  # noqa: BLE001 - whatever a channel fails with, the message is kept and retried
            self._note_failure(channel, delivery, f"{type(error).__name__}: {error}")
            return False
        self._outbox.sent(delivery, self._wall_clock())
        return True

    def _note_failure(self, channel: Channel, delivery: Delivery, error: str) -> None:
        attempts = delivery.attempts + 1
        key, now = delivery.notification.key, self._wall_clock()
        if attempts >= self._max_attempts:
            _log.error("Channel %s: message %s given up after %d attempts: %s", channel.name, key, attempts, error)
            self._outbox.give_up(delivery, now, error)
            return
        pause = self.retry_seconds(attempts)
        _log.warning(
            "Channel %s: message %s, attempt %d failed (%s); again in %.1f s.",
            channel.name,
            key,
            attempts,
            error,
            pause,
        )
        self._outbox.failed(delivery, self._owner, error, now + timedelta(seconds=pause))
