"""A video file in its own time: every picture, as fast as whoever asks for the next takes them."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av

from camera_worker.capture import CaptureState
from camera_worker.meter import StreamMeter
from camera_worker.slot import Frame
from camera_worker.sources import ReadOptions, Source, SourceLostError, read_file
from camera_worker.sources.file import LOCAL_ONLY

logger = logging.getLogger(__name__)


class Playback:
    """Stands where a `Capture` stands for a camera, but is asked for each picture and never skips one by being late.

    Frames carry the file's time: `monotonic` is the start plus the position, and `captured_at` the time at which the
    recording was begun (see `recorded_at`) plus the position.

    Args:
        source: a video file.
        options: patience does not matter here; `keyframes_only` does.
        fps: pictures a second in file time; every picture when None.
        name: for the log.

    Attributes:
        state, reason: of the file, and what was damaged or missing at its end; the reason is empty when nothing was.
        meter: what the file delivers as it is read.
        started_at: seconds (monotonic) of `start`, from which positions are counted.
    """

    def __init__(
        self, source: Source, *, options: ReadOptions | None = None, fps: float | None = None, name: str = "camera"
    ) -> None:
        self._source, self._options, self._name = source, options or ReadOptions(), name
        self._turn = 1.0 / fps if fps else 0.0
        self._due = -math.inf
        self.meter = StreamMeter()
        self._lock = threading.Lock()
        self._asked_at: float | None = None
        self._stopped = False
        self.started_at = 0.0
        self._frames: Iterator[Frame] = iter(())
        self.state = CaptureState.CONNECTING
        self.reason = ""

    def start(self) -> None:
        self.started_at = time.monotonic()
        self.meter.restart()
        self._frames = self._read()

    def stop(self, timeout: float = 0.0) -> None:
        """Closes the file; a picture that is being read is awaited up to `timeout` seconds and is the last."""
        self._stopped = True
        if self._lock.acquire(timeout=timeout):
            try:
                self._close()
            finally:
                self._lock.release()

    @property
    def alive(self) -> bool:
        """Always: nothing runs here by itself that could die."""
        return True

    @property
    def silence(self) -> float:
        """Seconds since the reading of the next picture showed progress; 0 while nobody asks for one."""
        asked_at = self._asked_at
        return 0.0 if asked_at is None else time.monotonic() - max(asked_at, self.meter.touched_at)

    @property
    def stuck_after(self) -> float:
        """Seconds of `silence` that no patience explains."""
        return self._options.stuck_after

    def next_frame(self) -> Frame | None:
        """The next picture; None at the end, after `stop`, and when the file cannot be read further (see `reason`)."""
        with self._lock:
            self._asked_at = time.monotonic()
            try:
                frame = None if self._stopped else next(self._frames, None)
                if self._stopped:
                    self._close()
                return frame
            finally:
                self._asked_at = None

    def _read(self) -> Iterator[Frame]:
        try:
            recorded, told = recorded_at(Path(self._source.address))
            if not told:
                guess = "times are guessed from the file's date, as it does not tell when it was recorded"
                logger.info("%s: %s: it began at %s.", self._name, guess, recorded.isoformat(timespec="seconds"))
            for position, picture in read_file(self._source.address, self._options, self.meter):
                self.meter.picture(picture)
                if self._is_due(position):
                    self._begin()
                    captured_at = recorded + timedelta(seconds=position)
                    yield Frame(picture, self.started_at + position, captured_at, 1, self.meter.counters.frames)
        except SourceLostError as error:
            self.reason = str(error)
        except Exception as error:
            logger.exception("%s: reading %s failed in an unforeseen way.", self._name, self._source.label)
            self.reason = f"reading failed ({type(error).__name__})"
        self.state = CaptureState.ENDED

    def _begin(self) -> None:
        if self.state is CaptureState.CONNECTING:
            self.state = CaptureState.LIVE
            self.meter.counters.connections += 1

    def _is_due(self, position: float) -> bool:
        """Whether the picture is the first at or after the next of the times to look at, `_turn` seconds apart."""
        if position < self._due:
            return False
        if self._turn:
            self._due = (math.floor(position / self._turn + 1e-6) + 1) * self._turn - 1e-6
        return True

    def _close(self) -> None:
        """Lets the reader close its file."""
        self._frames = iter(())
        self.state = CaptureState.ENDED


def recorded_at(path: Path) -> tuple[datetime, bool]:
    """When a recording was begun, UTC, and whether the file tells: by its `creation_time`.

    If it does not, its last change is taken for the end of the recording, and the beginning lies its duration before.
    """
    duration = 0.0
    with contextlib.suppress(av.FFmpegError, ValueError), av.open(f"file:{path}", options=LOCAL_ONLY) as container:
        duration = (container.duration or 0) / av.time_base
        if written := container.metadata.get("creation_time"):
            made = datetime.fromisoformat(written)
            return made.astimezone(UTC) if made.tzinfo else made.replace(tzinfo=UTC), True
    return datetime.fromtimestamp(path.stat().st_mtime - duration, UTC), False
