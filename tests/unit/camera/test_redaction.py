"""No credentials in anything that is shown."""

from __future__ import annotations

import logging

import pytest

from camera_worker.redaction import RedactingFormatter, redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://op:secret@cam/1", "rtsp://***@cam/1"),
        ("rtsp://plant.op:p%40ss@10.0.0.7:554/live", "rtsp://***@10.0.0.7:554/live"),
        ("rtsp://op:p@ss@cam/1 is away", "rtsp://***@cam/1 is away"),
        ("Error: 'rtsp://op@cam/1'", "Error: 'rtsp://***@cam/1'"),
        ("http://cam/snap?user=op&password=secret&x=1", "http://cam/snap?user=***&password=***&x=1"),
        ("rtsp://cam/1 mailed to op@plant", "rtsp://cam/1 mailed to op@plant"),
    ],
)
def test_user_information_is_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_tracebacks_are_redacted_too() -> None:
    error = ValueError("cannot open rtsp://op:secret@cam/1")
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, "failed", None, (ValueError, error, None))
    line = RedactingFormatter().format(record)
    assert "secret" not in line
    assert "rtsp://***@cam/1" in line
