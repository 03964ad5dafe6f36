"""The API as the worker sees it: one kept-alive session, a time limit, and a circuit breaker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import aiohttp
from pydantic import ValidationError

from almenara.contracts import VisionVerdict
from almenara.errors import AlmenaraError

_MOST_DETAIL = 300


class ApiAwayError(AlmenaraError):
    """The API cannot be reached, or does not answer in time."""


class ApiRefusedError(AlmenaraError):
    """The API answers without a verdict: no such model, a wrong key, a model that cannot score now."""


class MalformedVerdictError(AlmenaraError):
    """The answer is no verdict: not JSON, a field missing, a score that is not a finite number."""


class CircuitBreaker:
    """Keeps a dead API from being asked by every camera at every turn.

    Any HTTP answer, a 503 too, shows that the API is alive: one camera's trouble with its model does not blind the
    others. After `failures` in a row it opens for `pause` seconds; then one request may try, and its outcome decides.
    """

    def __init__(self, *, failures: int = 3, pause: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_failures, self._pause, self._clock = failures, pause, clock
        self._failures = 0
        self._retry_at = 0.0

    @property
    def open(self) -> bool:
        return self._failures >= self._most_failures

    def permits(self) -> bool:
        """Whether to ask now; while open it says yes once a pause."""
        if not self.open:
            return True
        if self._clock() < self._retry_at:
            return False
        self._retry_at = self._clock() + self._pause
        return True

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self) -> None:
        self._failures += 1
        self._retry_at = self._clock() + self._pause


class VisionClient:
    """Asks ``POST {url}/v1/vision/{model}/predict`` for verdicts.

    Args:
        url: address of the API, without a path.
        key: sent as ``X-API-Key``.
        timeout: seconds for a whole request.
        breaker: shared by all cameras of this client.
    """

    def __init__(
        self, url: str, *, key: str | None = None, timeout: float = 5.0, breaker: CircuitBreaker | None = None
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Content-Type": "image/jpeg"} | ({"X-API-Key": key} if key else {})
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=min(timeout, 1.0))
        self.breaker = breaker or CircuitBreaker()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=self._timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session:
            await self._session.close()

    async def predict(self, jpeg: bytes, model: str, *, overlay: bool = False) -> VisionVerdict:
        """The verdict on a JPEG picture, with the heatmap over the picture when `overlay` is set.

        Raises ApiAwayError (also while the circuit is open), ApiRefusedError, or MalformedVerdictError.
        """
        if not self.breaker.permits():
            raise ApiAwayError(f"The API at {self._url} is away.", "It is tried again every second.")
        try:
            status, body = await self._post(jpeg, model, overlay=overlay)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.breaker.failed()
            reason = "no answer in time" if isinstance(error, TimeoutError) else _plain(error)
            raise ApiAwayError(f"The API at {self._url} is away: {reason}.") from error
        self.breaker.succeeded()
        if status >= 500 or status in {408, 429}:
            raise ApiRefusedError(f"The API cannot score now ({status}): {_detail(body)}")
        if status != 200:
            raise ApiRefusedError(f"The API refuses the request ({status}): {_detail(body)}")
        try:
            return VisionVerdict.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the answer"
            raise MalformedVerdictError(f"The API's answer is no verdict: {where}: {first['msg']}.") from error

    async def _post(self, jpeg: bytes, model: str, *, overlay: bool) -> tuple[int, bytes]:
        if self._session is None:
            raise RuntimeError("use VisionClient as a context manager")
        address = f"{self._url}/v1/vision/{model}/predict"
        parameters = {"heatmap": "overlay" if overlay else "none"}
        async with self._session.post(address, params=parameters, data=jpeg) as response:
            return response.status, await response.read()


def _plain(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _detail(body: bytes) -> str:
    """Fact and remedy of a problem+json answer, else the beginning of whatever came."""
    text = body.decode("utf-8", "replace").strip()
    try:
        problem = json.loads(text)
        told = [problem[part] for part in ("detail", "remedy") if problem.get(part)]
    except (ValueError, AttributeError):
        told = []
    return (" ".join(map(str, told)) or text)[:_MOST_DETAIL]
