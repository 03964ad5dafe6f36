"""Login at the simulated camera: Digest and Basic, for RTSP and HTTP alike."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from typing import Literal

LoginScheme = Literal["digest", "basic"]

_REALM = "almenara"
_PARAMETER = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,]+))')


class Authenticator:
    """Checks Digest (RFC 2617, MD5, as cameras do) and Basic credentials; without a user all may watch.

    Args:
        user, password: that viewers need.
        scheme: which the camera asks for; Basic is taken in either case.
    """

    def __init__(self, user: str | None, password: str | None, scheme: LoginScheme = "digest") -> None:
        self._user, self._password = user, password or ""
        self._scheme = scheme
        self._nonce = secrets.token_hex(8)

    @property
    def challenge(self) -> dict[str, str]:
        """Header of a 401 answer."""
        if self._scheme == "basic":
            return {"WWW-Authenticate": f'Basic realm="{_REALM}"'}
        return {"WWW-Authenticate": f'Digest realm="{_REALM}", nonce="{self._nonce}"'}

    def permits(self, method: str, authorization: str) -> bool:
        """Whether the Authorization header of a request with that method is in order."""
        if self._user is None:
            return True
        scheme, _, credentials = authorization.partition(" ")
        match scheme.lower():
            case "basic":
                return self._basic(credentials)
            case "digest" if self._scheme == "digest":
                return self._digest(credentials, method)
            case _:
                return False

    def _basic(self, credentials: str) -> bool:
        try:
            given = base64.b64decode(credentials, validate=True)
        except ValueError:
            return False
        return hmac.compare_digest(given, f"{self._user}:{self._password}".encode())

    def _digest(self, credentials: str, method: str) -> bool:
        given = {name: quoted or bare for name, quoted, bare in _PARAMETER.findall(credentials)}
        secret = _md5(f"{self._user}:{_REALM}:{self._password}")
        expected = _md5(f"{secret}:{self._nonce}:{_md5(method + ':' + given.get('uri', ''))}")
        return hmac.compare_digest(given.get("response", "").encode(errors="replace"), expected.encode())


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(errors="replace"), usedforsecurity=False).hexdigest()
