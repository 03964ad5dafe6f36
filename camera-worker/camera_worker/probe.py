"""What a source delivers and what to change on the camera, measured by watching it for a few seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import pairwise

import av

from almenara.errors import InputError
from camera_worker.slot import Picture
from camera_worker.sources import Description, ReadOptions, Source, SourceKind, SourceLostError, Witness, read_source
from camera_worker.sources.http import SNAPSHOTS

_LONGEST_KEYFRAME_INTERVAL = 2.0
_MOST_PIXELS = 1920 * 1088
_MOST_FPS = 15.0
_TOLERANCE = 1.1
_MOST_DAMAGED_SHARE = 0.01
_CHECK_NETWORK = "Check address, credentials and network"
_REMEDIES = {
    SourceKind.STREAM: _CHECK_NETWORK,
    SourceKind.HTTP: _CHECK_NETWORK,
    SourceKind.FILE: "Check that it is a whole video file",
    SourceKind.WEBCAM: "Check that the webcam is plugged in and that no other program uses it",
}
_DEAR_CODECS = {"av1": "AV1", "hevc": "H.265", "vp9": "VP9"}


@dataclass(frozen=True)
class ProbeReport:
    """What was seen; None where it cannot be told.

    Attributes:
        source: without credentials.
        delivery: how the pictures come, such as `RTSP over TCP`.
        codec, profile: as the source describes itself.
        width, height: of the last picture, pixels.
        declared_fps: pictures a second that the source claims.
        fps: undamaged pictures a second that came; of a file, in its own time.
        keyframe_interval: seconds between key frames, the longest seen.
        b_frames: whether pictures are held back until later ones are known.
        bit_rate: bits a second that came.
        first_picture: seconds from the beginning of the connection to the first picture.
        longest_gap: seconds, the longest between the arrivals of two pictures; None for a file.
        pictures, damaged: how many came whole, and how many did not.
        decode_ms: processor time a picture in milliseconds, for receiving and decoding it.
        cameras_per_core: streams such as this one that a core receives and decodes; scoring is not counted.
        lost: why the source was lost while it was watched, if it was.
        advice: what to change, most important first.
    """

    source: str
    delivery: str
    codec: str
    profile: str | None
    width: int
    height: int
    declared_fps: float | None
    fps: float | None
    keyframe_interval: float | None
    b_frames: bool
    bit_rate: float | None
    first_picture: float
    longest_gap: float | None
    pictures: int
    damaged: int
    decode_ms: float | None
    cameras_per_core: float | None
    lost: str | None
    advice: tuple[str, ...] = ()

    @property
    def damaged_share(self) -> float:
        """Of all pictures, 0 to 1."""
        return self.damaged / (self.pictures + self.damaged)

    @property
    def polled(self) -> bool:
        """Whether each picture was asked for, so that the rate is not the camera's."""
        return self.delivery == SNAPSHOTS


def probe(source: Source, options: ReadOptions, *, seconds: float) -> ProbeReport:
    """Watches a source for `seconds` after its first picture; a file is read that long, as fast as it can be.

    Raises InputError `source-unreadable` when it gives no picture.
    """
    is_file = source.kind is SourceKind.FILE
    notes = _Notes(seconds, patience=options.connect + options.read + seconds)
    lost = None
    try:
        for picture in read_source(source, options, notes, wait=_hurry if is_file else time.sleep):
            notes.picture(picture)
    except _EnoughError:
        pass
    except SourceLostError as error:
        lost = str(error)
    else:
        lost = None if is_file else "the camera ended the stream"
    if not notes.pictures:
        fact = f"{source.label} cannot be watched: {lost or 'no undamaged picture came'}."
        raise InputError("source-unreadable", fact, f"{_REMEDIES[source.kind]}, then probe again.")
    report = notes.report(source, lost)
    return replace(report, advice=advise(report, options))


