"""Threads, or the event loop itself, that judge items alone while they keep up, and in stacks as soon as some wait."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar

from almenara_api.pools import QueueFullError

Item = TypeVar("Item")
Result = TypeVar("Result")
Together = Callable[[Sequence[Item]], Sequence[Result | BaseException]]


_TURNS = 3


@dataclass(eq=False)
class _Job:
    together: Together[Any, Any]
    item: Any
    key: Hashable | None
    size: float
    deadline: float
    context: Context = field(default_factory=copy_context)
    future: Future[Any] = field(default_factory=Future)


class GreedyPool:
    """A fixed number of threads and a bounded queue. A free thread takes the oldest item and those like it at once.

    Nothing waits for a stack to fill: where a thread is free an item runs alone, immediately. Of several threads one
    is kept off stacks: those compute without a pause, and the event loop and other jobs need a turn, too.

    Args:
        name: of the threads.
        workers: how many there are.
        max_queue: items that may wait for a thread.
        most: items of a stack.
        most_size: of a stack in all; a larger item runs alone.
    """

    def __init__(self, name: str, workers: int, max_queue: int, *, most: int = 16, most_size: int = 2**20) -> None:
        self._workers = workers
        self._max_queue, self._most, self._most_size = max_queue, most, most_size
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._busy = self._stacking = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}_{number}", daemon=True) for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self,
        together: Together[Item, Result],
        item: Item,
        *,
        key: Hashable | None = None,
        size: int = 0,
        deadline: float = math.inf,
    ) -> Future[Result]:
        """Queue an item; cancelling its future takes it out again.

        Args:
            together: judges a stack, in the context of its first item; a result that is an exception is that item's
                own. When it fails as a whole, every item is judged alone.
            item: what it is called with.
            key: items of one key may share a stack and so must share `together`; without one the item runs alone.
            size: what it adds to a stack.
            deadline: monotonic seconds; an item that waits until then is not judged and its future is a TimeoutError.

        Raises:
            QueueFullError: every thread is busy and no place in the queue is left.
        """
        job = _Job(together, item, key, size, deadline)
        with self._changed:
            if self.full:
                raise QueueFullError
            self._waiting.append(job)
            self._changed.notify()
        job.future.add_done_callback(lambda future: self._forget(job) if future.cancelled() else None)
        return job.future

    @property
    def full(self) -> bool:
        """Whether an item that came now would be refused; a glance, without the lock."""
        return self._closed or len(self._waiting) - (self._workers - self._busy) >= self._max_queue

    def close(self) -> None:
        """Drop what is queued and wait for what runs."""
        with self._changed:
            self._closed = True
            dropped = list(self._waiting)
            self._changed.notify_all()
        for job in dropped:
            job.future.cancel()
        for thread in self._threads:
            thread.join()

    def _forget(self, job: _Job) -> None:
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next() or (self._closed and not self._waiting))
                first = self._next()
                if first is None:
                    return
                stack = _take(self._waiting, first, self._most, self._most_size)
                stacked = first.key is not None
                self._busy += 1
                self._stacking += stacked
            _judge(stack)
            del first, stack  # a thread that waits holds on to nobody's picture
            with self._changed:
                self._busy -= 1
                self._stacking -= stacked
                self._changed.notify()

    def _next(self) -> _Job | None:
        stacks = self._stacking < max(1, self._workers - 1)
        return next((job for job in self._waiting if stacks or job.key is None), None)


class LoopLine:
    """Judges items on the event loop, those that arrived together in one call; for items that take milliseconds.

    Between a thread and the loop the interpreter changes hands so often that both take twice as long. While a stack is
    judged, the loop does nothing else.

    Args:
        max_queue: items that may wait.
        most: items of a stack.
        most_seconds: that a stack is expected to take.
    """

    def __init__(self, max_queue: int, *, most: int = 16, most_seconds: float = 0.008) -> None:
        self._max_queue, self._most, self._most_seconds = max_queue, most, most_seconds
        self._waiting: deque[_Job] = deque()
        self._closed = False

    def submit(
        self, together: Together[Item, Result], item: Item, *, key: Hashable, seconds: float, deadline: float
    ) -> Future[Result]:
        """Queue an item, on the loop; as `GreedyPool.submit`, but for `seconds`, which it is expected to take.

        Raises:
            QueueFullError: no place in the queue is left.
        """
        if self.full:
            raise QueueFullError
        job = _Job(together, item, key, seconds, deadline)
        self._waiting.append(job)
        if len(self._waiting) == 1:
            self._after(_TURNS)
        return job.future

    @property
    def full(self) -> bool:
        """Whether an item that came now would be refused."""
        return self._closed or len(self._waiting) >= self._max_queue

    def close(self) -> None:
        """Drop what is queued."""
        self._closed = True
        for job in self._waiting:
            job.future.cancel()

    def _after(self, turns: int) -> None:
        """Judge once the loop has done so many rounds, in which what has arrived as well is read and queued."""
        asyncio.get_running_loop().call_soon(self._after, turns - 1) if turns else self._work()

    def _work(self) -> None:
        _judge(_take(self._waiting, self._waiting[0], self._most, self._most_seconds))
        if self._waiting:
            self._after(1)


def _take(waiting: deque[_Job], first: _Job, most: int, most_size: float) -> list[_Job]:
    """Take out a job and those of its key, within bounds."""
    waiting.remove(first)
    stack, key, size = [first], first.key, first.size
    for job in tuple(waiting) if key is not None else ():
        if len(stack) == most:
            break
        if job.key == key and size + job.size <= most_size:
            stack.append(job)
            size += job.size
            waiting.remove(job)
    return stack


def _judge(stack: Sequence[_Job]) -> None:
    jobs = []
    for job in stack:
        if not job.future.set_running_or_notify_cancel():
            continue
        if time.monotonic() >= job.deadline:
            job.future.set_exception(TimeoutError())
        else:
            jobs.append(job)
    if not jobs:
        return
    try:
        results = jobs[0].context.run(jobs[0].together, [job.item for job in jobs])
    except BaseException as error:  # noqa: BLE001  it is the caller's, in whose future it ends
        results = [error] if len(jobs) == 1 else [_alone(job) for job in jobs]
    for job, result in zip(jobs, results, strict=True):
        if isinstance(result, BaseException):
            job.future.set_exception(result)
        else:
            job.future.set_result(result)


def _alone(job: _Job) -> object:
    try:
        return job.context.run(job.together, [job.item])[0]
    except BaseException as error:  # noqa: BLE001  it is the caller's, in whose future it ends
        return error
