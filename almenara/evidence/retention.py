"""Retention: evidence goes by age and by size, the oldest first, but never that of an alarm that stands."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import PurePosixPath

from almenara.evidence.base import EvidenceStore, Stored

logger = logging.getLogger(__name__)

YOUNG_SECONDS = 600.0
"""Evidence as young is left alone: its alarm may not be committed yet."""

_EVERY_SECONDS = 3600.0
_LEFTOVER_SECONDS = 3600.0


def superfluous(
    stored: Iterable[Stored],
    needed: Collection[str],
    *,
    now: float,
    keep_seconds: float | None,
    at_most_bytes: int,
) -> list[Stored]:
    """Which evidence has to go, oldest first.

    Args:
        stored: all that there is.
        needed: URIs that stay. They are matched by the end of their path, so that they hold on to the evidence even
            after its folder was moved.
        now: seconds since 1970.
        keep_seconds: what is older goes; None: age does not matter.
        at_most_bytes: beyond this sum the oldest goes.
    """
    stored = sorted(stored, key=lambda each: (each.saved_at, each.name))
    kept: dict[str, list[str]] = {}
    for place in {f"/{PurePosixPath(uri).parent}" for uri in needed}:
        kept.setdefault(PurePosixPath(place).name, []).append(place)
    total = sum(each.size for each in stored)
    going = []
    for each in stored:
        age = now - each.saved_at
        too_old = keep_seconds is not None and age > keep_seconds
        places = kept.get(PurePosixPath(each.name).name, ())
        stays = age < YOUNG_SECONDS or any(place.endswith(f"/{each.name}") for place in places)
        if stays or not (too_old or total > at_most_bytes):
            continue
        going.append(each)
        total -= each.size
    return going


class Retention:
    """Keeps a store within its age and size, and clears up after saves that crashed.

    Args:
        store: of the alarms that `needed` knows.
        keep_seconds: what is older goes; None: age does not matter.
        at_most_bytes: beyond this sum the oldest goes.
        needed: URIs of evidence that stays: that of alarms that stand.

    Attributes:
        removed: alarms whose evidence went.
        removed_bytes: what that was in bytes.
    """

    def __init__(
        self,
        store: EvidenceStore,
        *,
        keep_seconds: float | None,
        at_most_bytes: int,
        needed: Callable[[], set[str]],
    ) -> None:
        self._store, self._needed = store, needed
        self._keep_seconds, self._at_most_bytes = keep_seconds, at_most_bytes
        self.removed = 0
        self.removed_bytes = 0

    def run(self, stop: threading.Event) -> None:
        """Sweeps at once and then every hour until `stop` is set; what fails is logged."""
        while not stop.is_set():
            try:
                self.sweep(time.time())
            except Exception as error:  # noqa: BLE001 - storage and database fail in many ways, and come back
                logger.warning("Old evidence could not be removed: %s", error)
            stop.wait(_EVERY_SECONDS)

    def sweep(self, now: float) -> None:
        """Removes what has to go at `now`, seconds since 1970. Raises OSError, and what `needed` raises."""
        self._store.remove_leftovers(now - _LEFTOVER_SECONDS)
        stored = self._store.stored()
        going = superfluous(
            stored, self._needed(), now=now, keep_seconds=self._keep_seconds, at_most_bytes=self._at_most_bytes
        )
        for each in going:
            self._store.delete(each)
            self.removed += 1
            self.removed_bytes += each.size
        size = sum(each.size for each in going)
        if going:
            logger.info("Removed the evidence of %d old alarms, %.1f MB.", len(going), size / 1e6)
        left = sum(each.size for each in stored) - size
        if left > self._at_most_bytes:
            logger.warning(
                "Evidence takes %.1f MB, more than the %.1f MB it may: it is new or of alarms that stand.",
                left / 1e6,
                self._at_most_bytes / 1e6,
            )
