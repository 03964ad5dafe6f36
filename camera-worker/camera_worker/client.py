"""The API as the worker sees it: one kept-alive session, a time limit, and a circuit breaker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import aiohttp
from pydantic import ValidationError

from almenara.contracts import VisionVerdict
from almenara.errors import AlmenaraError
from almenara.redaction import redact, redact_address
from almenara.vision.images import EXACT_QUALITY, QUALITY_HEADER, SENT_QUALITY

_MOST_DETAIL = 300
_MOST_ANSWER_BYTES = 16 * 2**20  # a verdict with its overlay may be some MB
_MOST_LABEL = 200
_KEEP_ALIVE_SECONDS = 4.0  # less than servers wait (uvicorn 5), so that no request meets a connection being closed
_OF_THE_PICTURE = frozenset({400, 413, 415, 422})
_LEAST_TRIAL_SECONDS = 1.0
_FULL_TRIAL_EVERY = 8


class ApiAwayError(AlmenaraError):
    """The API cannot be reached, or does not answer in time."""


class ApiRefusedError(AlmenaraError):
    """The API answers without a verdict: no such model, a wrong key, a model that cannot score now."""


class PictureRefusedError(ApiRefusedError):
    """The API refuses this very picture; it would refuse it again, and may score another."""


class MalformedVerdictError(AlmenaraError):
    """The answer is no verdict: not JSON, a field missing, a score that is not a finite number, another model's."""


class CircuitBreaker:
    """Keeps a dead API from being asked by every camera at every turn.

    Any HTTP answer, a 503 too, shows that the API is alive: one camera's trouble with its model does not blind the
    others. After `failures` in a row it opens for `pause` seconds; then one request may try, and its outcome decides.
    """

    def __init__(self, *, failures: int = 3, pause: float = 0.5, clock: Callable[[], float] = time.monotonic) -> None:
        self.pause = pause
        self._most_failures, self._clock = failures, clock
        self._failures = 0
        self._retry_at = 0.0

    @property
    def open(self) -> bool:
        return self._failures >= self._most_failures

    @property
    def failures(self) -> int:
        """Failures in a row."""
        return self._failures

    def permits(self) -> bool:
        """Whether to ask now; while open it says yes once a pause."""
        if not self.open:
            return True
        if self._clock() < self._retry_at:
            return False
        self._retry_at = self._clock() + self.pause
        return True

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self) -> None:
        self._failures += 1
        if self._failures == self._most_failures:  # later ones must not put off the next try
            self._retry_at = self._clock() + self.pause


