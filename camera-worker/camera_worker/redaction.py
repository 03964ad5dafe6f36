"""Keeps credentials out of logs, messages and evidence."""

from __future__ import annotations

import logging
import re

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]{0,20}:"
_USER_INFO = re.compile(rf"({_SCHEME}//)\S*@")
_SCHEME_AND_SLASHES = re.compile(rf"{_SCHEME}/+")
_SECRET_PARAMETER = re.compile(r"([?&](?:user|username|password|passwd|pwd|token|key|auth)=)[^&\s]*", re.IGNORECASE)


def redact(text: str) -> str:
    """`text` with user information and secret query parameters of every URL in it replaced by ``***``.

    User information is taken to reach to the last ``@`` before a space, since people write passwords with any
    characters: too much may be hidden, never too little.
    """
    return _SECRET_PARAMETER.sub(r"\1***", _USER_INFO.sub(r"\1***@", text))


def redact_address(address: str) -> str:
    """As `redact`, for text that is one address, well-formed or not: a space or a missing scheme hides nothing less."""
    before, _, after = address.rpartition("@")
    if ":" not in before:
        return redact(address)
    scheme = _SCHEME_AND_SLASHES.match(before)
    return redact(f"{scheme[0] if scheme else ''}***@{after}")


class RedactingFormatter(logging.Formatter):
    """Redacts a whole log record at the last moment, its traceback included."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))
