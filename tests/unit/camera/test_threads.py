"""Threads that leave the process free to end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from camera_worker.threads import DaemonThreads, OwnThread


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What hangs waits for it."""
    opened = threading.Event()
    yield opened
    opened.set()


def test_an_own_thread_is_one_daemon_that_ends() -> None:
    own = OwnThread("own")

    async def work() -> set[threading.Thread]:
        return {await own.run(threading.current_thread) for _ in range(3)}

    (thread,) = asyncio.run(work())
    assert thread.name == "own"
    assert thread.daemon
    own.end()
    thread.join(2)
    assert not thread.is_alive()


def test_an_own_thread_answers_with_errors_too() -> None:
    own = OwnThread("own")

    async def work() -> int:
        with pytest.raises(ValueError, match="invalid literal"):
            await own.run(int, "many")
        return await own.run(int, "7")

    assert asyncio.run(work()) == 7
    own.end()


def test_a_loop_ends_though_a_call_and_an_own_thread_hang(gate: threading.Event) -> None:
    own = OwnThread("own")

    async def work() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(DaemonThreads())
        assert await asyncio.to_thread(int, "7") == 7
        hanging = [asyncio.create_task(asyncio.to_thread(gate.wait)), asyncio.create_task(own.run(gate.wait))]
        await asyncio.sleep(0.05)
        for task in hanging:
            task.cancel()
        waiting = asyncio.create_task(own.run(gate.set))  # has not begun, and never does
        await asyncio.sleep(0)
        waiting.cancel()

    started = time.monotonic()
    asyncio.run(work())
    assert time.monotonic() - started < 2
    assert not gate.is_set()
    gate.set()
    own.end()
