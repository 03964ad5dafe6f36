"""Where pictures come from, RTSP streams, video files and webcams, and the thread that keeps them coming."""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import quote, urlsplit

import av
import cv2
import numpy as np

from almenara.errors import InputError
from camera_worker.redaction import redact, redact_address
from camera_worker.slot import LatestFrame, Picture

logger = logging.getLogger(__name__)

# TCP because lost packets are lost sight; no probing, because a camera's session description says it all.
_RTSP_OPTIONS = {
    "rtsp_transport": "tcp",
    "allowed_media_types": "video",
    "analyzeduration": "0",
    "probesize": "32768",
}
_FIRST_BACKOFF_SECONDS, _MOST_BACKOFF_SECONDS = 0.25, 1.0
_BEAT_SECONDS = 0.5


class SourceKind(StrEnum):
    STREAM = "stream"
    FILE = "file"
    WEBCAM = "webcam"


@dataclass(frozen=True)
class Source:
    """A parsed source.

    Attributes:
        kind: what it is.
        address: URL with credentials, path, or the webcam's number. Never shown: show `label`.
    """

    kind: SourceKind
    address: str = field(repr=False)

    @property
    def label(self) -> str:
        return redact_address(self.address)

    @classmethod
    def parse(cls, text: str, *, username: str | None = None, password: str | None = None) -> Source:
        """The source that an ``rtsp://`` URL, a webcam's number or the path of a video file names.

        `username` and `password` may hold any characters and go before those in the URL. Raises InputError:
        `source-unknown` for another scheme or a URL without a host, `source-absent` when there is no such file.
        """
        if text.isdigit():
            return cls(SourceKind.WEBCAM, text)
        if "://" not in text:
            if not Path(text).is_file():
                remedy = "Give an rtsp:// URL, the path of a video, or the number of a webcam."
                raise InputError("source-absent", f"There is no video file {redact_address(text)}.", remedy)
            return cls(SourceKind.FILE, text)
        try:
            url = urlsplit(text)
            usable = url.scheme.lower() in {"rtsp", "rtsps"} and bool(url.hostname) and url.port != 0
            usable = usable and not re.search(r"\s", text)
        except ValueError:
            usable = False
        if not usable:
            remedy = "Give rtsp://HOST[:PORT]/PATH; write odd characters of a password as %XX."
            raise InputError("source-unknown", f"{redact_address(text)} is no camera address.", remedy)
        if username is not None:
            user_info = ":".join(quote(part, safe="") for part in (username, password or ""))
            text = url._replace(netloc=f"{user_info}@{url.netloc.rpartition('@')[2]}").geturl()
        return cls(SourceKind.STREAM, text)


class CaptureState(StrEnum):
    CONNECTING = "connecting"
    LIVE = "live"
    OFFLINE = "offline"
    UNAUTHORISED = "unauthorised"
    ENDED = "ended"
    """A video file has been played to its end, or as far as it can be read."""


@dataclass(frozen=True)
class CaptureTiming:
    """Patience with a source, all in seconds.

    Attributes:
        connect: until a connection stands.
        read: until the next picture.
        unauthorised: between attempts with credentials that were refused, so that no camera locks us out.
    """

    connect: float = 3.0
    read: float = 3.0
    unauthorised: float = 60.0


@dataclass
class CaptureCounters:
    """What a capture thread has been through; written by it, read by anybody."""

    frames: int = 0
    damaged: int = 0
    connections: int = 0
    losses: int = 0


class SourceLostError(Exception):
    """The source gives no more pictures; the message says why, without credentials."""


class UnauthorisedError(SourceLostError):
    """The source refuses the credentials."""


