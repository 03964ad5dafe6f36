"""The thread that keeps a source's pictures coming, whatever happens to the source."""

from __future__ import annotations

import logging
import random
import threading
import time
from enum import StrEnum

from camera_worker.meter import StreamMeter
from camera_worker.slot import LatestFrame
from camera_worker.sources import (
    ReadOptions,
    Source,
    SourceKind,
    SourceLostError,
    UnauthorisedError,
    read_source,
)

__all__ = ["Capture", "CaptureState", "backoff"]

logger = logging.getLogger(__name__)

_FIRST_BACKOFF_SECONDS, _MOST_BACKOFF_SECONDS = 0.25, 1.0
_BEAT_SECONDS = 0.5


class CaptureState(StrEnum):
    CONNECTING = "connecting"
    LIVE = "live"
    OFFLINE = "offline"
    UNAUTHORISED = "unauthorised"
    ENDED = "ended"
    """A video file has been played to its end, or as far as it can be read."""


class Capture:
    """A daemon thread that puts a source's pictures into a slot, and reconnects by itself after every loss.

    Damaged pictures, those that cannot be decoded or that the decoder had to guess parts of, are counted and never put
    into the slot. An error that nobody foresaw is a loss like another. A file is played in its own time, once.

    Attributes:
        state, reason: of the source, and why; the reason is empty while all is well.
        meter: what the source delivers.
    """

    def __init__(
        self, source: Source, slot: LatestFrame, *, options: ReadOptions | None = None, name: str = "camera"
    ) -> None:
        self._source, self._slot = source, slot
        self._options = options or ReadOptions()
        self._stop = threading.Event()
        self._beaten_at = time.monotonic()
        self.meter = StreamMeter()
        self.state = CaptureState.CONNECTING
        self.reason = ""
        self._thread = threading.Thread(target=self._run, name=f"capture-{name}", daemon=True)

    def start(self) -> None:
        self._beat()
        self._thread.start()

    def stop(self, timeout: float = 0.0) -> None:
        """Asks the thread to end, and waits for it up to `timeout` seconds; it may be deep in a blocking read."""
        self._stop.set()
        if timeout:
            self._thread.join(timeout)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def silence(self) -> float:
        """Seconds since the thread last showed that it is not stuck."""
        return time.monotonic() - max(self._beaten_at, self.meter.touched_at)

    @property
    def stuck_after(self) -> float:
        """Seconds of `silence` that no patience explains."""
        return self._options.stuck_after

    def _run(self) -> None:
        try:
            self._capture()
        except Exception:
            # The thread ends here; whoever watches its heartbeat replaces it.
            logger.exception("The capture thread of %s failed.", self._source.label)

    def _capture(self) -> None:
        failures = 0
        while not self._stop.is_set():
            self._beat()
            lost = self._connect()
            if lost is None:
                return
            state, reason, connected = lost
            failures = 0 if connected else failures
            self.meter.counters.losses += connected
            self._become(state, reason)
            self._rest(self._options.unauthorised if state is CaptureState.UNAUTHORISED else backoff(failures))
            failures += 1

    def _connect(self) -> tuple[CaptureState, str, bool] | None:
        """Reads one connection to its end: how it was lost and whether it gave pictures; None when no other follows."""
        generation = self._slot.new_generation()
        self.meter.restart()
        before = self.meter.counters.frames
        try:
            for picture in read_source(self._source, self._options, self.meter, wait=self._rest):
                self.meter.picture(picture)
                if self._stop.is_set() or (self.meter.trusted and not self._slot.put(picture, generation)):
                    return None
                if self.meter.counters.frames == before + 1:
                    self.meter.counters.connections += 1
                    self._become(CaptureState.LIVE)
            state, reason = CaptureState.OFFLINE, "the camera ended the stream"
        except UnauthorisedError as error:
            state, reason = CaptureState.UNAUTHORISED, str(error)
        except Exception as error:  # noqa: BLE001 - logged by `_reason`; the next connection may do better
            state, reason = CaptureState.OFFLINE, self._reason(error)
        else:
            if self._source.kind is SourceKind.FILE:
                self._become(CaptureState.ENDED)
                return None
        if self._source.kind is SourceKind.FILE:
            self._become(CaptureState.ENDED, reason)
            return None
        return state, reason, self.meter.counters.frames > before

    def _reason(self, error: Exception) -> str:
        if isinstance(error, SourceLostError):
            return str(error)
        self.meter.counters.damaged += 1
        logger.error("%s: reading failed in an unforeseen way.", self._source.label, exc_info=error)
        return f"reading failed ({type(error).__name__})"

    def _become(self, state: CaptureState, reason: str = "") -> None:
        self.reason = reason
        self.state = state

    def _rest(self, seconds: float) -> None:
        """Waits without seeming stuck; returns at once when asked to stop."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._stop.wait(min(left, _BEAT_SECONDS)):
            self._beat()

    def _beat(self) -> None:
        self._beaten_at = time.monotonic()


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row: doubling from .25 to 1, with up to half taken off at random."""
    longest = min(_MOST_BACKOFF_SECONDS, _FIRST_BACKOFF_SECONDS * 2.0 ** min(failures, 10))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
