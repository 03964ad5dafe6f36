"""Stacks form only of what waits already, and what waits in vain is never judged."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from almenara_api.batching import GreedyPool, LoopLine
from almenara_api.pools import QueueFullError

PATIENCE = 10.0


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def busy(gate: threading.Event) -> Iterator[GreedyPool]:
    """One thread, which the gate holds."""
    pool = GreedyPool("test", 1, 8, most=3, most_size=100)
    begun = threading.Event()

    def hold(_: Sequence[None]) -> list[bool]:
        begun.set()
        return [gate.wait(PATIENCE)]

    pool.submit(hold, None)
    assert begun.wait(PATIENCE)
    yield pool
    gate.set()
    pool.close()


class Recorder:
    """Doubles its items and remembers with whom each came."""

    def __init__(self) -> None:
        self.stacks: list[list[int]] = []

    def __call__(self, items: Sequence[int]) -> list[int | BaseException]:
        self.stacks.append(list(items))
        return [2 * item for item in items]


def test_what_waits_under_one_key_is_taken_together_up_to_the_bound(busy: GreedyPool, gate: threading.Event) -> None:
    judge = Recorder()
    futures = [busy.submit(judge, number, key="a" if number != 2 else "b") for number in range(6)]
    gate.set()
    assert [future.result(PATIENCE) for future in futures] == [0, 2, 4, 6, 8, 10]
    assert judge.stacks == [[0, 1, 3], [2], [4, 5]]


def test_without_a_key_and_above_the_size_each_is_alone(busy: GreedyPool, gate: threading.Event) -> None:
    judge = Recorder()
    plain = [busy.submit(judge, number) for number in range(2)]
    large = [busy.submit(judge, number, key="a", size=60) for number in (10, 11)]
    gate.set()
    assert [future.result(PATIENCE) for future in (*plain, *large)] == [0, 2, 20, 22]
    assert judge.stacks == [[0], [1], [10], [11]]


def test_an_idle_thread_takes_one_at_once() -> None:
    pool, judge = GreedyPool("test", 1, 1), Recorder()
    assert [pool.submit(judge, number, key="a").result(PATIENCE) for number in range(3)] == [0, 2, 4]
    assert judge.stacks == [[0], [1], [2]]
    pool.close()


def test_an_error_of_one_is_its_own(busy: GreedyPool, gate: threading.Event) -> None:
    def judge(items: Sequence[int]) -> list[int | BaseException]:
        return [ValueError(str(item)) if item == 1 else item for item in items]

    futures = [busy.submit(judge, number, key="a") for number in range(3)]
    gate.set()
    assert (futures[0].result(PATIENCE), futures[2].result(PATIENCE)) == (0, 2)
    with pytest.raises(ValueError, match="1"):
        futures[1].result(PATIENCE)


def test_a_stack_that_fails_is_judged_again_one_by_one(busy: GreedyPool, gate: threading.Event) -> None:
    def judge(items: Sequence[int]) -> list[float]:
        return [1 / item for item in items]

    futures = [busy.submit(judge, number, key="a") for number in range(3)]
    gate.set()
    assert (futures[1].result(PATIENCE), futures[2].result(PATIENCE)) == (1.0, 0.5)
    with pytest.raises(ZeroDivisionError):
        futures[0].result(PATIENCE)


def test_what_was_cancelled_or_came_too_late_is_never_judged(busy: GreedyPool, gate: threading.Event) -> None:
    judge = Recorder()
    cancelled = busy.submit(judge, 1, key="a")
    late = busy.submit(judge, 2, key="a", deadline=time.monotonic())
    good = busy.submit(judge, 3, key="a")
    assert cancelled.cancel()
    gate.set()
    assert good.result(PATIENCE) == 6
    with pytest.raises(TimeoutError):
        late.result(PATIENCE)
    assert judge.stacks == [[3]]


def test_the_queue_is_bounded_and_a_cancelled_place_is_free_again(busy: GreedyPool) -> None:
    judge = Recorder()
    waiting = [busy.submit(judge, number) for number in range(8)]
    with pytest.raises(QueueFullError):
        busy.submit(judge, 8)
    waiting[3].cancel()
    busy.submit(judge, 9)
    with pytest.raises(QueueFullError):
        busy.submit(judge, 10)


def test_closing_drops_what_waits_and_ends_what_runs(busy: GreedyPool, gate: threading.Event) -> None:
    judge = Recorder()
    waiting = busy.submit(judge, 1)
    threading.Timer(0.05, gate.set).start()
    busy.close()
    assert waiting.cancelled()
    assert judge.stacks == []
    with pytest.raises(QueueFullError):
        busy.submit(judge, 2)


def ask(line: LoopLine, judge: Recorder, number: int, key: str = "a", seconds: float = 0.001) -> asyncio.Future[int]:
    return asyncio.wrap_future(line.submit(judge, number, key=key, seconds=seconds, deadline=math.inf))


def test_the_event_loop_judges_together_what_came_meanwhile_and_nothing_waits_for_long() -> None:
    judge = Recorder()

    async def call() -> list[int]:
        line = LoopLine(8, most=3)
        first = [ask(line, judge, number, "b" if number == 2 else "a") for number in range(6)]
        doubled = await asyncio.gather(*first)
        return [*doubled, await ask(line, judge, 7)]

    assert asyncio.run(call()) == [0, 2, 4, 6, 8, 10, 14]
    assert judge.stacks == [[0, 1, 3], [2], [4, 5], [7]]


def test_a_stack_of_the_event_loop_ends_where_it_is_expected_to_take_too_long() -> None:
    judge = Recorder()

    async def call() -> None:
        line = LoopLine(8, most_seconds=0.008)
        await asyncio.gather(*(ask(line, judge, number, seconds=0.003) for number in range(5)))

    asyncio.run(call())
    assert judge.stacks == [[0, 1], [2, 3], [4]]


def test_the_event_loop_judges_nothing_that_is_late_or_cancelled_and_refuses_what_it_cannot_hold() -> None:
    judge = Recorder()

    async def call() -> None:
        line = LoopLine(3)
        late = asyncio.wrap_future(line.submit(judge, 1, key="a", seconds=0.001, deadline=time.monotonic()))
        cancelled, good = ask(line, judge, 2), ask(line, judge, 3)
        with pytest.raises(QueueFullError):
            ask(line, judge, 4)
        cancelled.cancel()
        with pytest.raises(TimeoutError):
            await late
        assert await good == 6
        assert await ask(line, judge, 5) == 10
        line.close()
        with pytest.raises(QueueFullError):
            ask(line, judge, 6)

    asyncio.run(call())
    assert judge.stacks == [[3], [5]]
