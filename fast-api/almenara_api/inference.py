"""Decoding and inference off the event loop: as many threads as cores, a bounded queue, a deadline."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from almenara_api.metrics import Metrics
from almenara_api.pools import BoundedPool, QueueFullError
from almenara_api.problems import Problem

Result = TypeVar("Result")


class InferencePool:
    """Runs jobs in threads; what does not fit is told 503 at once instead of waiting without end."""

    def __init__(self, max_queue: int, timeout_seconds: float, metrics: Metrics, *, workers: int | None = None) -> None:
        self._metrics = metrics
        self._pool = BoundedPool("inference", workers or os.cpu_count() or 1, max_queue, timeout_seconds)

    async def run(self, task: str, job: Callable[[], Result]) -> Result:
        """Run one job and return its result.

        Args:
            task: label of the queueing time in the metrics.
            job: called in a thread, with the request's context.

        Raises:
            Problem: the queue is full, or the deadline passed (a job that already runs ends unheard).
        """
        queued = time.perf_counter()

        def timed() -> Result:
            self._metrics.stage_seconds.labels(task, "queue").observe(time.perf_counter() - queued)
            return job()

        try:
            future = self._pool.submit(timed)
        except QueueFullError:
            raise Problem(
                503,
                "queue-full",
                f"All {self._pool.workers} inference threads are busy and the queue is full.",
                "Send again after the seconds in Retry-After, or raise ALMENARA_MAX_QUEUE.",
                headers={"Retry-After": "1"},
            ) from None
        self._metrics.in_flight.inc()
        future.add_done_callback(self._count_out)
        try:
            return await self._pool.result(future)
        except TimeoutError:
            raise Problem(
                503,
                "inference-timeout",
                f"No verdict within {self._pool.timeout_seconds:g} s.",
                "Send again later, send less, or raise ALMENARA_REQUEST_TIMEOUT_SECONDS.",
                headers={"Retry-After": "1"},
            ) from None

    def close(self) -> None:
        """Drop what is queued and wait for what runs."""
        self._pool.close()

    def _count_out(self, _: Future[Result]) -> None:
        self._metrics.in_flight.dec()
