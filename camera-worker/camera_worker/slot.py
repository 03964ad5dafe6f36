"""The latest-frame slot between a capture thread and its sampler: nobody waits, old frames are overwritten."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Picture = av.VideoFrame | NDArray[np.uint8]
"""A decoded picture: a video frame, still in the decoder's pixel format, or RGB (height, width, 3)."""


@dataclass(frozen=True)
class Frame:
    """A picture and when it was captured.

    Attributes:
        picture: as decoded; converted by `rgb` when somebody wants it.
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

    def rgb(self, longest_side: int) -> NDArray[np.uint8]:
        """The picture as uint8 RGB (height, width, 3), shrunk so that no side is longer than `longest_side`."""
        if isinstance(self.picture, av.VideoFrame):
            width, height = _within(self.picture.width, self.picture.height, longest_side)
            converted = self.picture.reformat(width, height, "rgb24", interpolation="AREA")
            return np.asarray(converted.to_ndarray(), dtype=np.uint8)
        rows, columns = self.picture.shape[:2]
        size = _within(columns, rows, longest_side)
        if size == (columns, rows):
            return self.picture
        return np.asarray(cv2.resize(self.picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


class LatestFrame:
    """Holds the newest frame of one source; safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frame: Frame | None = None
        self._generation = 0
        self._sequence = 0
        self._on_next: Callable[[], None] | None = None

    def new_generation(self) -> int:
        """Number of a connection that begins now; pictures of earlier ones are refused from here on."""
        with self._lock:
            self._generation += 1
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


def _within(width: int, height: int, longest_side: int) -> tuple[int, int]:
    scale = min(1.0, longest_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
