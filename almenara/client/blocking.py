"""The client for plain code: every method returns when the answer is there."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from typing import Concatenate, ParamSpec, Self, TypeVar

import httpx

from almenara.client import questions
from almenara.client.asking import Asking, Conversation, Outcome, Step, as_method

P = ParamSpec("P")
T = TypeVar("T")


class _Sender:
    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self.http = httpx.Client(**asking.transport)

    def have(self, conversation: Conversation[T]) -> T:
        steps = self._asking.steps(conversation)
        outcome: Outcome = None
        try:
            while True:
                outcome = self._take(steps.send(outcome))
        except StopIteration as done:
            result: T = done.value
            return result

    def _take(self, step: Step) -> Outcome:
        if isinstance(step, httpx.Request):
            return self._send(step)
        time.sleep(step)
        return None

    def _send(self, request: httpx.Request) -> Outcome:
        body = bytearray()
        try:
            with closing(self.http.send(request, stream=True)) as response:
                for part in response.iter_raw():
                    self._asking.take(part, body)
        except httpx.TransportError as error:
            return error
        return self._asking.answer(response, bytes(body))


class _Part:
    def __init__(self, sender: _Sender) -> None:
        self._sender = sender


def _asks(conversation: Callable[P, Conversation[T]]) -> Callable[Concatenate[_Part, P], T]:
    def method(self: _Part, /, *given: P.args, **named: P.kwargs) -> T:
        return self._sender.have(conversation(*given, **named))

    return as_method(method, conversation)


class Vision(_Part):
    """Pictures."""

    predict = _asks(questions.judge_picture)
    predict_many = _asks(questions.judge_pictures)


class Vibration(_Part):
    """Vibration windows."""

    predict = _asks(questions.judge_signal)
    predict_many = _asks(questions.judge_signals)


class Almenara(_Part):
    """Asks an API over connections that are kept, at most 32; threads may share it. Leave it with `with` or `close`.

    A request that meets a broken connection, 429 or 503 is sent again, after the seconds of Retry-After and a little
    more. Every method raises ApiError, ApiUnreachable, or InputError for what cannot be sent.

    Args:
        url: address of the API, such as ``http://127.0.0.1:8000``.
        key: sent as X-API-Key.
        timeout: seconds that connecting may take, and that the API may be silent.
        retries: how often a request is sent again.

    Raises:
        InputError: the URL is none or holds a password, no header can carry the key, or a number makes no sense.

    Example:
        >>> with Almenara("http://127.0.0.1:8000") as api:
        ...     verdict = api.vision.predict("outflow", Path("frame.jpg"))
    """

    def __init__(self, url: str, *, key: str | None = None, timeout: float = 30.0, retries: int = 4) -> None:
        super().__init__(_Sender(Asking(url, key, timeout, retries)))
        self.vision = Vision(self._sender)
        self.vibration = Vibration(self._sender)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every connection."""
        self._sender.http.close()

    models = _asks(questions.models)
    ready = _asks(questions.ready)
    alarms = _asks(questions.alarms)
    acknowledge = _asks(questions.acknowledge)
    trend = _asks(questions.trend)
