"""The last seconds of one camera as they were prepared for scoring: what an alarm shows of before and after it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from camera_worker.quality import Condition

_MOST_MOMENTS = 48
_MOST_BYTES = 24 * 2**20
_MOST_MARKS = 4

Moments = tuple["Moment", ...]


@dataclass(frozen=True)
class Moment:
    """One prepared picture.

    Attributes:
        monotonic: seconds on the clock of the camera's frames.
        captured_at: wall time, UTC.
        jpeg: the picture as it is sent to the API.
        condition: what the picture is worth.
        anomaly: of its verdict, 0 to 1; None when it was not scored.
    """

    monotonic: float
    captured_at: datetime
    jpeg: bytes
    condition: Condition
    anomaly: float | None = None


@dataclass(frozen=True)
class _Mark:
    at: float
    finish: Callable[[Moments], None]


class History:
    """A ring of moments, bounded by time, number and bytes; safe between threads.

    Time is that of the frames, so that a file read faster than it plays has its seconds too. Of pictures that come
    faster than `before` + `after` allows 48 of, the earlier of two is kept.

    Args:
        before: seconds that are kept from before a mark.
        after: seconds that a mark waits for.
    """

    def __init__(self, before: float, after: float) -> None:
        self.before, self.after = before, after
        self._spacing = (before + after) / _MOST_MOMENTS
        self._moments: deque[Moment] = deque(maxlen=_MOST_MOMENTS + 2)
        self._marks: deque[_Mark] = deque()
        self._added_at = time.monotonic()
        self._lock = threading.Lock()

    @property
    def idle(self) -> float:
        """Seconds since a moment was added, on this process's monotonic clock."""
        return time.monotonic() - self._added_at

    def add(self, moment: Moment) -> None:
        """Takes in the newest moment; marks whose time has passed are finished first."""
        with self._lock:
            self._added_at = time.monotonic()
            due = [(mark, self._around(mark.at)) for mark in self._marks if moment.monotonic > mark.at + self.after]
            for mark, _ in due:
                self._marks.remove(mark)
            self._append(moment)
        for mark, moments in due:
            mark.finish(moments)

    def around(self, at: float) -> Moments:
        """What is there from `before` seconds before `at` to `after` seconds after it, oldest first."""
        with self._lock:
            return self._around(at)

    def mark(self, at: float, finish: Callable[[Moments], None]) -> None:
        """Has `finish` called once, by whoever adds, with the moments around `at` when those after it are there.

        No more than four marks wait: a fifth finishes the oldest.
        """
        with self._lock:
            self._marks.append(_Mark(at, finish))
            surplus = self._marks.popleft() if len(self._marks) > _MOST_MARKS else None
        if surplus:
            surplus.finish(self.around(surplus.at))

    def finish(self) -> None:
        """Finishes every mark with what is there, as when nothing more will come."""
        with self._lock:
            due = [(mark, self._around(mark.at)) for mark in self._marks]
            self._marks.clear()
        for mark, moments in due:
            mark.finish(moments)

    def _around(self, at: float) -> Moments:
        return tuple(moment for moment in self._moments if at - self.before <= moment.monotonic <= at + self.after)

    def _append(self, moment: Moment) -> None:
        moments = self._moments
        if moments and moment.monotonic < moments[-1].monotonic:
            moments.clear()  # another clock: the source was replaced
        elif moments and moment.monotonic - moments[-1].monotonic < self._spacing:
            return
        moments.append(moment)
        oldest = moment.monotonic - self.before - self.after
        while moments[0].monotonic < oldest or (len(moments) > 1 and self._size() > _MOST_BYTES):
            moments.popleft()

    def _size(self) -> int:
        return sum(len(moment.jpeg) for moment in self._moments)
