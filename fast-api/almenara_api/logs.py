"""JSON logs on standard error, one object a line, each with the id of the request that it belongs to."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

_request_id: ContextVar[str] = ContextVar("request_id", default="-")
_trace_id: ContextVar[str | None] = ContextVar("trace_id", default=None)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


def current_request_id() -> str:
    """Id of the request that the calling task or inference thread works for, `-` outside of one."""
    return _request_id.get()


def set_request_id(value: str) -> None:
    """Name the current request; inference threads inherit it."""
    _request_id.set(value)


def set_trace_id(value: str) -> None:
    """Name the trace of the current request, 32 hexadecimal digits."""
    _trace_id.set(value)


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message, ids of request and trace (where there is one), then what was passed as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": current_request_id(),
        }
        if trace_id := _trace_id.get():
            line["trace_id"] = trace_id
        line.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def configure(level: int = logging.INFO) -> None:
    """Send every logger's lines to standard error as JSON; the web server's own access lines are left out."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("uvicorn.access").disabled = True
    for noisy in ("alembic", "mlflow", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
