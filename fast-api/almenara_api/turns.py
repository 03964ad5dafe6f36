"""Windows of one asset reach its alarm in the order in which they arrived, however long each was judged."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from almenara_api.patience import left


class Turns:
    """Hands out turns. A process orders only its own windows: those sent to another are unknown to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, list[Turn]] = {}
        self._count = 0

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """The turn of a request that arrives now; it is over when the block ends."""
        self._count += 1
        turn = Turn(self, self._count)
        try:
            yield turn
        finally:
            self._end(turn)

    def take(self, turn: Turn, asset: str) -> None:
        """Queue a turn for its asset, unless it is over or queued already."""
        with self._lock:
            if not turn.over.is_set() and not turn.asset:
                turn.asset = asset
                self._open.setdefault(asset, []).append(turn)

    def before(self, turn: Turn) -> Turn | None:
        """One that arrived earlier for the same asset and is not over."""
        with self._lock:
            waiting = self._open.get(turn.asset, ())
            return next((each for each in waiting if each.number < turn.number and not each.over.is_set()), None)

    def _end(self, turn: Turn) -> None:
        with self._lock:
            turn.over.set()
            waiting = self._open.get(turn.asset, [])
            if turn in waiting:
                waiting.remove(turn)
            if not waiting:
                self._open.pop(turn.asset, None)


class Turn:
    """One request's place among those for its asset."""

    def __init__(self, turns: Turns, number: int) -> None:
        self.number = number
        self.asset = ""
        self.over = asyncio.Event()
        self._turns = turns

    def take(self, asset: str) -> None:
        """Say which asset it is for; from any thread, and only the first time counts."""
        self._turns.take(self, asset)

    async def come(self, timeout_seconds: float) -> None:
        """Wait for earlier ones of the asset; returns after the timeout too, since a late window beats a lost one."""
        try:
            async with asyncio.timeout(left(timeout_seconds)):
                while (earlier := self._turns.before(self)) is not None:
                    await earlier.over.wait()
        except TimeoutError:
            return
