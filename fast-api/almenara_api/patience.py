"""How long a request may take: its client's own deadline, and whether the client still waits at all."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Annotated

from fastapi import Header
from starlette.types import Receive

from almenara_api.problems import Problem

Seconds = Annotated[
    float | None,
    Header(
        alias="X-Request-Timeout",
        gt=0,
        description="seconds after which the answer is of no use: it is 503 then, and what still waits is not judged; "
        "at most ALMENARA_REQUEST_TIMEOUT_SECONDS",
    ),
]
_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)
_receive: ContextVar[Receive | None] = ContextVar("receive", default=None)


def begin(receive: Receive) -> None:
    """A request begins, without a deadline of its own."""
    _deadline.set(math.inf)
    _receive.set(receive)


def deadline() -> float:
    """When the current request must be answered, in monotonic seconds; infinite if its client did not say."""
    return _deadline.get()


def left(most_seconds: float) -> float:
    """Seconds that the current request may still take, 0 or more and `most_seconds` at most."""
    return max(0.0, min(most_seconds, _deadline.get() - time.monotonic()))


async def client_gone() -> None:
    """Return when the client has closed the connection; to be awaited once the body has been read."""
    receive = _receive.get()
    if receive is None:
        await asyncio.Future()
    else:
        while (await receive())["type"] != "http.disconnect":
            pass


def keep_deadline(most_seconds: float) -> Callable[..., Awaitable[None]]:
    """A dependency that lets the client say how long it waits, up to what the service allows."""

    async def keep(seconds: Seconds = None) -> None:
        if seconds is None:
            return
        if seconds > most_seconds:
            raise Problem(
                422,
                "request-timeout-invalid",
                f"X-Request-Timeout is {seconds:g} s, and at most {most_seconds:g} s are allowed.",
                "Allow less, or raise ALMENARA_REQUEST_TIMEOUT_SECONDS.",
            )
        _deadline.set(time.monotonic() + seconds)

    return keep
