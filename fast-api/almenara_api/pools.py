"""Blocking work off the event loop: a fixed number of threads, a bounded queue, a deadline."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from almenara_api.patience import left
from almenara_api.problems import Problem

Result = TypeVar("Result")


class QueueFullError(Exception):
    """Every thread is busy and no place in the queue is left."""


class BoundedPool:
    """Runs jobs in threads with the request's context; what does not fit is refused at once.

    Args:
        name: of its threads.
        workers: how many there are.
        max_queue: jobs that may wait for a thread.
        timeout_seconds: how long a caller waits; a job that already runs then ends unheard.
    """

    def __init__(self, name: str, workers: int, max_queue: int, timeout_seconds: float) -> None:
        self.workers = workers
        self.timeout_seconds = timeout_seconds
        self._places = threading.BoundedSemaphore(workers + max_queue)
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix=name)

    def submit(self, job: Callable[[], Result]) -> Future[Result]:
        """Queue a job.

        Raises:
            QueueFullError: there is no place left.
        """
        if not self._places.acquire(blocking=False):
            raise QueueFullError
        future = self._executor.submit(copy_context().run, job)
        future.add_done_callback(lambda _: self._places.release())
        return future

    async def result(self, future: Future[Result]) -> Result:
        """What a job returns; TimeoutError after `timeout_seconds`, or at the request's own deadline."""
        async with asyncio.timeout(left(self.timeout_seconds)):
            return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Drop what is queued and wait for what runs."""
        self._executor.shutdown(wait=True, cancel_futures=True)


class AlarmPool:
    """Calls about alarms, in threads of their own so that neither waits for inference nor inference for them.

    Args:
        timeout_seconds: how long a caller waits.
        name: of its threads.
        waits_for: what its calls wait for, as its errors name it.
        workers: how many threads there are.
        max_queue: calls that may wait for a thread.
    """

    def __init__(
        self,
        timeout_seconds: float,
        *,
        name: str = "alarms",
        waits_for: str = "the alarm database",
        workers: int = 4,
        max_queue: int = 64,
    ) -> None:
        self._pool = BoundedPool(name, workers, max_queue, timeout_seconds)
        self._waits_for = waits_for

    async def run(self, call: Callable[[], Result]) -> Result:
        """Make one call and return its result.

        Raises:
            Problem: 503, the database failed, is too slow, or too many calls wait for it.
        """
        try:
            return await self._pool.result(self._pool.submit(call))
        except QueueFullError:
            raise _unavailable(f"Too many requests wait for {self._waits_for}.") from None
        except TimeoutError:
            raise _unavailable(
                f"No answer came from {self._waits_for} within {self._pool.timeout_seconds:g} s."
            ) from None
        except SQLAlchemyError as error:
            raise _unavailable(f"The alarm database failed: {type(error).__name__}.") from error

    def close(self) -> None:
        """Drop what is queued and wait for what runs."""
        self._pool.close()


def _unavailable(fact: str) -> Problem:
    return Problem(
        503,
        "alarms-unavailable",
        fact,
        "Send the request again; see the free space, the rights and the addresses of alarm database and evidence.",
        headers={"Retry-After": "1"},
    )
