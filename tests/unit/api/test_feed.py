"""The stream of alarms: in order over PostgreSQL's out-of-order commits, resumable, bounded, one reader for all."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from almenara.alarms import database
from almenara.alarms.records import Report, Transition
from almenara.alarms.vocabulary import Change, Phase
from almenara_api import feed
from almenara_api.feed import ChangeFeed, InOrder, newest
from almenara_api.problems import Problem

PATIENCE = 0.2


def report(number: int) -> Report:
    transition = Transition(
        key=str(number),
        source="pump-1",
        alarm_id=None,
        change=Change.PENDING,
        previous=Phase.NORMAL,
        phase=Phase.PENDING,
        at=datetime(2026, 3, 1, tzinfo=UTC),
        anomaly=0.9,
        reason="",
    )
    return Report(transition=transition, alarm=None)


class Log:
    """A log of changes; each poll counts."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = set(numbers)
        self.polls = 0
        self.away = False

    def after(self, number: int, limit: int) -> list[feed.Change]:
        return [(each, report(each)) for each in sorted(self.numbers) if each > number][:limit]

    async def read(self, number: int, limit: int) -> list[feed.Change]:
        self.polls += 1
        if self.away:
            raise Problem(503, "alarms-unavailable", "The database is away.")
        return self.after(number, limit)

    async def newest(self) -> int:
        return newest(self.after)

    def feed(self, stopping: Callable[[], bool] = lambda: False) -> ChangeFeed:
        return ChangeFeed(self.read, self.newest, stopping, patience_seconds=PATIENCE)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "POLL_SECONDS", 0.01)


async def take(changes: AsyncIterator[feed.Change | None], count: int) -> list[int]:
    async with asyncio.timeout(5):
        numbers = []
        for _ in range(count):
            change = await anext(changes)
            assert change is not None
            numbers.append(change[0])
        return numbers


def released(order: InOrder, numbers: list[int], now: float) -> list[int]:
    return [number for number, _ in order.release([(each, report(each)) for each in numbers], now)]


def test_a_number_that_commits_late_comes_before_those_that_overtook_it() -> None:
    order = InOrder(9, PATIENCE)
    assert released(order, [11], 0.0) == []
    assert released(order, [10, 11], 0.1) == [10, 11]


def test_a_number_that_never_comes_holds_the_others_back_for_a_bounded_time() -> None:
    order = InOrder(9, PATIENCE)
    assert released(order, [11, 12, 14], 0.0) == []
    assert released(order, [11, 12, 14, 16], 0.21) == [11, 12, 14]
    assert released(order, [16], 0.45) == [16]


@given(st.permutations(range(1, 30)), st.integers(0, 2**16))
def test_whatever_the_order_of_commits_every_change_comes_once_and_in_order(commits: list[int], seed: int) -> None:
    pauses, order = random.Random(seed), InOrder(0, PATIENCE)
    log, sent, now = Log(), list[int](), 0.0
    for number in commits:
        log.numbers.add(number)
        now += pauses.uniform(0, PATIENCE / 30)  # a transaction is shorter than the patience
        sent += [each for each, _ in order.release(log.after(order.head, 500), now)]
    sent += [each for each, _ in order.release(log.after(order.head, 500), now)]
    assert sent == list(range(1, 30))


def test_a_gap_is_waited_for_longer_than_the_statements_after_it_may_take() -> None:
    assert feed.PATIENCE_SECONDS > 2 * database._PATIENCE_SECONDS


@given(st.sets(st.integers(1, 5000), max_size=20))
def test_the_newest_change_is_found_by_asking(numbers: set[int]) -> None:
    assert newest(Log(*numbers).after) == max(numbers, default=0)


def test_a_subscriber_gets_what_happens_from_now_on() -> None:
    async def run() -> list[int]:
        log = Log(1, 2, 3)
        async with log.feed().subscribe(None) as changes:
            log.numbers |= {4, 5}
            return await take(changes, 2)

    assert asyncio.run(run()) == [4, 5]


def test_a_subscriber_resumes_after_the_change_it_had_last() -> None:
    async def run() -> tuple[list[int], list[int]]:
        log = Log(*range(1, 11))
        stream = log.feed()
        async with stream.subscribe(8) as first:
            one = await take(first, 2)
            async with stream.subscribe(4) as second:
                log.numbers.add(11)
                return one + await take(first, 1), await take(second, 7)

    assert asyncio.run(run()) == ([9, 10, 11], [5, 6, 7, 8, 9, 10, 11])


def test_a_cursor_from_another_database_is_taken_for_now() -> None:
    async def run() -> list[int]:
        log = Log(1, 2)
        async with log.feed().subscribe(10_000) as changes:
            log.numbers.add(3)
            return await take(changes, 1)

    assert asyncio.run(run()) == [3]


def test_many_subscribers_cost_one_reader_and_none_costs_nothing() -> None:
    async def run() -> None:
        log = Log(1)
        stream = log.feed()
        async with stream.subscribe(None) as one, stream.subscribe(None) as two, stream.subscribe(None) as three:
            log.numbers.add(2)
            assert [await take(each, 1) for each in (one, two, three)] == [[2], [2], [2]]
            assert log.polls < 20
        await asyncio.sleep(0.05)
        before = log.polls
        await asyncio.sleep(0.1)
        assert log.polls == before
        async with stream.subscribe(None) as again:
            log.numbers.add(3)
            assert await take(again, 1) == [3]

    asyncio.run(run())


def test_a_slow_subscriber_is_dropped_and_the_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "MOST_WAITING", 5)

    async def run() -> tuple[list[int], list[object]]:
        log = Log(1)
        stream = log.feed()
        async with stream.subscribe(None) as slow, stream.subscribe(None) as quick:
            got = []
            for number in range(2, 12):
                log.numbers.add(number)
                got += await take(quick, 1)
            return got, [change async for change in slow]

    assert asyncio.run(run()) == (list(range(2, 12)), [None])


def test_one_subscriber_too_many_is_told_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "MOST_SUBSCRIBERS", 1)

    async def run() -> Problem:
        stream = Log().feed()
        async with stream.subscribe(None):
            with pytest.raises(Problem) as refused:
                async with stream.subscribe(None):
                    pass
        return refused.value

    problem = asyncio.run(run())
    assert (problem.status, problem.code) == (503, "streams-full")


def test_a_stream_outlives_a_database_that_is_away() -> None:
    async def run() -> list[int]:
        log = Log(1)
        async with log.feed().subscribe(None) as changes:
            log.away = True
            await asyncio.sleep(0.05)
            log.numbers.add(2)
            log.away = False
            return await take(changes, 1)

    assert asyncio.run(run()) == [2]


def test_streams_end_when_the_service_stops() -> None:
    async def run() -> list[object]:
        stopping = False
        stream = Log(1).feed(lambda: stopping)
        async with stream.subscribe(None) as changes:
            stopping = True
            async with asyncio.timeout(5):
                return [change async for change in changes]

    assert asyncio.run(run()) == []
