"""The inference pool: bounded, with a deadline, and its places come back."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from almenara_api import patience
from almenara_api.inference import Costs, InferencePool
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


def test_a_job_that_waits_past_its_requests_own_deadline_is_told_503_and_never_run(gate: threading.Event) -> None:
    ran: list[str] = []

    async def call() -> Problem:
        blocked = pool(max_queue=4, timeout_seconds=30)
        running = asyncio.create_task(blocked.run("vision", gate.wait))
        await asyncio.sleep(0.05)
        await patience.keep_deadline(30)(0.1)
        with pytest.raises(Problem) as late:
            await blocked.run("vision", lambda: ran.append("late"))
        patience.begin(never)
        gate.set()
        await running
        await blocked.run("vision", lambda: ran.append("next"))
        return late.value

    problem = asyncio.run(call())
    assert (problem.status, problem.code, problem.headers) == (503, "inference-timeout", {"Retry-After": "1"})
    assert ran == ["next"]


def test_a_deadline_that_has_passed_already_is_not_even_queued_for_long() -> None:
    async def call() -> str:
        await patience.keep_deadline(30)(1e-6)
        with pytest.raises(Problem) as late:
            await pool(timeout_seconds=30).run("vision", lambda: time.sleep(0.2))
        return late.value.code

    assert asyncio.run(call()) == "inference-timeout"


def test_a_job_whose_client_has_left_is_never_run(gate: threading.Event) -> None:
    ran: list[str] = []

    async def call() -> None:
        blocked = pool(max_queue=1)
        running = asyncio.create_task(blocked.run("vision", gate.wait))
        await asyncio.sleep(0.05)
        leaving = asyncio.Event()

        async def receive() -> Message:
            await leaving.wait()
            return {"type": "http.disconnect"}

        patience.begin(receive)
        asyncio.get_running_loop().call_later(0.05, leaving.set)
        with pytest.raises(ClientDisconnect):
            await blocked.run("vision", lambda: ran.append("left"))
        patience.begin(never)
        in_its_place = asyncio.create_task(blocked.run("vision", lambda: ran.append("stayed")))
        await asyncio.sleep(0.05)
        gate.set()
        await asyncio.gather(running, in_its_place)

    asyncio.run(call())
    assert ran == ["stayed"]


@pytest.mark.parametrize("seconds", [5.1, float("inf")])
def test_a_deadline_beyond_what_the_service_allows_is_refused(seconds: float) -> None:
    with pytest.raises(Problem) as refused:
        asyncio.run(patience.keep_deadline(5)(seconds))  # type: ignore[arg-type]
    assert (refused.value.status, refused.value.code) == (422, "request-timeout-invalid")


def test_requests_judged_together_are_counted_with_the_size_of_their_stack(gate: threading.Event) -> None:
    metrics = Metrics()

    async def call() -> list[int]:
        stacking = InferencePool(8, 5, metrics, workers=1)
        running = asyncio.create_task(stacking.run("vision", gate.wait))
        await asyncio.sleep(0.05)
        several = [
            asyncio.create_task(stacking.run_together("vibration", double, number, key="model")) for number in range(3)
        ]
        await asyncio.sleep(0.05)
        gate.set()
        await running
        return await asyncio.gather(*several)

    assert asyncio.run(call()) == [0, 2, 4]
    told = metrics.registry.get_sample_value
    assert told("almenara_inference_stack_sum", {"task": "vibration"}) == 3
    assert told("almenara_inference_stack_count", {"task": "vibration"}) == 1
    assert told("almenara_stage_seconds_count", {"task": "vibration", "stage": "queue"}) == 3
    assert told("almenara_inference_in_flight") == 0


def double(numbers: Sequence[int]) -> list[int]:
    return [2 * number for number in numbers]


async def never() -> Message:
    await asyncio.sleep(60)
    raise AssertionError("not reached")


def test_an_item_like_one_that_was_quick_is_judged_on_the_event_loop_with_its_requests_id() -> None:
    def together(items: Sequence[int]) -> list[tuple[str, str]]:
        return [(threading.current_thread().name, current_request_id()) for _ in items]

    async def call() -> list[tuple[str, str]]:
        set_request_id("r-8")
        judging = pool()
        return [
            await judging.run_together("vibration", together, 1, key="model", like=like)
            for like in ("short", "short", "long", None, None)
        ]

    first, second, *others = asyncio.run(call())
    assert second == (threading.current_thread().name, "r-8")
    assert all(thread.startswith("inference") for thread, _ in (first, *others))


def test_an_item_like_one_that_took_long_stays_in_a_thread() -> None:
    def busy(items: Sequence[int]) -> list[str]:
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass
        return [threading.current_thread().name for _ in items]

    async def call() -> list[str]:
        judging = pool()
        return [await judging.run_together("vibration", busy, 1, key="model", like="long") for _ in range(3)]

    assert all(thread.startswith("inference") for thread in asyncio.run(call()))


def test_a_stack_of_unlike_items_teaches_nothing(gate: threading.Event) -> None:
    async def call() -> tuple[float, float]:
        judging = pool(max_queue=4)
        blocked = asyncio.create_task(judging.run("vision", gate.wait))
        both = [
            asyncio.create_task(judging.run_together("vibration", lambda items: items, 1, key="model", like=like))
            for like in ("short", "long")
        ]
        await asyncio.sleep(0.05)
        gate.set()
        await asyncio.gather(blocked, *both)
        return judging._costs.of("short"), judging._costs.of("long")

    assert asyncio.run(call()) == (math.inf, math.inf)


def test_of_costs_the_least_recent_are_forgotten() -> None:
    costs = Costs()
    for like in range(600):
        costs.learn(like, 0.001)
        costs.learn("kept", 0.002)
    assert (costs.of(0), costs.of(599), costs.of("kept")) == (math.inf, 0.001, 0.002)


def test_the_event_loop_refuses_what_its_queue_cannot_hold() -> None:
    async def call() -> list[int | Problem]:
        judging = pool(max_queue=2)
        judging._costs.learn("short", 0.001)
        asked = [
            judging.run_together("vibration", lambda items: items, number, key="model", like="short")
            for number in range(3)
        ]
        return list(await asyncio.gather(*asked, return_exceptions=True))  # type: ignore[arg-type]

    *judged, refused = asyncio.run(call())
    assert judged == [0, 1]
    assert isinstance(refused, Problem)
    assert refused.code == "queue-full"
