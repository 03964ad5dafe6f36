"""How the API is asked, whoever sends: what a request holds, and when it is sent again."""

from __future__ import annotations

import inspect
import random
import ssl
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import update_wrapper
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr
from pydantic_core import PydanticCustomError

from almenara import __version__
from almenara.client.answers import MOST_BYTES, Answer, ApiUnreachable
from almenara.configuration.values import parse_api_url
from almenara.errors import InputError
from almenara.redaction import redact, redact_address
from almenara.settings import sendable_key

T = TypeVar("T")
_Method = TypeVar("_Method", bound=Callable[..., Any])

_MOST_CONNECTIONS = 32
"""Further requests wait for their turn here, and not in the API's queue of 64."""
_KEEP_ALIVE_SECONDS = 4.0
"""Less than servers wait (uvicorn 5), so that no request meets a connection that is being closed."""
FIRST_WAIT_SECONDS = 0.25
"""Doubled each time."""
_LONGEST_WAIT_SECONDS = 60.0
_BUSY = frozenset({429, 503})
_BROKEN = (httpx.NetworkError, httpx.ConnectTimeout, httpx.RemoteProtocolError)


@dataclass(frozen=True)
class Request:
    """One request. Every one may be sent twice: it changes nothing, or carries a key by which a repeat is known.

    Attributes:
        answers: statuses beside 2xx that say what was asked for.
    """

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    files: Sequence[tuple[str, tuple[str, bytes, str]]] = ()
    answers: frozenset[int] = frozenset()


Conversation = Generator[Request, Answer, T]
"""Asks with each request that it yields, and returns what became of it all."""
Step = httpx.Request | float
"""What to do next: send it, or wait so many seconds."""
Outcome = Answer | httpx.TransportError | None
"""Of a request that was sent; None of a wait."""


class Asking:
    """Turns conversations into steps, which need nothing but somebody who sends and waits.

    Args:
        url: address of the API, such as ``http://127.0.0.1:8000``.
        key: sent as X-API-Key.
        timeout: seconds that connecting may take, and that the API may be silent.
        retries: how often a request is sent again.

    Raises:
        InputError: the URL is none or holds a password, no header can carry the key, or a number makes no sense.
    """

    def __init__(self, url: str, key: str | None, timeout: float, retries: int) -> None:
        self.address = redact_address(url)
        try:
            parts = urlsplit(parse_api_url(url))
        except ValueError as error:
            raise InputError("api-url", f"{self.address!r} is no address of an API: {error}.") from None
        if "@" in parts.netloc:
            raise InputError("api-url", f"{self.address!r} holds credentials.", "Give the key beside it.")
        self._base = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._key = _checked(key)
        self._headers = {"User-Agent": f"almenara/{__version__}", "Accept-Encoding": "identity"}
        if self._key:
            self._headers["X-API-Key"] = self._key
        if not timeout > 0 or retries < 0:
            raise InputError(
                "client-options",
                f"timeout is {timeout} s, retries {retries}.",
                "Give more than 0 s, and 0 or more retries.",
            )
        self._timeout = httpx.Timeout(timeout, pool=None)
        self._retries = retries

    @property
    def transport(self) -> dict[str, Any]:
        """What httpx is told: no redirect is followed and no proxy used, since they would learn the key."""
        return {
            "verify": ssl.create_default_context(),  # the system's authorities, and SSL_CERT_FILE
            "trust_env": False,
            "follow_redirects": False,
            "limits": httpx.Limits(max_connections=_MOST_CONNECTIONS, keepalive_expiry=_KEEP_ALIVE_SECONDS),
        }

    def steps(self, conversation: Conversation[T]) -> Generator[Step, Outcome, T]:
        """What to do, step by step, to have the conversation; each outcome is sent in.

        Raises:
            ApiError: the API refuses.
            ApiUnreachable: it does not answer, or not as an API of this version does.
            InputError: what was given cannot be asked.
        """
        try:
            request = next(conversation)
            while True:
                answer = yield from self._attempts(request)
                request = conversation.send(answer)
        except StopIteration as done:
            result: T = done.value
            return result

    def answer(self, response: httpx.Response, body: bytes) -> Answer:
        """What has come in."""
        return Answer(response.status_code, response.headers, body, self.address, self._key)

    def take(self, part: bytes, body: bytearray) -> None:
        """Add to a body, up to 64 MiB.

        Raises:
            ApiUnreachable: it is more.
        """
        body += part
        if len(body) > MOST_BYTES:
            raise ApiUnreachable(f"The answer of {self.address} has more than {MOST_BYTES >> 20} MiB.", "Ask for less.")

    def _attempts(self, request: Request) -> Generator[Step, Outcome, Answer]:
        for attempt in range(self._retries + 1):
            outcome = yield self._prepared(request)
            wait = min(FIRST_WAIT_SECONDS * 2**attempt, 8.0) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
            if isinstance(outcome, Answer):
                if outcome.status not in _BUSY - request.answers:
                    return outcome
                wait += _retry_after(outcome)
            elif not isinstance(outcome, _BROKEN):
                break
            if attempt == self._retries or wait > _LONGEST_WAIT_SECONDS:
                break
            yield wait
        if isinstance(outcome, Answer):
            return outcome
        raise self._away(outcome) from outcome

    def _prepared(self, request: Request) -> httpx.Request:
        try:
            return httpx.Request(
                request.method,
                self._base + request.path,
                params=request.query or None,
                headers={**self._headers, **request.headers},
                content=request.content,
                files=request.files or None,
                extensions={"timeout": self._timeout.as_dict()},
            )
        except httpx.InvalidURL as error:
            raise InputError("api-url", f"{self.address!r} is no address of an API: {error}.") from None

    def _away(self, error: httpx.TransportError | None) -> ApiUnreachable:
        told = "no answer in time" if isinstance(error, httpx.TimeoutException) else redact(str(error))
        return ApiUnreachable(
            f"No API answers at {self.address}: {told or type(error).__name__}.",
            "Start it (almenara serve), or give its address.",
        )


def as_method(method: _Method, conversation: Callable[..., Conversation[Any]]) -> _Method:
    """The method with name, parameters and description of the conversation that it has."""
    shown = inspect.signature(conversation)
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    returned = str(shown.return_annotation).removeprefix("Conversation[").removesuffix("]")
    update_wrapper(method, conversation)
    signature = shown.replace(parameters=[own, *shown.parameters.values()], return_annotation=returned)
    vars(method)["__signature__"] = signature  # where inspect looks first
    return method


def _checked(key: str | None) -> str | None:
    try:
        return sendable_key(SecretStr(key)).get_secret_value() if key else None
    except PydanticCustomError as error:
        raise InputError("api-key", f"The key cannot be sent: {error.message()}.") from None


def _retry_after(answer: Answer) -> float:
    """Seconds; 0 when it does not tell them."""
    told = answer.headers.get("Retry-After", "")
    return float(told) if told.isascii() and told.isdecimal() else 0.0
