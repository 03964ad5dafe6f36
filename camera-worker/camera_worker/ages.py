"""How old a camera's frames are when they are posted: a cumulative histogram, as Prometheus takes it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

BOUNDS_SECONDS = (0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)


class AgeHistogram:
    """Counts ages by upper bounds; written by one thread, read by anybody."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_SECONDS) + 1)
        self.total = 0.0

    def add(self, age: float) -> None:
        """Counts one frame that was `age` seconds old."""
        self._counts[bisect_left(BOUNDS_SECONDS, age)] += 1
        self.total += age

    @property
    def buckets(self) -> Sequence[tuple[str, float]]:
        """Upper bound in seconds, as text, and the number of frames up to it; the last bound is +Inf."""
        cumulated, reached = [], 0
        for bound, count in zip((*map(str, BOUNDS_SECONDS), "+Inf"), self._counts, strict=True):
            reached += count
            cumulated.append((bound, float(reached)))
        return cumulated
