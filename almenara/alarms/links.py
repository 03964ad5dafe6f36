"""Signed links: whoever got a message can open its alarm and its pictures for a week, without the API's key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable

Sign = Callable[[str], str]
"""Makes the token of a path."""

VALID_SECONDS = 7 * 86400
_PURPOSE = b"almenara evidence link\n"


class Links:
    """Signs paths, such as ``/alarms/ID`` and ``/v1/alarms/ID/evidence/frame.jpg``, with the API's key.

    A token is the second at which it ends, a dot, and an HMAC-SHA256 over that second and the path.

    Args:
        key: of the API.
        clock: seconds since 1970.
    """

    def __init__(self, key: str, clock: Callable[[], float] = time.time) -> None:
        self._key = key.encode()
        self._clock = clock

    def sign(self, path: str) -> str:
        """A token for one path, valid for seven days from now."""
        return self._token(path, int(self._clock()) + VALID_SECONDS)

    def pass_on(self, token: str, path: str) -> str:
        """A token for another path, for whoever came with a valid one; both end together."""
        return self._token(path, int(token.partition(".")[0]))

    def valid(self, path: str, token: str) -> bool:
        """Whether the token was signed here, for this path, and has not ended."""
        until, _, signature = token.partition(".")
        if not until.isascii() or not until.isdecimal() or len(until) > 12 or int(until) < self._clock():
            return False
        return hmac.compare_digest(signature.encode(), self._signature(path, int(until)).encode())

    def _token(self, path: str, until: int) -> str:
        return f"{until}.{self._signature(path, until)}"

    def _signature(self, path: str, until: int) -> str:
        digest = hmac.digest(self._key, _PURPOSE + f"{until}\n{path}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
