"""Pictures of a video file, each at its position in it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import av

from camera_worker.slot import Picture
from camera_worker.sources.reading import (
    Description,
    ReadOptions,
    SourceLostError,
    Witness,
    decode,
    plain,
    video_stream,
)

LOCAL_ONLY = {"protocol_whitelist": "file"}
"""FFmpeg's options for a file: a playlist or a script in it must not reach the network."""

_USUAL_FPS = 25.0


class FileClock:
    """Positions of a file's pictures in seconds: 0 for the first, then always later, whatever the file's timestamps.

    Times may begin anywhere, below zero too. A time that is missing or not after the one before, as where recordings
    were joined, counts as one picture's duration later, and the times after it go on from there.

    Args:
        fps: pictures a second, for pictures without a time; 25 when None.
    """

    def __init__(self, fps: float | None) -> None:
        self._duration = 1.0 / (fps or _USUAL_FPS)
        self._origin: float | None = None
        self._last = 0.0
        self._begun = False

    def position(self, at: float | None) -> float:
        """Position of the next picture, whose time in the file is `at` seconds."""
        following = self._last + self._duration if self._begun else 0.0
        if at is None or not math.isfinite(at):
            position = following
        else:
            if self._origin is None or (self._begun and at - self._origin <= self._last):
                self._origin = at - following
            position = at - self._origin
        self._begun, self._last = True, position
        return position


def read_file(path: str, options: ReadOptions, witness: Witness) -> Iterator[tuple[float, av.VideoFrame]]:
    """The undamaged pictures of a video file with their positions, as fast as they can be read.

    Raises SourceLostError when the file cannot be read, at its start or from some point on, or holds no picture.
    """
    notes = _Notes(witness)
    pictures = 0
    try:
        with av.open(f"file:{path}", options=LOCAL_ONLY) as container:
            stream = video_stream(container, "file", notes)
            clock = FileClock(notes.fps)
            for packet in container.demux(stream):
                for picture in decode(stream, packet, options, notes):
                    pictures += 1
                    yield clock.position(picture.time), picture
    except (av.FFmpegError, OSError) as error:
        if pictures:
            raise SourceLostError(f"it cannot be read further: {plain(error)}") from error
        raise SourceLostError(_unreadable(plain(error))) from error
    if not pictures:
        raise SourceLostError(_unreadable(notes.damage or "its video is empty"))


def play_file(path: str, options: ReadOptions, witness: Witness, wait: Callable[[float], None]) -> Iterator[Picture]:
    """The same pictures, each when its position has come since the first; `wait` sleeps some seconds."""
    start: float | None = None
    for position, picture in read_file(path, options, witness):
        start = time.monotonic() if start is None else start
        wait(max(0.0, start + position - time.monotonic()))
        yield picture


class _Notes(Witness):
    """Passes on what happens, and remembers the declared rate and the last damage."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self.fps: float | None = None
        self.damage = ""

    def described(self, description: Description) -> None:
        self.fps = description.fps
        self._witness.described(description)

    def received(self, size: int, *, key_frame: bool, at: float | None) -> None:
        self._witness.received(size, key_frame=key_frame, at=at)

    def skipped(self) -> None:
        self._witness.skipped()

    def damaged(self, reason: str) -> None:
        self.damage = reason
        self._witness.damaged(reason)


def _unreadable(reason: str) -> str:
    return f"it holds no picture that can be read: {reason}"