def advise(report: ProbeReport, options: ReadOptions) -> tuple[str, ...]:
    """What to change on the camera or in its configuration, most important first; empty when all is well."""
    if report.longest_gap is None:
        damage = f"{report.damaged_share:.1%} of its pictures are damaged" if report.damaged else None
        flaw = report.lost or damage
        return (f"The file is not whole ({flaw}): take another copy of it.",) if flaw else ()
    advice = []
    if report.lost:
        advice.append(f"The source was lost while it was watched ({report.lost}): check network and power.")
    if report.damaged_share > _MOST_DAMAGED_SHARE:
        cure = "say transport: tcp" if report.delivery.endswith("UDP") else "check cable, Wi-Fi and the camera's load"
        advice.append(f"{report.damaged_share:.1%} of the pictures came damaged: {cure}.")
    interval = report.keyframe_interval
    if interval is not None and interval > _LONGEST_KEYFRAME_INTERVAL * _TOLERANCE:
        effect = "after a loss the camera is blind for as long"
        advice.append(f"A key frame comes every {interval:.1f} s: set its interval to 1-2 s, for {effect}.")
    if report.width * report.height > _MOST_PIXELS:
        advice.append(
            f"{report.width}x{report.height} is more than a model looks at: take the camera's substream, or 1920x1080."
        )
    if report.fps is not None and report.fps > _MOST_FPS * _TOLERANCE:
        advice.append(f"{report.fps:.0f} pictures a second are more than are scored: set 5 to 15.")
    if report.codec in _DEAR_CODECS:
        advice.append(f"{_DEAR_CODECS[report.codec]} costs more to decode than H.264: choose H.264 if cores are few.")
    if report.b_frames:
        advice.append("B-frames delay every picture: choose the Baseline profile, or switch them off.")
    if report.longest_gap > options.read / 2:
        cure = "check the network, or raise read_timeout"
        advice.append(f"No picture came for {report.longest_gap:.1f} s; {options.read:g} s count as a loss: {cure}.")
    return tuple(advice)


class _EnoughError(Exception):
    """The source has been watched for long enough."""


class _Notes(Witness):
    """What a reader tells while it is watched; ends the watching by _EnoughError."""

    def __init__(self, seconds: float, *, patience: float) -> None:
        self._seconds = seconds
        self._begun_at = self._first_at = self._last_at = time.monotonic()
        self._deadline = self._begun_at + patience
        self._description = Description("unknown", "unknown")
        self._size = (0, 0)
        self._longest_gap = 0.0
        self._damaged = self._bytes = 0
        self._b_frames = False
        self._key_frames: list[tuple[float, float | None]] = []
        self._file_times: list[float] = []
        self._processor_at = self._processor_seconds = 0.0
        self.pictures = 0

    def described(self, description: Description) -> None:
        self._description = description

    def received(self, size: int, *, key_frame: bool, at: float | None) -> None:
        now = self._now()
        self._bytes += size if self.pictures else 0
        if key_frame:
            self._key_frames.append((now, at))

    def damaged(self, reason: str) -> None:  # noqa: ARG002 - counted, whatever it was
        self._now()
        self._damaged += 1

    def picture(self, picture: Picture) -> None:
        """An undamaged picture has come."""
        now, processor_at = time.monotonic(), time.thread_time()
        if self.pictures:
            self._longest_gap = max(self._longest_gap, now - self._last_at)
            self._processor_seconds += processor_at - self._processor_at
        else:
            self._first_at, self._deadline = now, now + self._seconds
        self.pictures += 1
        self._last_at, self._processor_at = now, processor_at
        if isinstance(picture, av.VideoFrame):
            self._size = picture.width, picture.height
            self._b_frames |= picture.pict_type == av.video.frame.PictureType.B
            self._file_times += [] if picture.time is None else [picture.time]
        else:
            self._size = picture.shape[1], picture.shape[0]
        self._now()

    def report(self, source: Source, lost: str | None) -> ProbeReport:
        """The sum of it; a file is measured by its own times, anything else by the arrivals."""
        is_file = source.kind is SourceKind.FILE
        times = self._file_times or [0.0]
        span = times[-1] - times[0] if is_file else self._last_at - self._first_at
        following = self.pictures - 1
        fps = following / span if following and span > 0 else None
        seconds_each = self._processor_seconds / following if following else None
        key_frames = [at if is_file and at is not None else arrived for arrived, at in self._key_frames]
        return ProbeReport(
            source=source.label,
            delivery=self._description.delivery,
            codec=self._description.codec,
            profile=self._description.profile,
            width=self._size[0],
            height=self._size[1],
            declared_fps=self._description.fps,
            fps=fps,
            keyframe_interval=max((later - earlier for earlier, later in pairwise(key_frames)), default=None),
            b_frames=self._b_frames,
            bit_rate=8 * self._bytes / span if self._bytes and span > 0 else None,
            first_picture=self._first_at - self._begun_at,
            longest_gap=None if is_file else self._longest_gap,
            pictures=self.pictures,
            damaged=self._damaged,
            decode_ms=None if seconds_each is None else 1000 * seconds_each,
            cameras_per_core=1 / (seconds_each * fps) if seconds_each and fps else None,
            lost=lost,
        )

    def _now(self) -> float:
        now = time.monotonic()
        if now >= self._deadline:
            raise _EnoughError
        return now


def _hurry(_: float) -> None:
    """Waits for nothing."""
