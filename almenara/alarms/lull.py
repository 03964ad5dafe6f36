"""Time in which nobody needs to look into the alarm database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Lull:
    """Begins when a look found nothing to do, and lasts until somebody commits or its time is over.

    Attributes:
        version: of the database (`AlarmStore.version`), read before that look; None makes a lull that never lasts.
        until: seconds on the caller's monotonic clock.
    """

    version: int | None = None
    until: float = 0.0

    def lasts(self, version: Callable[[], int | None], now: float) -> bool:
        """Whether a look at `now` is still needless."""
        return self.version is not None and now < self.until and version() == self.version
