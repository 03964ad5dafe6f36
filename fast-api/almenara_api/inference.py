"""Decoding and inference off the event loop: as many threads as cores, a bounded queue, a deadline."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from almenara_api.metrics import Metrics
from almenara_api.problems import Problem

Result = TypeVar("Result")


class InferencePool:
    """Runs jobs in threads; what does not fit is told 503 at once instead of waiting without end."""

    def __init__(self, max_queue: int, timeout_seconds: float, metrics: Metrics, *, workers: int | None = None) -> None:
        self.workers = workers or os.cpu_count() or 1
        self.timeout_seconds = timeout_seconds
        self._metrics = metrics
        self._places = threading.BoundedSemaphore(self.workers + max_queue)
        self._executor = ThreadPoolExecutor(self.workers, thread_name_prefix="inference")

    async def run(self, task: str, job: Callable[[], Result]) -> Result:
        """Run one job and return its result.

        Args:
            task: label of the queueing time in the metrics.
            job: called in a thread, with the request's context.

        Raises:
            Problem: the queue is full, or the deadline passed (a job that already runs ends unheard).
        """
        if not self._places.acquire(blocking=False):
            raise Problem(
                503,
                "queue-full",
                f"All {self.workers} inference threads are busy and the queue is full.",
                "Send again after the seconds in Retry-After, or raise ALMENARA_MAX_QUEUE.",
                headers={"Retry-After": "1"},
            )
        self._metrics.in_flight.inc()
        future = self._submit(task, job)
        future.add_done_callback(self._release)
        try:
            async with asyncio.timeout(self.timeout_seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise Problem(
                503,
                "inference-timeout",
                f"No verdict within {self.timeout_seconds:g} s.",
                "Send again later, send less, or raise ALMENARA_REQUEST_TIMEOUT_SECONDS.",
                headers={"Retry-After": "1"},
            ) from None

    def close(self) -> None:
        """Drop what is queued and wait for what runs."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _submit(self, task: str, job: Callable[[], Result]) -> Future[Result]:
        context, queued = copy_context(), time.perf_counter()

        def timed() -> Result:
            self._metrics.stage_seconds.labels(task, "queue").observe(time.perf_counter() - queued)
            return context.run(job)

        return self._executor.submit(timed)

    def _release(self, _: Future[Result]) -> None:
        self._metrics.in_flight.dec()
        self._places.release()
