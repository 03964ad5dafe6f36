"""When a camera is watched: weekly windows on the clock of a place, daylight saving time and midnight included."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Self
from zoneinfo import ZoneInfo, available_timezones

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = r"([01]\d|2[0-3]):([0-5]\d)"
_WINDOW = re.compile(rf"([a-z,-]+) +{_TIME} *- *({_TIME}|24:00)", re.IGNORECASE)
_DAY = timedelta(days=1)
_HORIZON_DAYS = 15
"""Two weeks and a day: a window may be skipped once when clocks go forward."""


@dataclass(frozen=True)
class Window:
    """Days of the week (0 is Monday) and the times of day, in minutes, at which it opens and closes.

    One that closes before it opens runs past midnight and belongs to the day on which it opens.
    """

    days: frozenset[int]
    opens: int
    closes: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The window that ``mon-fri 06:00-22:00`` names; ValueError with a plain sentence for anything else."""
        match = _WINDOW.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is no window: write days and times, such as mon-fri 06:00-22:00")
        opens = int(match[2]) * 60 + int(match[3])
        closes = 24 * 60 if match[4] == "24:00" else int(match[5]) * 60 + int(match[6])
        if opens == closes:
            raise ValueError(f"{text!r} closes when it opens; a whole day is 00:00-24:00")
        return cls(frozenset(_parse_days(match[1].lower())), opens, closes)

    def holds(self, weekday: int, minute: int) -> bool:
        """Whether a clock that shows `minute` of `weekday` shows a time in the window."""
        if self.opens < self.closes:
            return weekday in self.days and self.opens <= minute < self.closes
        yesterday = (weekday - 1) % 7
        return (weekday in self.days and minute >= self.opens) or (yesterday in self.days and minute < self.closes)


@dataclass(frozen=True)
class Schedule:
    """Weekly windows in one time zone.

    A window holds whenever a clock on the wall of that place shows a time in it. An hour that the clock skips in spring
    is never shown; one that it repeats in autumn is shown, and watched, twice.
    """

    zone: ZoneInfo
    windows: tuple[Window, ...]

    @classmethod
    def parse(cls, time_zone: str, active: Sequence[str]) -> Self:
        """From an IANA name and windows as `Window.parse` takes them; ValueError with a plain sentence."""
        return cls(parse_time_zone(time_zone), tuple(Window.parse(text) for text in active))

    def is_active(self, at: datetime) -> bool:
        """Whether the camera is watched at `at`, an aware datetime."""
        local = at.astimezone(self.zone)
        minute = local.hour * 60 + local.minute
        return any(window.holds(local.weekday(), minute) for window in self.windows)

    def next_change(self, at: datetime) -> datetime | None:
        """The first moment after `at` (aware), in UTC, from which `is_active` answers differently; None without one."""
        now = self.is_active(at)
        moments = sorted(moment for moment in self._moments(at) if moment > at)
        return next((moment for moment in moments if self.is_active(moment) is not now), None)

    def _moments(self, at: datetime) -> Iterator[datetime]:
        """Every moment of the next two weeks at which a window may open or close, in UTC, in no order."""
        today = at.astimezone(self.zone).date()
        edges = {edge % (24 * 60) for window in self.windows for edge in (window.opens, window.closes)}
        for day in (today + number * _DAY for number in range(_HORIZON_DAYS)):
            for edge in edges | {0}:
                wall = datetime.combine(day, time(edge // 60, edge % 60), self.zone)
                for fold in (0, 1):
                    yield wall.replace(fold=fold).astimezone(UTC)
            yield from self._clock_change(day)

    def _clock_change(self, day: date) -> Iterator[datetime]:
        """The moment of `day`, in UTC, at which the clock is set forward or back, if it is."""
        early, late = (int(datetime.combine(each, time(), self.zone).timestamp()) for each in (day, day + _DAY))
        before = self._offset(early)
        if before == self._offset(late):
            return
        while late - early > 1:
            middle = (early + late) // 2
            early, late = (middle, late) if self._offset(middle) == before else (early, middle)
        yield datetime.fromtimestamp(late, UTC)

    def _offset(self, timestamp: int) -> timedelta | None:
        return datetime.fromtimestamp(timestamp, self.zone).utcoffset()


def parse_time_zone(name: str) -> ZoneInfo:
    """The zone of an IANA name; ValueError that names similar ones when there is none of that name."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        near = _similar_zones(name[:80])
        hint = f"did you mean {' or '.join(near)}?" if near else "write an IANA name, such as Europe/Madrid"
        raise ValueError(f"there is no time zone {name[:80]!r}; {hint}") from None


def _similar_zones(name: str) -> list[str]:
    """At most three zones whose whole name, or whose place, resembles `name`."""
    zones = {zone.lower(): zone for zone in sorted(available_timezones())}
    places = {zone.rpartition("/")[2]: zone for zone in zones}
    wanted = name.strip().lower().replace(" ", "_")
    if wanted in places:
        return [zones[places[wanted]]]
    found = difflib.get_close_matches(wanted, zones) + [
        places[place] for place in difflib.get_close_matches(wanted.rpartition("/")[2], places)
    ]
    return [zones[zone] for zone in dict.fromkeys(found)][:3]


def _parse_days(text: str) -> Iterator[int]:
    if text == "daily":
        yield from range(7)
        return
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first not in _DAYS or (dash and last not in _DAYS):
            raise ValueError(f"{part!r} names no days: write {', '.join(_DAYS)}, a range such as mon-fri, or daily")
        start = _DAYS.index(first)
        length = (_DAYS.index(last) - start) % 7 if dash else 0
        yield from ((start + offset) % 7 for offset in range(length + 1))
