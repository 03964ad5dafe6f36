"""What a source delivers, measured while it is read: pictures a second, damage, key frames, the last good sign."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import av

from camera_worker.slot import Picture
from camera_worker.sources import Description, Witness

_WINDOW_SECONDS = 10.0
_MOST_REMEMBERED = 2000

_Times = tuple[float, float | None]
"""Seconds of an arrival, and in the stream where it tells."""


@dataclass
class CaptureCounters:
    """What a reader has been through; written by its thread, read by anybody."""

    frames: int = 0
    damaged: int = 0
    skipped: int = 0
    """Undamaged pictures between key frames, left undecoded."""
    connections: int = 0
    losses: int = 0


class StreamMeter(Witness):
    """The witness of one source, over all its connections; written by one thread, read by any.

    Attributes:
        counters: totals.
        touched_at: seconds (monotonic) of the last thing that happened, good or bad.
        seen_at: seconds (monotonic) of the last sign that undamaged pictures keep coming; at first, of the start.
        size: width and height of the last picture.
        keyframe_interval: seconds between the last two key frames; None before there were two on one connection.
        description: what the source said of itself when it was last opened.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._events: deque[tuple[float, bool]] = deque(maxlen=_MOST_REMEMBERED)
        self._begun_at = self.touched_at = self.seen_at = clock()
        self._key_frame_at: _Times | None = None
        self.counters = CaptureCounters()
        self.size: tuple[int, int] | None = None
        self.keyframe_interval: float | None = None
        self.description: Description | None = None

    @property
    def fps(self) -> float:
        """Undamaged pictures a second over the last ten seconds, or since the connection began."""
        good, _, seconds = self._recent()
        return good / seconds

    @property
    def damaged_share(self) -> float:
        """Share of the pictures of the last ten seconds that were damaged, 0 to 1."""
        good, damaged, _ = self._recent()
        return damaged / (good + damaged) if damaged else 0.0

    def restart(self) -> None:
        """A new connection begins."""
        with self._lock:
            self._events.clear()
        self._begun_at = self._touch()
        self._key_frame_at = None

    def picture(self, picture: Picture) -> None:
        """An undamaged picture has been read."""
        self.counters.frames += 1
        if isinstance(picture, av.VideoFrame):
            self.size = picture.width, picture.height
        else:
            self.size = picture.shape[1], picture.shape[0]
        self.seen_at = self._note(good=True)

    def described(self, description: Description) -> None:
        self.description = description
        self._begun_at = self._touch()

    def received(self, size: int, *, key_frame: bool, at: float | None) -> None:  # noqa: ARG002 - not weighed here
        key_frame_at = self._touch(), at
        if key_frame:
            if self._key_frame_at is not None:
                self.keyframe_interval = _seconds_between(self._key_frame_at, key_frame_at)
            self._key_frame_at = key_frame_at

    def skipped(self) -> None:
        self.counters.skipped += 1
        self.seen_at = self._touch()

    def damaged(self, reason: str) -> None:  # noqa: ARG002 - counted, whatever it was
        self.counters.damaged += 1
        self._note(good=False)

    def _note(self, *, good: bool) -> float:
        now = self._touch()
        with self._lock:
            self._events.append((now, good))
        return now

    def _touch(self) -> float:
        self.touched_at = self._clock()
        return self.touched_at

    def _recent(self) -> tuple[int, int, float]:
        """Good and damaged pictures within the window, and the window's length so far in seconds."""
        now = self._clock()
        with self._lock:
            recent = [good for at, good in self._events if at > now - _WINDOW_SECONDS]
        good = sum(recent)
        return good, len(recent) - good, min(_WINDOW_SECONDS, max(now - self._begun_at, 1.0))


def _seconds_between(earlier: _Times, later: _Times) -> float:
    """By the stream's own times if it tells them and they go forwards, else by the arrivals."""
    if earlier[1] is not None and later[1] is not None and later[1] > earlier[1]:
        return later[1] - earlier[1]
    return later[0] - earlier[0]
