"""The client for asyncio: the same methods, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from almenara.client import questions
from almenara.client.asking import Asking, Conversation, Outcome, as_method

P = ParamSpec("P")
T = TypeVar("T")


class _Sender:
    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self.http = httpx.AsyncClient(**asking.transport)

    async def have(self, conversation: Conversation[T]) -> T:
        steps = self._asking.steps(conversation)
        outcome: Outcome = None
        try:
            while True:
                step = steps.send(outcome)
                outcome = await (self._send(step) if isinstance(step, httpx.Request) else asyncio.sleep(step))
        except StopIteration as done:
            result: T = done.value
            return result

    async def _send(self, request: httpx.Request) -> Outcome:
        body = bytearray()
        try:
            async with aclosing(await self.http.send(request, stream=True)) as response:
                async for part in response.aiter_raw():
                    self._asking.take(part, body)
        except httpx.TransportError as error:
            return error
        return self._asking.answer(response, bytes(body))


class _Part:
    def __init__(self, sender: _Sender) -> None:
        self._sender = sender


def _asks(conversation: Callable[P, Conversation[T]]) -> Callable[Concatenate[_Part, P], Coroutine[Any, Any, T]]:
    async def method(self: _Part, /, *given: P.args, **named: P.kwargs) -> T:
        return await self._sender.have(conversation(*given, **named))

    return as_method(method, conversation)


class AsyncVision(_Part):
    """Pictures; a file is read and an array encoded in the event loop, so give bytes where that is too long."""

    predict = _asks(questions.judge_picture)
    predict_many = _asks(questions.judge_pictures)


class AsyncVibration(_Part):
    """Vibration windows."""

    predict = _asks(questions.judge_signal)
    predict_many = _asks(questions.judge_signals)


class AsyncAlmenara(_Part):
    """As `Almenara`, for one event loop: every method is awaited. Leave it with `async with` or `aclose`.

    Args and errors are those of `Almenara`.

    Example:
        >>> async with AsyncAlmenara("http://127.0.0.1:8000") as api:
        ...     verdict = await api.vision.predict("outflow", frame)
    """

    def __init__(self, url: str, *, key: str | None = None, timeout: float = 30.0, retries: int = 4) -> None:
        super().__init__(_Sender(Asking(url, key, timeout, retries)))
        self.vision = AsyncVision(self._sender)
        self.vibration = AsyncVibration(self._sender)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End every connection."""
        await self._sender.http.aclose()

    models = _asks(questions.models)
    ready = _asks(questions.ready)
    alarms = _asks(questions.alarms)
    acknowledge = _asks(questions.acknowledge)
    trend = _asks(questions.trend)
