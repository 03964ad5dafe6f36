"""The thread that keeps a source's pictures coming, whatever happens to the source."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from camera_worker.slot import LatestFrame, Picture
from camera_worker.sources import (
    ReadOptions,
    Source,
    SourceKind,
    SourceLostError,
    UnauthorisedError,
    read_file,
    read_stream,
    read_webcam,
)

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


@dataclass
class CaptureCounters:
    """What a capture thread has been through; written by it, read by anybody."""

    frames: int = 0
    damaged: int = 0
    connections: int = 0
    losses: int = 0


class Capture:
    """A daemon thread that puts a source's pictures into a slot, and reconnects by itself after every loss.

    Damaged pictures, those that cannot be decoded or that the decoder had to guess parts of, are counted and never put
    into the slot. An error that nobody foresaw is a loss like another. A file is played in its own time, once.
    """

    def __init__(
        self, source: Source, slot: LatestFrame, *, options: ReadOptions | None = None, name: str = "camera"
    ) -> None:
        self._source, self._slot = source, slot
        self._options = options or ReadOptions()
        self._stop = threading.Event()
        self._beaten_at = time.monotonic()
        self.counters = CaptureCounters()
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
        return time.monotonic() - self._beaten_at

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
            generation = self._slot.new_generation()
            connected = False
            try:
                for picture in self._pictures():
                    if self._stop.is_set() or not self._slot.put(picture, generation):
                        return
                    if not connected:
                        connected, failures = True, 0
                        self.counters.connections += 1
                        self._become(CaptureState.LIVE)
                    self.counters.frames += 1
                    self._beat()
                if self._source.kind is SourceKind.FILE:
                    self._become(CaptureState.ENDED)
                    return
                raise SourceLostError("the camera ended the stream")  # noqa: TRY301 - one way to lose a source
            except UnauthorisedError as error:
                self._lost(CaptureState.UNAUTHORISED, str(error), connected)
                self._rest(self._options.unauthorised)
            except Exception as error:  # noqa: BLE001 - logged by `_reason`; the next connection may do better
                reason = self._reason(error)
                if self._source.kind is SourceKind.FILE:
                    self._become(CaptureState.ENDED, reason)
                    return
                self._lost(CaptureState.OFFLINE, reason, connected)
                self._rest(backoff(failures))
                failures += 1

    def _reason(self, error: Exception) -> str:
        if isinstance(error, SourceLostError):
            return str(error)
        self.counters.damaged += 1
        logger.error("%s: reading failed in an unforeseen way.", self._source.label, exc_info=error)
        return f"reading failed ({type(error).__name__})"

    def _pictures(self) -> Iterator[Picture]:
        match self._source.kind:
            case SourceKind.STREAM:
                return read_stream(self._source.address, self._options, on_damage=self._damaged)
            case SourceKind.FILE:
                return read_file(self._source.address, wait=self._rest, on_damage=self._damaged)
            case SourceKind.WEBCAM:
                return read_webcam(int(self._source.address), on_damage=self._damaged)

    def _damaged(self) -> None:
        self.counters.damaged += 1
        self._beat()

    def _lost(self, state: CaptureState, reason: str, connected: bool) -> None:
        self.counters.losses += connected
        self._become(state, reason)

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
