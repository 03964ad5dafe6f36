"""Threads that never keep the process from ending: what hangs in one, on a disk or a name server, is left there."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


class OwnThread:
    """One thread for all that a camera does besides waiting, so that no camera's slowness is another's."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """What `function` answers, once the thread has come to it; RuntimeError when there can be no more threads."""
        if not self._thread.is_alive():
            self._thread.start()
        future: Future[T] = Future()
        self._jobs.put(lambda: _answer(future, function, *arguments))
        return await asyncio.wrap_future(future)

    def end(self) -> None:
        """Takes no more work; what runs is left to end by itself."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


class DaemonThreads(ThreadPoolExecutor):
    """Runs each call in a daemon thread of its own, as an event loop's default executor.

    The loop's end joins that executor, and would wait for a name server that does not answer.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        call = threading.Thread(target=lambda: _answer(future, fn, *args, **kwargs), name="call", daemon=True)
        call.start()
        return future


def _answer(future: Future[T], function: Callable[..., T], *arguments: object, **named: object) -> None:
    """Has `future` hold what `function` answers or raises, unless nobody waits for it any more."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function(*arguments, **named))
    except BaseException as error:  # noqa: BLE001 - raised by whoever waits
        future.set_exception(error)
