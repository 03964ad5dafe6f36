"""A time limit for calls that have none of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, call: Callable[[], T], name: str) -> T:
    """The result of `call`, which runs in a thread of its own and is left alone when it is late.

    Args:
        seconds: how long to wait.
        call: what to do; it may still finish after the time.
        name: of the thread.

    Raises:
        TimeoutError: it is not done in time.
    """
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=work, name=name, daemon=True).start()
    return future.result(seconds)
