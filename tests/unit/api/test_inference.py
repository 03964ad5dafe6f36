"""The inference pool: bounded, with a deadline, and its places come back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from almenara_api.inference import InferencePool
from almenara_api.logs import current_request_id, set_request_id
from almenara_api.metrics import Metrics
from almenara_api.problems import Problem


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def pool(max_queue: int = 1, timeout_seconds: float = 5) -> InferencePool:
    return InferencePool(max_queue, timeout_seconds, Metrics(), workers=1)


def test_a_job_runs_in_a_thread_with_the_requests_id() -> None:
    async def call() -> tuple[str, str]:
        set_request_id("r-7")
        return await pool().run("vision", lambda: (threading.current_thread().name, current_request_id()))

    thread, request_id = asyncio.run(call())
    assert thread.startswith("inference")
    assert request_id == "r-7"


def test_one_job_more_than_fits_is_told_503_with_retry_after(gate: threading.Event) -> None:
    async def call() -> Problem:
        full = pool(max_queue=1)
        waiting = [asyncio.create_task(full.run("vision", gate.wait)) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(Problem) as refused:
            await full.run("vision", lambda: None)
        gate.set()
        await asyncio.gather(*waiting)
        return refused.value

    problem = asyncio.run(call())
    assert (problem.status, problem.code) == (503, "queue-full")
    assert problem.headers == {"Retry-After": "1"}


def test_a_late_job_is_told_503_and_its_place_comes_back(gate: threading.Event) -> None:
    async def call() -> tuple[str, str]:
        slow = pool(max_queue=1, timeout_seconds=0.1)
        running = asyncio.create_task(slow.run("vision", gate.wait))
        queued = asyncio.create_task(slow.run("vision", lambda: True))
        late = await asyncio.gather(running, queued, return_exceptions=True)
        assert all(isinstance(each, Problem) and each.code == "inference-timeout" for each in late)
        with_the_thread_still_busy = asyncio.create_task(slow.run("vision", lambda: "second"))
        gate.set()
        first = await with_the_thread_still_busy
        return first, await slow.run("vision", lambda: "third")

    assert asyncio.run(call()) == ("second", "third")


def test_a_jobs_own_error_comes_through() -> None:
    async def call() -> None:
        await pool().run("vision", lambda: 1 // 0)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(call())
