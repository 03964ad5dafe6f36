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
_LEAST_JUDGED, _MOST_JUDGED = 5, 20  # latest pictures since an undamaged key frame, see `StreamMeter.trusted`
_MOST_DAMAGED = 0.7  # of those

_Times = tuple[float, float | None]
"""Seconds of an arrival, and in the stream where it tells."""


@dataclass
class CaptureCounters:
    """What a reader has been through; written by its thread, read by anybody."""

    frames: int = 0
    damaged: int = 0
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
        lag: seconds by which the newest picture came late, as far as the stream tells.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._events: deque[tuple[float, bool]] = deque()  # of the window, oldest first
        self._damaged = 0  # among them
        self._begun_at = self.touched_at = self.seen_at = clock()
        self._key_frame_at: _Times | None = None
        self._latest: deque[bool] = deque(maxlen=_MOST_JUDGED)  # since an undamaged key frame: whether it was damaged
        self.counters = CaptureCounters()
        self.size: tuple[int, int] | None = None
        self.keyframe_interval: float | None = None
        self.lag = 0.0

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

    @property
    def trusted(self) -> bool:
        """Whether a picture that looks undamaged can be believed.

        Decoders flag the picture that was hit, and not always that; those that refer to it carry its traces. Where
        seven of ten were flagged since the last undamaged key frame, the others are no better.
        """
        return len(self._latest) < _LEAST_JUDGED or sum(self._latest) < _MOST_DAMAGED * len(self._latest)

    def restart(self) -> None:
        """A new connection begins."""
        with self._lock:
            self._events.clear()
            self._damaged = 0
        self._begun_at = self._touch()
        self._key_frame_at = None
        self._latest.clear()
        self.lag = 0.0

    def picture(self, picture: Picture) -> None:
        """A picture without a flag of damage has been read."""
        self.counters.frames += 1
        if isinstance(picture, av.VideoFrame):
            self.size = picture.width, picture.height
            whole = bool(picture.key_frame)
        else:
            self.size = picture.shape[1], picture.shape[0]
            whole = True
        if whole:
            self._latest.clear()
        self._latest.append(False)
        now = self._note(good=True)
        if self.trusted:
            self.seen_at = now

    def described(self, description: Description) -> None:  # noqa: ARG002 - only that it is open counts here
        self._begun_at = self._touch()

    def received(self, size: int, *, key_frame: bool, at: float | None) -> None:  # noqa: ARG002 - not weighed here
        key_frame_at = self._touch(), at
        if key_frame:
            if self._key_frame_at is not None:
                self.keyframe_interval = _seconds_between(self._key_frame_at, key_frame_at)
            self._key_frame_at = key_frame_at

    def late(self, seconds: float) -> None:
        self.lag = seconds

    def skipped(self) -> None:
        self.seen_at = self._touch()

    def damaged(self, reason: str) -> None:  # noqa: ARG002 - counted, whatever it was
        self.counters.damaged += 1
        self._latest.append(True)
        self._note(good=False)

    def _note(self, *, good: bool) -> float:
        now = self._touch()
        with self._lock:
            self._events.append((now, good))
            self._damaged += not good
            self._forget(now)
        return now

    def _touch(self) -> float:
        self.touched_at = self._clock()
        return self.touched_at

    def _recent(self) -> tuple[int, int, float]:
        """Good and damaged pictures within the window, and the window's length so far in seconds."""
        now = self._clock()
        with self._lock:
            self._forget(now)
            damaged = self._damaged
            good = len(self._events) - damaged
        return good, damaged, min(_WINDOW_SECONDS, max(now - self._begun_at, 1.0))

    def _forget(self, now: float) -> None:
        """Drops what lies before the window, or is too much to remember; to be called with the lock held."""
        while self._events and (self._events[0][0] <= now - _WINDOW_SECONDS or len(self._events) > _MOST_REMEMBERED):
            _, good = self._events.popleft()
            self._damaged -= not good


def _seconds_between(earlier: _Times, later: _Times) -> float:
    """By the stream's own times if it tells them and they go forwards, else by the arrivals."""
    if earlier[1] is not None and later[1] is not None and later[1] > earlier[1]:
        return later[1] - earlier[1]
    return later[0] - earlier[0]
