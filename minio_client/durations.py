"""Durations with their unit, such as `30d` or `90m`."""

from __future__ import annotations

import re
from datetime import timedelta

from minio_client.errors import StorageError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAY = timedelta(days=1)


def parse_duration(text: str, what: str) -> timedelta:
    """Read a positive whole number of seconds, minutes, hours, days or weeks (s, m, h, d, w).

    Raises:
        StorageError: ``what`` is no such duration.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,8})([smhdw])", text)
    if found is None:
        raise StorageError(f"{what} is {text!r}, which is no duration.", "Write a number and its unit: 1h, 30d, 4w.")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def parse_days(text: str, what: str) -> int:
    """Read a duration of whole days.

    Raises:
        StorageError: ``what`` is no such duration.
    """
    duration = parse_duration(text, what)
    if duration % _DAY:
        raise StorageError(f"{what} is {text!r}, and storage counts whole days.", "Write a number of days: 30d.")
    return duration // _DAY
