"""Around every request: its id, its log line, its metrics, its size limit, and an answer when we fail."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from almenara.errors import InputError
from almenara_api import patience
from almenara_api.logs import set_request_id
from almenara_api.metrics import Metrics
from almenara_api.problems import Problem, internal_error, shutting_down

_LOG = logging.getLogger("almenara_api.requests")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_JUDGING = ("/predict", "/infer")
_QUIET = frozenset({"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/metrics"})


class BodyLimit:
    """Refuses a packed body, and one above the limit: by its Content-Length at once, else while it streams in."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        declared, encoding = headers.get("content-length", ""), headers.get("content-encoding", "identity")
        read = 0

        async def limited() -> Message:
            nonlocal read
            if encoding.lower() != "identity":
                raise InputError(
                    "content-encoding",
                    f"The body's Content-Encoding is {encoding[:40]!r}, and bodies are taken as they are.",
                    "Send it without compression.",
                )
            if declared.isdecimal() and int(declared) > self.max_bytes:
                raise self._refusal(f"{int(declared)} bytes were announced")
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.max_bytes:
                raise self._refusal("more arrived")
            return message

        await self.app(scope, limited, send)

    def _refusal(self, what: str) -> InputError:
        return InputError(
            "body-too-large",
            f"The body may have {self.max_bytes} bytes and {what}.",
            "Send less, or raise ALMENARA_MAX_BODY_BYTES.",
        )


class RequestContext:
    """Names the request, logs and counts its answer, and turns an unexpected exception into a plain 500."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, refusing: Callable[[], bool], busy: Callable[[], Problem | None]
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.refusing = refusing
        self.busy = busy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _named(Headers(scope=scope).get("x-request-id", ""))
        set_request_id(request_id)
        patience.begin(receive)
        start = time.perf_counter()
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                if self.refusing():
                    headers["Connection"] = "close"
            await send(message)

        try:
            if (problem := self._refusal(scope)) is None:
                await self.app(scope, receive, answer)
            else:
                await _answer(scope, receive, answer, problem)
        except ClientDisconnect:
            status = 499
        except Exception:
            _LOG.exception("request failed")
            if status:
                raise
            await _answer(scope, receive, answer, internal_error())
        finally:
            self._record(scope, status, time.perf_counter() - start)

    def _refusal(self, scope: Scope) -> Problem | None:
        """Why nothing is done for a request at all: under overload a refusal must cost next to nothing."""
        if self.refusing() and scope["path"] not in _QUIET:
            return shutting_down()
        return self.busy() if scope["method"] == "POST" and scope["path"].endswith(_JUDGING) else None

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        code = scope.get("state", {}).get("problem_code", "")
        route = getattr(scope.get("route"), "path", "unmatched")
        self.metrics.requests.labels(route, scope["method"], str(status)).inc()
        self.metrics.request_seconds.labels(route).observe(seconds)
        if code:
            self.metrics.problems.labels(code).inc()
        level = logging.DEBUG if scope["path"] in _QUIET else logging.INFO
        fields = {"method": scope["method"], "path": scope["path"], "status": status, "ms": round(seconds * 1e3, 2)}
        told = {"problem": code, "key": scope.get("state", {}).get("key")}
        _LOG.log(level, "request", extra=fields | {name: value for name, value in told.items() if value})


async def _answer(scope: Scope, receive: Receive, send: Send, problem: Problem) -> None:
    scope.setdefault("state", {})["problem_code"] = problem.code
    await problem.response(scope["path"])(scope, receive, send)


def _named(offered: str) -> str:
    """The client's own request id when it is a plain one, else a new one."""
    return offered if _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex
