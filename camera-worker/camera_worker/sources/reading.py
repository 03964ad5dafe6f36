"""What every reader of pictures shares: patience, loss, damage and words without credentials."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import av

from camera_worker.redaction import redact

Transport = Literal["tcp", "udp"]


@dataclass(frozen=True)
class ReadOptions:
    """How a source is read; durations in seconds.

    Attributes:
        connect: patience until a connection stands.
        read: patience until the next picture.
        unauthorised: pause between attempts with credentials that were refused, so that no camera locks us out.
        transport: of RTSP.
        keyframes_only: whether pictures between key frames are left out, undecoded.
        interval: between two snapshots of a source that answers with one picture at a time.
    """

    connect: float = 3.0
    read: float = 3.0
    unauthorised: float = 60.0
    transport: Transport = "tcp"
    keyframes_only: bool = False
    interval: float = 0.5


class SourceLostError(Exception):
    """The source gives no more pictures; the message says why, without credentials."""


class UnauthorisedError(SourceLostError):
    """The source refuses the credentials."""


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    if not container.streams.video:
        raise SourceLostError("it holds no video")
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    return stream


def decode(packet: av.Packet[av.VideoStream], on_damage: Callable[[], None]) -> Iterator[av.VideoFrame]:
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


def plain(error: Exception) -> str:
    """FFmpeg's words without its numbers and without the address."""
    return str(getattr(error, "strerror", None) or type(error).__name__).lower()


def redacted(error: Exception) -> Exception:
    """The cause to show in tracebacks: FFmpeg's own message ends with the address, credentials included."""
    return RuntimeError(redact(str(error)))
