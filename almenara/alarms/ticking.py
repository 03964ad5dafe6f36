"""Ticks of the alarm store: what becomes due by time alone. And how a thread outlives what it cannot prevent."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from almenara.alarms.leases import Lease
from almenara.alarms.lull import Lull
from almenara.alarms.store import AlarmStore

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")
_LEASE = "ticks"


class Ticker:
    """Ticks a store, whichever of its processes holds the lease for it.

    Args:
        store: whose sources to step when their time comes.
        every_seconds: between two ticks.
        lease_seconds: after which another process takes over from one that was killed or hangs.
        monotonic: the clock that `AlarmStore.observe` is given.
        wall_clock: gives the present as an aware datetime.
    """

    def __init__(
        self,
        store: AlarmStore,
        *,
        every_seconds: float = 1.0,
        lease_seconds: float = 10.0,
        monotonic: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._every_seconds = every_seconds
        self._monotonic = monotonic
        self._lease = Lease(store.leases, _LEASE, owner=str(uuid.uuid4()), seconds=lease_seconds, wall_clock=wall_clock)
        self._endurance = Endurance("Ticking", _log)
        self._lull = Lull()

    def run(self, stop: threading.Event) -> None:
        """Tick until `stop` is set; a failure is logged and the next tick comes all the same."""
        while not stop.wait(self._every_seconds):
            self._endurance.run(self._look)
        self._endurance.run(self._lease.release)

    def tick(self) -> bool:
        """Tick once; whether it is this ticker that ticks. Raises as `AlarmStore.tick`."""
        if not self._lease.held():
            return False
        self._store.tick(self._monotonic())
        return True

    def _look(self) -> None:
        """Tick, unless that is known to change nothing."""
        now = self._monotonic()
        if self._lull.lasts(self._store.version, now):
            return
        version = self._store.version()
        if self.tick() and version is not None:
            pause = min(self._store.next_tick(now), self._lease.renewal_seconds)
            self._lull = Lull(version, until=now + pause)


class Endurance:
    """Runs what may fail, again and again; the log hears when failing begins and when it ends."""

    def __init__(self, what: str, log: logging.Logger) -> None:
        self._what = what
        self._log = log
        self._error = ""

    def run(self, work: Callable[[], _Result]) -> _Result | None:
        """The result of `work`, or None if it failed, whatever with."""
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - whatever fails, the thread lives on
            if type(error).__name__ != self._error:
                self._log.exception("%s failed; trying again.", self._what)
                self._error = type(error).__name__
            return None
        if self._error:
            self._log.warning("%s works again.", self._what)
            self._error = ""
        return result
