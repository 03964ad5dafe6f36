"""Decoding and inference in as many threads as cores, and on the event loop what is quick: bounded, with a deadline."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from starlette.requests import ClientDisconnect

from almenara_api.batching import GreedyPool, LoopLine, Together
from almenara_api.metrics import Metrics
from almenara_api.patience import client_gone, left
from almenara_api.pools import QueueFullError
from almenara_api.problems import Problem

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Waiting(Generic[Item]):
    """An item, what it is like, and since when it has waited (perf_counter)."""

    item: Item
    like: Hashable | None
    since: float


_QUICK_SECONDS = 0.003
_MOST_LIKES = 512


class Costs:
    """Processor seconds that an item took, by what it was like; the least recently known are forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: OrderedDict[Hashable, float] = OrderedDict()

    def of(self, like: Hashable) -> float:
        """What the last of its like took; infinite when none is known."""
        return self._seconds.get(like, math.inf)

    def learn(self, like: Hashable, seconds: float) -> None:
        """Of one more; from any thread."""
        with self._lock:
            self._seconds[like] = seconds
            self._seconds.move_to_end(like)
            if len(self._seconds) > _MOST_LIKES:
                self._seconds.popitem(last=False)


class InferencePool:
    """Runs jobs in threads; what does not fit is told 503 at once instead of waiting without end.

    Items of a kind of which the last took 3 ms of a processor at most are judged on the event loop.
    """

    def __init__(self, max_queue: int, timeout_seconds: float, metrics: Metrics, *, workers: int | None = None) -> None:
        self._metrics = metrics
        self._timeout_seconds = timeout_seconds
        self.workers = workers or os.cpu_count() or 1
        self._pool = GreedyPool("inference", self.workers, max_queue)
        self._line = LoopLine(max_queue)
        self._costs = Costs()

    async def run(self, task: str, job: Callable[[], Result]) -> Result:
        """Run one job and return its result.

        A job that still waits when the request's deadline passes, or when its client leaves, is not run.

        Args:
            task: label of the queueing time in the metrics.
            job: called in a thread, with the request's context.

        Raises:
            Problem: 503, the queue is full, or the deadline passed (a job that already runs ends unheard).
            ClientDisconnect: the client left.
        """
        return await self.run_together(task, lambda _: [job()], None)

    async def run_together(
        self,
        task: str,
        together: Together[Item, Result],
        item: Item,
        *,
        key: Hashable | None = None,
        size: int = 0,
        like: Hashable | None = None,
    ) -> Result:
        """As `run`, but items of one key that wait at the same time may be judged in one call; see `GreedyPool`.

        `like` tells items apart that take unlike time; without it an item is judged in a thread.
        """
        allowed = left(self._timeout_seconds)
        over = time.monotonic() + allowed
        expected = math.inf if like is None else self._costs.of(like)
        timed = partial(self._timed, task, together)
        waiting = _Waiting(item, like, time.perf_counter())
        try:
            if quick := expected <= _QUICK_SECONDS:
                future = self._line.submit(timed, waiting, key=key, seconds=expected, deadline=over)
            else:
                future = self._pool.submit(timed, waiting, key=key, size=size, deadline=over)
        except QueueFullError:
            raise self._queue_full() from None
        self._metrics.in_flight.inc()
        future.add_done_callback(self._count_out)
        try:
            return await (asyncio.wrap_future(future) if quick else _result(future, allowed))
        except TimeoutError:
            raise Problem(
                503,
                "inference-timeout",
                f"No verdict within {allowed:.3g} s.",
                "Send again later, send less, or allow more: X-Request-Timeout, ALMENARA_REQUEST_TIMEOUT_SECONDS.",
                headers={"Retry-After": "1"},
            ) from None

    def _timed(
        self, task: str, together: Together[Item, Result], stack: Sequence[_Waiting[Item]]
    ) -> Sequence[Result | BaseException]:
        now, spent = time.perf_counter(), time.thread_time()
        for each in stack:
            self._metrics.stage_seconds.labels(task, "queue").observe(now - each.since)
        self._metrics.stack_size.labels(task).observe(len(stack))
        results = together([each.item for each in stack])
        likes = {each.like for each in stack}
        if len(likes) == 1 and (like := likes.pop()) is not None:
            self._costs.learn(like, (time.thread_time() - spent) / len(stack))
        return results

    def refusal(self) -> Problem | None:
        """Why a job would be refused now, or None; to be asked before any work is put into a request."""
        return self._queue_full() if self._pool.full or self._line.full else None

    def close(self) -> None:
        """Drop what is queued and wait for what runs."""
        self._line.close()
        self._pool.close()

    def _queue_full(self) -> Problem:
        return Problem(
            503,
            "queue-full",
            f"All {self.workers} inference threads are busy and the queue is full.",
            "Send again after the seconds in Retry-After, or raise ALMENARA_MAX_QUEUE.",
            headers={"Retry-After": "1"},
        )

    def _count_out(self, _: Future[Result]) -> None:
        self._metrics.in_flight.dec()


async def _result(future: Future[Result], seconds: float) -> Result:
    """What a job returns, while its client waits; however this ends, a job that still waits is dropped."""
    answer = asyncio.wrap_future(future)
    gone = asyncio.create_task(client_gone())
    try:
        both: set[asyncio.Future[Any]] = {answer, gone}
        await asyncio.wait(both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        if gone.done():
            raise ClientDisconnect
        raise TimeoutError
    finally:
        gone.cancel()
        answer.cancel()
