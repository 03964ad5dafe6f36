"""Decoding and inference off the event loop: as many threads as cores, a bounded queue, a deadline."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect

from almenara_api.batching import GreedyPool, Together
from almenara_api.metrics import Metrics
from almenara_api.patience import client_gone, left
from almenara_api.pools import QueueFullError
from almenara_api.problems import Problem

Item = TypeVar("Item")
Result = TypeVar("Result")


class InferencePool:
    """Runs jobs in threads; what does not fit is told 503 at once instead of waiting without end."""

    def __init__(self, max_queue: int, timeout_seconds: float, metrics: Metrics, *, workers: int | None = None) -> None:
        self._metrics = metrics
        self._timeout_seconds = timeout_seconds
        self.workers = workers or os.cpu_count() or 1
        self._pool = GreedyPool("inference", self.workers, max_queue)

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
        self, task: str, together: Together[Item, Result], item: Item, *, key: Hashable | None = None, size: int = 0
    ) -> Result:
        """As `run`, but items of one key that wait at the same time may be judged in one call; see `GreedyPool`."""
        allowed = left(self._timeout_seconds)
        over = time.monotonic() + allowed
        queued = time.perf_counter()

        def timed(pairs: Sequence[tuple[float, Item]]) -> Sequence[Result | BaseException]:
            now = time.perf_counter()
            for since, _ in pairs:
                self._metrics.stage_seconds.labels(task, "queue").observe(now - since)
            self._metrics.stack_size.labels(task).observe(len(pairs))
            return together([each for _, each in pairs])

        try:
            future = self._pool.submit(timed, (queued, item), key=key, size=size, deadline=over)
        except QueueFullError:
            raise self._queue_full() from None
        self._metrics.in_flight.inc()
        future.add_done_callback(self._count_out)
        try:
            return await _result(future, allowed)
        except TimeoutError:
            raise Problem(
                503,
                "inference-timeout",
                f"No verdict within {allowed:.3g} s.",
                "Send again later, send less, or allow more: X-Request-Timeout, ALMENARA_REQUEST_TIMEOUT_SECONDS.",
                headers={"Retry-After": "1"},
            ) from None

    def refusal(self) -> Problem | None:
        """Why a job would be refused now, or None; to be asked before any work is put into a request."""
        return self._queue_full() if self._pool.full else None

    def close(self) -> None:
        """Drop what is queued and wait for what runs."""
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
