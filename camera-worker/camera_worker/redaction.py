"""Keeps credentials out of logs, messages and evidence."""

from __future__ import annotations

import logging
import re
import sys
import threading

logger = logging.getLogger(__name__)

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]{0,20}:"
_USER_INFO = re.compile(rf"({_SCHEME}//)\S*@")
_SCHEME_AND_SLASHES = re.compile(rf"{_SCHEME}/+")
_TELLTALE = "user|usr|pass|pwd|pas|token|key|auth|secret|login|cred|session|sign"
# Also inside a path, as in rtsp://cam/user=op_password=secret_channel=1, which some cameras want.
_SECRET_PARAMETER = re.compile(rf"([/?&;_][\w.-]{{0,40}}?(?:{_TELLTALE})[\w.-]{{0,40}}=)[^&\s]*", re.IGNORECASE)
_SECRET_HEADER = re.compile(r"((?:authorization|x-api-key|cookie)[\"']?\s*[:=]\s*)\S[^\r\n]*", re.IGNORECASE)


def redact(text: str) -> str:
    """`text` with user information and secret parameters of every URL in it, and secret headers, replaced by ``***``.

    User information is taken to reach to the last ``@`` before a space, since people write passwords with any
    characters: too much may be hidden, never too little.
    """
    return _SECRET_HEADER.sub(r"\1***", _SECRET_PARAMETER.sub(r"\1***", _USER_INFO.sub(r"\1***@", text)))


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


def log_what_nobody_caught() -> None:
    """Errors that end a thread or happen in a destructor go to the log, and so through its redaction, not to stderr."""

    def in_thread(failure: threading.ExceptHookArgs) -> None:
        name = failure.thread.name if failure.thread else "a thread"
        trace = (failure.exc_type, failure.exc_value or failure.exc_type(), failure.exc_traceback)
        logger.error("%s failed.", name, exc_info=trace)

    def in_destructor(failure: sys.UnraisableHookArgs) -> None:
        trace = (failure.exc_type, failure.exc_value or failure.exc_type(), failure.exc_traceback)
        logger.error("%s", failure.err_msg or "An error could not be raised.", exc_info=trace)

    threading.excepthook = in_thread
    sys.unraisablehook = in_destructor
    logging.raiseExceptions = False  # a log record that cannot be formatted would show its arguments
