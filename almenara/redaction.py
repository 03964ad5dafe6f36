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
_END = r"(?=\s|\Z|(?<=\*{3})[)'\"\]:,.]*(?:\s|\Z))"  # of a value; what was hidden before ends where it did
_PLAIN_HOST = re.compile(r"(?:\[[^\]/]*\]|[^:/?#]*)(?::\d{0,5})?(?:[/?#]|\Z)")
_QUERY = re.compile(rf"({_SCHEME}//[^\s?]*\?)(\S+?){_END}")
_QUERY_VALUE = re.compile(r"([^&;=]+=)[^&;]*|[^&;]+")
_TELLTALE = "user|usr|pas|pw|psw|token|key|auth|secret|login|cred|session|sign|access"
# Also inside a path, as in rtsp://cam/user=op_password=secret_channel=1, which some cameras want.
_SECRET_PARAMETER = re.compile(
    rf"([/?&;_][\w.-]{{0,40}}?(?:{_TELLTALE})[\w.-]{{0,40}}=)[^&\s]*?(?:(?=&)|{_END})", re.IGNORECASE
)
_SECRET_HEADER = re.compile(r"((?:authorization|x-api-key|cookie)[\"']?\s*[:=]\s*)\S[^\r\n]*", re.IGNORECASE)


def redact(text: str) -> str:
    """`text` with what may be secret in its URLs and headers replaced by ``***``.

    Of a URL these are user information, every value of its query, since cameras name their password as they like, and
    parameters inside its path whose name tells. User information is taken to reach to the last ``@`` before a space,
    since people write passwords with any characters: too much may be hidden, never too little.
    """
    text = _QUERY.sub(lambda found: found[1] + _without_values(found[2]), _USER_INFO.sub(r"\1***@", text))
    return _SECRET_HEADER.sub(r"\1***", _SECRET_PARAMETER.sub(r"\1***", text))


def redact_address(address: str) -> str:
    """As `redact`, for text that is one address, well-formed or not.

    A space or a missing scheme hides nothing less, and of ``rtsp://user:pass``, which has lost its end, only the scheme
    is shown.
    """
    before, _, after = address.rpartition("@")
    scheme = _SCHEME_AND_SLASHES.match(address)
    if ":" in before:
        address = f"{scheme[0] if scheme else ''}***@{after}"
    elif scheme and not _PLAIN_HOST.match(address, scheme.end()):
        return f"{scheme[0]}***"
    place, mark, query = address.partition("?")
    return redact(place) + mark + _without_values(query)


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


def _without_values(query: str) -> str:
    """The query of a URL with its names alone; of a part without a name nothing is left."""
    return _QUERY_VALUE.sub(lambda found: f"{found[1] or ''}***", query)
