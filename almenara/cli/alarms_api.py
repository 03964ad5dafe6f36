"""The alarms of the API as the command speaks with it: JSON over HTTP, and the stream of events."""

from __future__ import annotations

import http
import http.client
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

from pydantic import TypeAdapter, ValidationError

from almenara.configuration.values import parse_api_url
from almenara.errors import AlmenaraError, ConfigurationError, InputError
from almenara.redaction import redact_address

_Answer = TypeVar("_Answer")

_SECONDS = 30.0
_STREAM_SECONDS = 45.0
"""The stream sends something at least every 15 s."""
_MOST_BYTES = 16 * 2**20
"""Of an answer, and of a line of the stream."""


class AlarmsApi:
    """Asks the API; it follows no redirect and uses no proxy: they would learn the key.

    Args:
        url: of the API, such as ``http://127.0.0.1:8000``.
        key: sent as X-API-Key.

    Raises InputError for a URL that is none.
    """

    def __init__(self, url: str, key: str | None) -> None:
        self.address = redact_address(url)
        try:
            parts = urlsplit(parse_api_url(url))
        except ValueError as error:
            raise InputError("api-url", f"{self.address!r} is no address of an API: {error}.") from None
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host, self._port = parts.hostname or "", parts.port
        self._prefix = f"{parts.path.rstrip('/')}/v1/alarms"
        self._headers = {"X-API-Key": key} if key else {}

    def get(self, path: str, answer: type[_Answer], query: Sequence[tuple[str, object]] = ()) -> _Answer:
        """What lies under ``/v1/alarms`` + path."""
        return self._ask("GET", f"{path}?{urlencode(query)}" if query else path, answer)

    def post(self, path: str, answer: type[_Answer], body: Mapping[str, Any]) -> _Answer:
        """The answer to a JSON body; what is None in it is left out."""
        return self._ask("POST", path, answer, {name: value for name, value in body.items() if value is not None})

    def delete(self, path: str, answer: type[_Answer], query: Sequence[tuple[str, object]]) -> _Answer:
        """The answer to what is ended."""
        return self._ask("DELETE", f"{path}?{urlencode(query)}", answer)

    def events(self, after: str | None, begun: Callable[[], None] = lambda: None) -> Iterator[tuple[str, str]]:
        """Id and data of each event, later than `after` or from now on, until the API ends the stream.

        `begun` is called when the API answers with its stream, before the first event.
        """
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
        connection = self._connect(_STREAM_SECONDS)
        try:
            with self._send(connection, "GET", "/events", None, headers) as response:
                begun()
                yield from _parse(_lines(response))
        except (OSError, http.client.HTTPException) as error:
            raise self._away(error) from error
        finally:
            connection.close()

    def _ask(self, method: str, path: str, answer: type[_Answer], body: Mapping[str, Any] | None = None) -> _Answer:
        connection = self._connect(_SECONDS)
        try:
            content = _bounded(self._send(connection, method, path, body, {}).read(_MOST_BYTES + 1))
        except (OSError, http.client.HTTPException) as error:
            raise self._away(error) from error
        finally:
            connection.close()
        try:
            return TypeAdapter(answer).validate_json(content)
        except ValidationError as error:
            fact = f"The answer of {self.address} cannot be read ({error.error_count()} mistakes)."
            raise ConfigurationError(fact, "Use the command of the API's own version.") from error

    def _connect(self, seconds: float) -> http.client.HTTPConnection:
        return self._kind(self._host, self._port, timeout=seconds)

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
    ) -> http.client.HTTPResponse:
        """The answer's beginning; an error that it tells is raised."""
        content = None if body is None else json.dumps(body).encode()
        kind = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, self._prefix + path, content, {**self._headers, **kind, **headers})
        response = connection.getresponse()
        if not 200 <= response.status < 300:
            raise self._problem(response.status, _bounded(response.read(_MOST_BYTES + 1)))
        return response

    def _problem(self, status: int, content: bytes) -> AlmenaraError:
        try:
            problem = json.loads(content)
            kind = ConfigurationError if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR else AlmenaraError
            return kind(str(problem["detail"]), str(problem.get("remedy", "")))
        except (ValueError, KeyError, TypeError):
            fact = f"{self.address} answers {status} {http.client.responses.get(status, '')}".rstrip() + "."
            return ConfigurationError(fact, "Give the address of an Almenara API with --api-url.")

    def _away(self, error: Exception) -> ConfigurationError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return ConfigurationError(
            f"No API answers at {self.address}: {reason}.",
            "Start it (almenara serve), or give its address with --api-url.",
        )


def _bounded(content: bytes) -> bytes:
    if len(content) > _MOST_BYTES:
        raise http.client.HTTPException("it sends more than 16 MiB at once")
    return content


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while line := _bounded(response.readline(_MOST_BYTES + 1)):
        yield line


def _parse(stream: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """Id and data of each server-sent event."""
    number, data = "", ""
    for line in stream:
        name, _, value = line.decode().rstrip("\r\n").partition(":")
        if name == "id":
            number = value.strip()
        elif name == "data":
            data = value.strip()
        elif not line.strip() and data:
            yield number, data
            data = ""
