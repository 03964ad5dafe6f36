"""The threads of the alarm store's calls: bounded, with a deadline, and a database that fails is a clear 503."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy.exc import OperationalError

from almenara_api.pools import AlarmPool
from almenara_api.problems import Problem


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def problem_of(pool: AlarmPool, call: Callable[[], object]) -> Problem:
    async def run() -> Problem:
        with pytest.raises(Problem) as problem:
            await pool.run(call)
        return problem.value

    return asyncio.run(run())


def test_a_call_runs_in_a_thread_of_its_own_pool() -> None:
    assert asyncio.run(AlarmPool(5).run(lambda: threading.current_thread().name)).startswith("alarms")


def test_a_database_that_fails_is_503_with_retry_after() -> None:
    def fail() -> None:
        raise OperationalError("SELECT 1", {}, Exception("password=secret"))

    problem = problem_of(AlarmPool(5), fail)
    assert (problem.status, problem.code, problem.headers) == (503, "alarms-unavailable", {"Retry-After": "1"})
    assert "secret" not in str(problem)


def test_a_database_that_does_not_answer_is_503(gate: threading.Event) -> None:
    problem = problem_of(AlarmPool(0.05), gate.wait)
    gate.set()
    assert (problem.status, problem.code) == (503, "alarms-unavailable")
    assert "within 0.05 s" in problem.fact


def test_one_call_more_than_fits_is_503_at_once(gate: threading.Event) -> None:
    async def run() -> Problem:
        pool = AlarmPool(5, workers=1, max_queue=1)
        waiting = [asyncio.create_task(pool.run(gate.wait)) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(Problem) as refused:
            await pool.run(lambda: None)
        gate.set()
        await asyncio.gather(*waiting)
        return refused.value

    refused = asyncio.run(run())
    assert (refused.code, refused.headers) == ("alarms-unavailable", {"Retry-After": "1"})
