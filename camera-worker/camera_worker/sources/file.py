"""Pictures of a video file, each at its position in it."""

from __future__ import annotations

import math
import re
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
_LONGEST_GAP_SECONDS = 1.0
_MATROSKA_DURATION = re.compile(r"(\d+):(\d+):(\d+\.?\d*)")


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

    Raises SourceLostError when the file cannot be read, at its start or from some point on, or holds no picture; and
    at its end when pictures of it were damaged or are missing.
    """
    notes, coverage = _Notes(witness), _Coverage()
    pictures, duration = 0, None
    try:
        with av.open(f"file:{path}", options=LOCAL_ONLY) as container:
            stream = video_stream(container, "file", notes)
            clock = FileClock(notes.fps)
            duration = _declared_duration(container, stream)
            for packet in container.demux(stream):
                coverage.note(packet)
                for picture in decode(stream, packet, options, notes):
                    pictures += 1
                    yield clock.position(picture.time), picture
    except (av.FFmpegError, OSError) as error:
        if pictures:
            raise SourceLostError(f"it cannot be read further: {plain(error)}") from error
        raise SourceLostError(_unreadable(plain(error))) from error
    if not pictures:
        raise SourceLostError(_unreadable(notes.damage or "its video is empty"))
    if flaws := [*notes.flaws(pictures), *coverage.flaws(duration)]:
        raise SourceLostError("; ".join(flaws))


def play_file(path: str, options: ReadOptions, witness: Witness, wait: Callable[[float], None]) -> Iterator[Picture]:
    """The same pictures, each when its position has come since the first; `wait` sleeps some seconds."""
    start: float | None = None
    for position, picture in read_file(path, options, witness):
        start = time.monotonic() if start is None else start
        wait(max(0.0, start + position - time.monotonic()))
        yield picture


class _Notes(Witness):
    """Passes on what happens, and remembers the declared rate and the damage."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self.fps: float | None = None
        self.damage = ""
        self._damaged = self._skipped = 0

    def flaws(self, pictures: int) -> list[str]:
        """What is wrong, for people, with a file of which so many pictures were decoded undamaged."""
        total = pictures + self._skipped + self._damaged
        return [f"{self._damaged} of its {total} pictures are damaged"] if self._damaged else []

    def described(self, description: Description) -> None:
        self.fps = description.fps
        self._witness.described(description)

    def received(self, size: int, *, key_frame: bool, at: float | None) -> None:
        self._witness.received(size, key_frame=key_frame, at=at)

    def skipped(self) -> None:
        self._skipped += 1
        self._witness.skipped()

    def damaged(self, reason: str) -> None:
        self.damage = reason
        self._damaged += 1
        self._witness.damaged(reason)


class _Coverage:
    """Which part of a file its encoded pictures cover; seconds on the file's own clock."""

    def __init__(self) -> None:
        self._end: float | None = None
        self._missing = 0.0

    def note(self, packet: av.Packet[av.VideoStream]) -> None:
        """An encoded picture follows in the order of the file, which is not always that in which they are shown."""
        ticks = packet.dts if packet.pts is None else packet.pts
        if ticks is None or not packet.size:
            return
        begin = float(ticks * packet.time_base)
        end = begin + float((packet.duration or 0) * packet.time_base)
        if self._end is None:
            self._end = end
        elif begin - self._end > _LONGEST_GAP_SECONDS:
            self._missing += begin - self._end
        self._end = max(self._end, end)

    def flaws(self, duration: float | None) -> list[str]:
        """What is missing, for people, of a file that claims to last so long."""
        flaws = [f"it holds no pictures for {self._missing:.1f} s within"] if self._missing else []
        if duration is not None and self._end is not None and duration - self._end > _LONGEST_GAP_SECONDS:
            flaws.append(f"it breaks off after {self._end:.1f} s of {duration:.1f} s")
        return flaws


def _declared_duration(container: av.container.InputContainer, stream: av.VideoStream) -> float | None:
    """Seconds that the video lasts as its file says; None where that is not said but judged by what is there.

    Without a word about the video itself the file's counts, unless the sound may be what lasts so long.
    """
    if container.format.name.startswith("mpeg"):
        return None
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if written := _MATROSKA_DURATION.fullmatch(stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = map(float, written.groups())
        return 3600 * hours + 60 * minutes + seconds
    alone = len(container.streams) == 1
    return container.duration / av.time_base if alone and container.duration is not None else None


def _unreadable(reason: str) -> str:
    return f"it holds no picture that can be read: {reason}"