class Capture:
    """A daemon thread that puts a source's pictures into a slot, and reconnects by itself after every loss.

    Damaged pictures, those that cannot be decoded or that the decoder had to guess parts of, are counted and never put
    into the slot. An error that nobody foresaw is a loss like another. A file is played in its own time, once.
    """

    def __init__(
        self, source: Source, slot: LatestFrame, *, timing: CaptureTiming | None = None, name: str = "camera"
    ) -> None:
        self._source, self._slot = source, slot
        self._timing = timing or CaptureTiming()
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
                self._rest(self._timing.unauthorised)
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
                return read_stream(self._source.address, self._timing, on_damage=self._damaged)
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


def read_stream(
    address: str, timing: CaptureTiming, *, on_damage: Callable[[], None] = lambda: None
) -> Iterator[Picture]:
    """The undamaged pictures of an RTSP stream.

    Ends when the camera ends the stream; raises SourceLostError when it cannot be opened or nothing came for
    `timing.read` seconds, UnauthorisedError when it refuses the credentials.
    """
    try:
        with av.open(address, options=dict(_RTSP_OPTIONS), timeout=(timing.connect, timing.read)) as container:
            stream = _video_stream(container)
            packets = container.demux(stream)
            asked_at = time.monotonic()
            for packet in packets:
                # After a read that timed out, FFmpeg first hands over the picture it was still assembling.
                if time.monotonic() - asked_at >= timing.read:
                    raise SourceLostError(_stalled(timing))
                yield from _decode(packet, on_damage)
                asked_at = time.monotonic()
    except av.error.HTTPUnauthorizedError as error:
        raise UnauthorisedError("the camera refuses the credentials (401)") from _redacted(error)
    except av.error.ExitError as error:
        raise SourceLostError(_stalled(timing)) from _redacted(error)
    except (av.FFmpegError, OSError) as error:
        raise SourceLostError(_plain(error)) from _redacted(error)


def read_file(
    path: str,
    *,
    wait: Callable[[float], None] = time.sleep,
    on_damage: Callable[[], None] = lambda: None,
) -> Iterator[Picture]:
    """The undamaged pictures of a video file, each at its time after the first; SourceLostError when unreadable."""
    try:
        with av.open(path) as container:
            start = time.monotonic()
            first: float | None = None
            for packet in container.demux(_video_stream(container)):
                for picture in _decode(packet, on_damage):
                    at = picture.time or 0.0
                    first = at if first is None else first
                    wait(max(0.0, start + at - first - time.monotonic()))
                    yield picture
    except (av.FFmpegError, OSError) as error:
        raise SourceLostError(_plain(error)) from error


def read_webcam(number: int, *, on_damage: Callable[[], None] = lambda: None) -> Iterator[Picture]:
    """The undamaged pictures of a local camera; SourceLostError when it cannot be opened or gives none."""
    camera = cv2.VideoCapture(number)
    try:
        if not camera.isOpened():
            raise SourceLostError(f"there is no webcam {number}")
        while True:
            there, image = camera.read()
            if not there:
                raise SourceLostError(f"webcam {number} gives no picture")
            try:
                picture = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            except cv2.error:
                on_damage()
                continue
            yield np.asarray(picture, dtype=np.uint8)
    finally:
        camera.release()


def _video_stream(container: av.container.InputContainer) -> av.VideoStream:
    if not container.streams.video:
        raise SourceLostError("it holds no video")
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    return stream


def _decode(packet: av.Packet[av.VideoStream], on_damage: Callable[[], None]) -> Iterator[av.VideoFrame]:
    try:
        frames = packet.decode()
    except (av.FFmpegError, ValueError):
        on_damage()
        return
    for frame in frames:
        if frame.is_corrupt or packet.is_corrupt:
            on_damage()
        else:
            yield frame


def _stalled(timing: CaptureTiming) -> str:
    return f"nothing came for {timing.read:g} s"


def _plain(error: Exception) -> str:
    """FFmpeg's words without its numbers and without the address."""
    return str(getattr(error, "strerror", None) or type(error).__name__).lower()


def _redacted(error: Exception) -> Exception:
    """The cause to show in tracebacks: FFmpeg's own message ends with the address, credentials included."""
    return RuntimeError(redact(str(error)))
