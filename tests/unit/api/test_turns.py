"""Turns: windows of one asset are observed in the order of their arrival, whichever was judged first."""

from __future__ import annotations

import asyncio
import random

from almenara_api.turns import Turns


async def request(turns: Turns, asset: str, seconds: float, log: list[str], name: str) -> None:
    with turns.turn() as turn:
        await asyncio.to_thread(turn.take, asset)
        await asyncio.sleep(seconds)
        await turn.come(5)
        log.append(name)


def test_the_one_that_came_first_goes_first_however_long_it_was_judged() -> None:
    async def run() -> list[str]:
        turns, log = Turns(), list[str]()
        waits = random.Random(3)
        await asyncio.gather(*(request(turns, "pump", waits.uniform(0, 0.1), log, str(n)) for n in range(20)))
        return log

    assert asyncio.run(run()) == [str(number) for number in range(20)]


def test_assets_do_not_wait_for_each_other() -> None:
    async def run() -> list[str]:
        turns, log = Turns(), list[str]()
        await asyncio.gather(request(turns, "a", 0.2, log, "slow"), request(turns, "b", 0.0, log, "quick"))
        return log

    assert asyncio.run(run()) == ["quick", "slow"]


def test_one_that_failed_holds_nobody_up() -> None:
    async def run() -> list[str]:
        turns, log = Turns(), list[str]()
        with turns.turn() as failed:
            failed.take("pump")
            waiting = asyncio.create_task(request(turns, "pump", 0, log, "next"))
            await asyncio.sleep(0.05)
            assert log == []
        await waiting
        return log

    assert asyncio.run(run()) == ["next"]


def test_a_turn_that_is_taken_after_its_request_was_given_up_holds_nobody_up() -> None:
    async def run() -> list[str]:
        turns, log = Turns(), list[str]()
        with turns.turn() as late:
            pass
        late.take("pump")
        await request(turns, "pump", 0, log, "next")
        return log

    assert asyncio.run(run()) == ["next"]


def test_nobody_waits_longer_than_the_timeout() -> None:
    async def run() -> None:
        turns = Turns()
        with turns.turn() as stuck, turns.turn() as second:
            stuck.take("pump")
            second.take("pump")
            async with asyncio.timeout(2):
                await second.come(0.05)

    asyncio.run(run())


def test_a_turn_that_was_taken_twice_is_over_once() -> None:
    async def run() -> list[str]:
        turns, log = Turns(), list[str]()
        with turns.turn() as twice:
            twice.take("pump")
            twice.take("pump")
        async with asyncio.timeout(30):
            await asyncio.to_thread(lambda: asyncio.run(request(turns, "pump", 0, log, "next")))
        return log

    assert asyncio.run(run()) == ["next"]