class VisionClient:
    """Asks ``POST {url}/v1/vision/{model}/predict`` for verdicts.

    Connections are kept alive and as many as there are cameras. Redirects are not followed, since the key must not
    travel to another host, and answers are read up to 16 MiB.

    Args:
        url: address of the API, without a path; messages show it without credentials.
        key: sent as ``X-API-Key``.
        timeout: seconds for a whole request.
        breaker: shared by all cameras of this client.
    """

    def __init__(
        self, url: str, *, key: str | None = None, timeout: float = 5.0, breaker: CircuitBreaker | None = None
    ) -> None:
        self._url, self._label = url.rstrip("/"), redact_address(url.rstrip("/"))
        self._key = key
        self._headers = {"Content-Type": "image/jpeg"} | ({"X-API-Key": key} if key else {})
        self._timeout = timeout
        self._usual = timeout  # seconds that the latest verdict took
        self._frugal: set[str] = set()
        self.breaker = breaker or CircuitBreaker()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS)
        cookies = aiohttp.DummyCookieJar()
        self._session = aiohttp.ClientSession(headers=self._headers, connector=connector, cookie_jar=cookies)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session:
            await self._session.close()

    def jpeg_quality(self, model: str) -> int:
        """At which to encode the next picture for a model: the best, until the API says that less does."""
        return SENT_QUALITY if model in self._frugal else EXACT_QUALITY

    async def predict(self, jpeg: bytes, model: str, *, overlay: bool = False) -> VisionVerdict:
        """The verdict on a JPEG picture, with the heatmap over the picture when `overlay` is set.

        Raises ApiAwayError (also while the circuit is open), ApiRefusedError, or MalformedVerdictError.
        """
        if not self.breaker.permits():
            raise ApiAwayError(f"The API at {self._label} is away.", "It is tried again all the time.")
        asked_at = time.monotonic()
        try:
            status, headers, body = await self._post(jpeg, model, overlay=overlay)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.breaker.failed()
            reason = "no answer in time" if isinstance(error, TimeoutError) else redact(_plain(error))
            raise ApiAwayError(f"The API at {self._label} is away: {reason}.") from error
        self.breaker.succeeded()
        if len(body) > _MOST_ANSWER_BYTES:
            raise MalformedVerdictError(f"The API's answer is no verdict: it is over {_MOST_ANSWER_BYTES >> 20} MiB.")
        if status >= 500 or status in {408, 429}:
            raise ApiRefusedError(f"The API cannot score now ({status}): {self._detail(body)}")
        if 300 <= status < 400:
            raise ApiRefusedError(
                f"The API at {self._label} redirects ({status}).", "Give the address it redirects to."
            )
        if status in _OF_THE_PICTURE:
            raise PictureRefusedError(f"The API refuses the picture ({status}): {self._detail(body)}")
        if status != 200:
            raise ApiRefusedError(f"The API refuses the request ({status}): {self._detail(body)}")
        verdict = _verdict(body, model)
        self._usual = time.monotonic() - asked_at
        if headers.get(QUALITY_HEADER) == str(SENT_QUALITY):
            self._frugal.add(model)
        else:
            self._frugal.discard(model)
        return verdict

    async def _post(self, jpeg: bytes, model: str, *, overlay: bool) -> tuple[int, Mapping[str, str], bytes]:
        if self._session is None:
            raise RuntimeError("use VisionClient as a context manager")
        address = f"{self._url}/v1/vision/{model}/predict"
        parameters = {"heatmap": "overlay" if overlay else "none"}
        patience = self._patience
        timeout = aiohttp.ClientTimeout(total=patience, sock_connect=min(patience, 1.0))
        async with self._session.post(
            address, params=parameters, data=jpeg, timeout=timeout, allow_redirects=False
        ) as response:
            return response.status, response.headers, await _read(response.content)

    @property
    def _patience(self) -> float:
        """Seconds for the next request.

        While the circuit is open a request that is not answered must not keep the next from finding the API again, so
        it gets twice what the latest verdict took. Every eighth gets all, for an API that has become slow meanwhile.
        """
        if not self.breaker.open or self.breaker.failures % _FULL_TRIAL_EVERY == 0:
            return self._timeout
        return min(self._timeout, max(_LEAST_TRIAL_SECONDS, 2 * self._usual))

    def _detail(self, body: bytes) -> str:
        """Fact and remedy of a problem+json answer, else the beginning of whatever came; without our key."""
        text = body.decode("utf-8", "replace").strip()
        try:
            problem = json.loads(text)
            told = [problem[part] for part in ("detail", "remedy") if problem.get(part)]
        except (ValueError, AttributeError, RecursionError):
            told = []
        words = " ".join((" ".join(map(str, told)) or text).split())
        return redact(words.replace(self._key, "***") if self._key else words)[:_MOST_DETAIL]


async def _read(content: aiohttp.StreamReader) -> bytes:
    """The body, or its beginning when it is larger than any verdict."""
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > _MOST_ANSWER_BYTES:
            break
    return bytes(body)


def _verdict(body: bytes, model: str) -> VisionVerdict:
    try:
        verdict = VisionVerdict.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the answer"
        raise MalformedVerdictError(f"The API's answer is no verdict: {where[:80]}: {first['msg']}.") from None
    if verdict.model.name != model:
        fact = f"The API's answer is no verdict: it is of the model {verdict.model.name[:80]!r}, not of {model!r}."
        raise MalformedVerdictError(fact)
    if len(verdict.label) > _MOST_LABEL:
        raise MalformedVerdictError(f"The API's answer is no verdict: its label has {len(verdict.label)} characters.")
    return verdict


def _plain(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
