"""The latest-frame slot between a capture thread and its sampler: nobody waits, old frames are overwritten."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import av
import numpy as np
from numpy.typing import NDArray

Picture = av.VideoFrame | NDArray[np.uint8]
"""A decoded picture: a video frame, still in the decoder's pixel format, or BGR (height, width, 3)."""


@dataclass(frozen=True)
class Frame:
    """A picture and when it was captured.

    Attributes:
        picture: as decoded.
        monotonic: seconds on the source's clock: the monotonic one at capture for a live source; for a video file that
            at its start and the position in it.
        captured_at: wall time, UTC.
        generation: which connection to the source it came by.
        sequence: counts up by one a frame, over all generations.
    """

    picture: Picture
    monotonic: float
    captured_at: datetime
    generation: int
    sequence: int


class LatestFrame:
    """Holds the newest frame of one source; safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frame: Frame | None = None
        self._generation = 0
        self._sequence = 0
        self._on_next: Callable[[], None] | None = None

    def new_generation(self) -> int:
        """Number of a connection that begins now; pictures of earlier ones are gone, and refused from here on."""
        with self._lock:
            self._generation += 1
            self._frame = None
            return self._generation

    def put(self, picture: Picture, generation: int) -> bool:
        """Replaces the frame; False, and nothing changed, when a newer connection has begun."""
        with self._lock:
            if generation != self._generation:
                return False
            self._sequence += 1
            self._frame = Frame(picture, time.monotonic(), datetime.now(UTC), generation, self._sequence)
            on_next, self._on_next = self._on_next, None
        if on_next:
            on_next()
        return True

    def call_on_next(self, function: Callable[[], None] | None) -> None:
        """Has `function` called once, by the thread that puts the next frame; None takes the wish back."""
        with self._lock:
            self._on_next = function

    def newest(self, after: int = 0) -> Frame | None:
        """The newest frame if its sequence number is above `after`."""
        with self._lock:
            return self._frame if self._frame and self._frame.sequence > after else None
