"""One GET that ends soon; it follows no redirect and uses no proxy, which would learn keys."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from almenara.configuration.values import parse_api_url
from almenara.errors import ConfigurationError
from almenara.redaction import redact_address

SECONDS = 4.0
"""Of a connect and of each read."""
_MOST_BYTES = 4 * 2**20


class NoAnswerError(Exception):
    """Nobody answers; the text is the reason."""


@dataclass(frozen=True)
class Answer:
    """Status and body of an answer."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace").strip()

    def json(self) -> Any:
        """The body as JSON, None when it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


def get(url: str, path: str, headers: Mapping[str, str] | None = None) -> Answer:
    """The answer to a GET of `path` below an address, whose user information is sent as Basic authorization.

    Raises:
        NoAnswerError: there was none.
        ConfigurationError: it is no http(s) address.
    """
    try:
        parts = urlsplit(parse_api_url(url))
    except ValueError as error:
        raise ConfigurationError(f"{redact_address(url)} is no http address: {error}.", "Correct it.") from None
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=SECONDS)
    sent = {"Accept": "application/json, text/plain", **(headers or {})}
    if parts.username:
        sent["Authorization"] = basic(unquote(parts.username), unquote(parts.password or ""))
    try:
        connection.request("GET", parts.path.rstrip("/") + path, headers=sent)
        response = connection.getresponse()
        return Answer(response.status, response.read(_MOST_BYTES))
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswerError(getattr(error, "strerror", None) or str(error) or type(error).__name__) from error
    finally:
        connection.close()


def basic(user: str, password: str) -> str:
    """The value of the header Authorization."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
