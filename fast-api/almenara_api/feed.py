"""What happens to alarms, as a stream: one reader of the store a process, any number of subscribers up to a limit."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from almenara.alarms.records import Report
from almenara_api.problems import Problem

POLL_SECONDS = 0.5
PATIENCE_SECONDS = 12.0
"""How long a gap in the ids is waited for: a transaction that has numbered its transition usually commits within
milliseconds, but each of the two statements that may follow can take 5 s before the database gives it up."""
PAGE = 500
MOST_SUBSCRIBERS = 64
MOST_WAITING = 1000

Change = tuple[int, Report]
Read = Callable[[int, int], Awaitable[list[Change]]]
_LOG = logging.getLogger(__name__)


def newest(changes_after: Callable[[int, int], Sequence[Change]]) -> int:
    """The id of the newest change, by bisection; 0 without any."""
    above = 1
    while changes_after(above, 1):
        above *= 2
    below = above // 2
    while below < above:
        middle = (below + above) // 2
        if changes_after(middle, 1):
            below = middle + 1
        else:
            above = middle
    return below


class InOrder:
    """Releases changes in the order of their ids and skips none.

    PostgreSQL numbers a row before its transaction commits, so that 11 may be read before 10. Whatever follows a gap is
    held back until the gap is filled, or for a while: the id of a transaction that failed never comes.

    Args:
        head: id after which to begin.
        patience_seconds: how long a gap is waited for.
    """

    def __init__(self, head: int, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.head = head
        self._patience_seconds = patience_seconds
        self._first_seen: dict[int, float] = {}

    def release(self, changes: Sequence[Change], now: float) -> list[Change]:
        """Those that may go out.

        Args:
            changes: what the store has after `head`, in the order of ids.
            now: monotonic seconds.
        """
        for number, _ in changes:
            self._first_seen.setdefault(number, now)
        released = []
        for number, report in changes:
            if number != self.head + 1 and now - self._first_seen[number] < self._patience_seconds:
                break
            del self._first_seen[number]
            self.head = number
            released.append((number, report))
        return released


class Subscription:
    """What one subscriber has still to be sent."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Change | None] = asyncio.Queue(MOST_WAITING)
        self.dropped = False

    def offer(self, change: Change) -> None:
        """Queue a change; a subscriber who does not keep up is dropped."""
        if self.dropped:
            return
        try:
            self.queue.put_nowait(change)
        except asyncio.QueueFull:
            self.dropped = True
            self.end()

    def end(self) -> None:
        """Let the stream end, at once."""
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(None)


class ChangeFeed:
    """Reads the store while anybody listens and hands every change to every subscriber.

    Args:
        read: changes after an id, at most so many, in the order of ids.
        newest: id of the newest change.
        stopping: whether the service is about to end, which ends every stream.
        patience_seconds: how long a gap in the ids is waited for.
    """

    def __init__(
        self,
        read: Read,
        newest: Callable[[], Awaitable[int]],
        stopping: Callable[[], bool] = lambda: False,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._read = read
        self._newest = newest
        self._stopping = stopping
        self._patience_seconds = patience_seconds
        self._subscriptions: set[Subscription] = set()
        self._order: InOrder | None = None
        self._settled_at = 0.0
        self._away = False
        self._task: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    @asynccontextmanager
    async def subscribe(self, after: int | None) -> AsyncIterator[AsyncIterator[Change | None]]:
        """Changes without end: those after an id, or None for those from now on.

        The iterator ends when the service stops; it yields None before it ends because the subscriber was too slow.

        Raises:
            Problem: 503, too many subscribers, or the alarm database is away.
        """
        if len(self._subscriptions) >= MOST_SUBSCRIBERS:
            raise Problem(
                503,
                "streams-full",
                f"{MOST_SUBSCRIBERS} clients listen to the stream of alarms already.",
                "Ask again later, or poll GET /v1/alarms.",
                headers={"Retry-After": "30"},
            )
        subscription = Subscription()
        head = await self._start(after)
        self._subscriptions.add(subscription)
        try:
            yield self._changes(subscription, head if after is None else after, head)
        finally:
            self._subscriptions.discard(subscription)

    async def close(self) -> None:
        """End every stream."""
        for subscription in self._subscriptions:
            subscription.end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _start(self, after: int | None) -> int:
        """Begin to read where nobody did; the id up to which changes were handed out."""
        async with self._starting:
            if self._order is None:
                newest = await self._newest()
                self._order = InOrder(newest if after is None else min(after, newest), self._patience_seconds)
                self._settled_at = time.monotonic() + self._patience_seconds
                self._task = asyncio.create_task(self._run(self._order))
            return self._order.head

    async def _changes(self, subscription: Subscription, after: int, head: int) -> AsyncIterator[Change | None]:
        if after < head:
            await asyncio.sleep(self._settled_at - time.monotonic())
        while after < head:  # what was handed out before this subscriber came
            page = [change for change in await self._read(after, PAGE) if change[0] <= head]
            for change in page:
                yield change
            after = page[-1][0] if page else head
        while (queued := await subscription.queue.get()) is not None:
            yield queued
        if subscription.dropped:
            yield None

    async def _run(self, order: InOrder) -> None:
        try:
            while self._subscriptions and not self._stopping():
                changes = await self._poll(order.head)
                for change in order.release(changes, time.monotonic()):
                    for subscription in self._subscriptions:
                        subscription.offer(change)
                if len(changes) < PAGE:
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            self._order = None
            for subscription in self._subscriptions:
                subscription.end()

    async def _poll(self, after: int) -> list[Change]:
        try:
            changes = await self._read(after, PAGE)
        except Problem as problem:
            if not self._away:
                _LOG.warning("the stream of alarms waits for the database: %s", problem.fact)
            self._away = True
            return []
        self._away = False
        return changes
