"""Keeps credentials out of logs, messages and evidence."""

from __future__ import annotations

import logging
import re

_USER_INFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/\"'<>]*@")
_SECRET_PARAMETER = re.compile(r"([?&](?:user|username|password|passwd|pwd|token|key|auth)=)[^&\s\"']*", re.IGNORECASE)


def redact(text: str) -> str:
    """`text` with user information and secret query parameters of every URL in it replaced by ``***``."""
    return _SECRET_PARAMETER.sub(r"\1***", _USER_INFO.sub(r"\1***@", text))


class RedactingFormatter(logging.Formatter):
    """Redacts a whole log record at the last moment, its traceback included."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))
