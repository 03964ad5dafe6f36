"""What every reader of pictures shares: patience, limits, loss, damage and words without credentials."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import av

from almenara.redaction import redact

Transport = Literal["tcp", "udp"]

MOST_PIXELS = 64_000_000
"""Of a picture; a camera that claims more is refused by the decoder before memory is taken."""
MOST_PACKET_BYTES = 32 * 2**20
"""Of one encoded picture."""

_Kinds = tuple[type[Exception], ...]

_REFUSALS: dict[_Kinds, str] = {
    (av.error.HTTPUnauthorizedError,): "the camera refuses the credentials (401)",
    (av.error.HTTPForbiddenError,): "the camera forbids these credentials to watch (403)",
}
_REASONS: dict[_Kinds, str] = {  # the first that fits
    (av.error.HTTPNotFoundError,): "the camera has no such stream (404): check the path of its address",
    (av.error.HTTPClientError,): "the camera refuses the request (error 4xx): check the path of its address",
    (av.error.HTTPServerError,): "the camera cannot serve the stream now (error 5xx, such as 503)",
    (av.error.InvalidDataError,): "what it sends is not understood: check that address and port are an RTSP camera's",
    (av.error.EOFError, ConnectionResetError, BrokenPipeError): "the camera cut the connection",
}

_LEAST_STUCK_SECONDS = 15.0
_SPARE_SECONDS = 5.0


@dataclass(frozen=True)
class ReadOptions:
    """How a source is read; durations in seconds.

    Attributes:
        connect: patience until a connection stands.
        read: patience until the next picture.
        unauthorised: pause between attempts with credentials that were refused, so that no camera locks us out.
        transport: of RTSP.
        keyframes_only: whether pictures between key frames are left out, undecoded.
        interval: between two snapshots of a source that answers with one picture at a time; at most half of `read`
            is waited, so that a lost camera is noticed in time.
        decode_every: of a source whose pictures stand alone (MJPEG, a webcam) only those that come so long after the
            last decoded one are decoded; 0 decodes all.
    """

    connect: float = 3.0
    read: float = 3.0
    unauthorised: float = 60.0
    transport: Transport = "tcp"
    keyframes_only: bool = False
    interval: float = 0.5
    decode_every: float = 0.0

    @property
    def stuck_after(self) -> float:
        """Seconds of silence that no patience explains: resolving, opening and describing may take `connect` each."""
        return max(_LEAST_STUCK_SECONDS, 2 * self.connect + max(self.connect, self.read) + _SPARE_SECONDS)


class SourceLostError(Exception):
    """The source gives no more pictures; the message says why, without credentials."""


class UnauthorisedError(SourceLostError):
    """The source refuses the credentials."""


@dataclass(frozen=True)
class Description:
    """What a source says of itself once it is open.

    Attributes:
        codec: short name such as h264, hevc, mjpeg; `raw` where the pictures come decoded.
        profile: of the codec, if it has any.
        fps: pictures a second as declared, if they are.
        delivery: how the pictures come, for people: such as `RTSP over UDP`.
        bit_rate: bits a second as declared, if they are.
    """

    codec: str
    delivery: str
    profile: str | None = None
    fps: float | None = None
    bit_rate: int | None = None


class Witness:
    """Told by a reader what happens besides the pictures that it yields; this one does not care."""

    def described(self, description: Description) -> None:
        """The source is open."""

    def received(self, size: int, *, key_frame: bool, at: float | None) -> None:
        """An encoded picture of `size` bytes has come, whose time in the stream is `at` seconds, if it has one."""

    def late(self, seconds: float) -> None:
        """The encoded picture that has come is late by so much, as far as the stream tells."""

    def skipped(self) -> None:
        """An undamaged picture was left undecoded because only key frames are wanted."""

    def damaged(self, reason: str) -> None:
        """A picture could not be decoded, or the decoder had to guess parts of it."""


def video_stream(container: av.container.InputContainer, delivery: str, witness: Witness) -> av.VideoStream:
    """The first video stream, its decoder limited to one thread and `MOST_PIXELS`; SourceLostError without one."""
    if not container.streams.video:
        raise SourceLostError("it holds no video")
    stream = container.streams.video[0]
    context = stream.codec_context
    context.thread_count = 1
    context.options = decoder_options(context.name)
    rate = stream.average_rate or stream.guessed_rate
    described = Description(
        codec=context.name,
        delivery=delivery,
        profile=context.profile,
        fps=float(rate) if rate else None,
        bit_rate=context.bit_rate or container.bit_rate or None,
    )
    witness.described(described)
    return stream


def decoder_options(codec: str) -> dict[str, str]:
    """FFmpeg's options of a decoder. A JPEG with a hole is an error: its decoder would fill it without a flag."""
    limits = {"max_pixels": str(MOST_PIXELS)}
    return limits | {"err_detect": "explode"} if codec == "mjpeg" else limits


def decode(
    stream: av.VideoStream, packet: av.Packet[av.VideoStream], options: ReadOptions, witness: Witness
) -> Iterator[av.VideoFrame]:
    """The undamaged pictures that a packet completes; those between key frames are not decoded unless wanted.

    Judging by the packet costs as little as FFmpeg's own `skip_frame`, and lets a key frame be taken out of the decoder
    at once, where a stream with B-frames would hold it back until the next.
    """
    if packet.size:
        witness.received(packet.size, key_frame=packet.is_keyframe, at=time_of(packet))
    if packet.size > MOST_PACKET_BYTES:
        witness.damaged(f"an encoded picture of {packet.size} bytes is too large")
        return
    if options.keyframes_only and packet.size and not packet.is_keyframe:
        if packet.is_corrupt:
            witness.damaged("a picture came incomplete")
        else:
            witness.skipped()
        return
    try:
        frames = packet.decode()
        if options.keyframes_only and packet.size:
            frames += _taken_out(stream.codec_context, packet)
    except (av.FFmpegError, ValueError) as error:
        witness.damaged(plain(error))
        return
    for frame in frames:
        if frame.is_corrupt or packet.is_corrupt:
            witness.damaged("a picture came incomplete")
        else:
            yield frame


def time_of(packet: av.Packet[av.VideoStream]) -> float | None:
    """Seconds on the stream's clock at which the picture is to be shown; None when it does not tell."""
    return None if packet.pts is None else float(packet.pts * packet.time_base)


def _taken_out(context: av.VideoCodecContext, packet: av.Packet[av.VideoStream]) -> list[av.VideoFrame]:
    frames = context.decode(None)
    context.flush_buffers()
    for frame in frames:
        frame.time_base = packet.time_base
    return frames


def lost(error: Exception, options: ReadOptions) -> SourceLostError:
    """What FFmpeg's error means for a camera, in plain words that say what to do where somebody can do something."""
    for kinds, refusal in _REFUSALS.items():
        if isinstance(error, kinds):
            return UnauthorisedError(refusal)
    for kinds, reason in _REASONS.items():
        if isinstance(error, kinds):
            return SourceLostError(reason)
    if isinstance(error, av.error.ExitError):
        return SourceLostError(stalled(options))
    match getattr(error, "errno", None):
        case errno.EPROTONOSUPPORT:
            other = "tcp" if options.transport == "udp" else "udp"
            return SourceLostError(f"the camera refuses {options.transport.upper()} (461): say transport: {other}")
        case errno.EIO:
            return SourceLostError("the connection broke")
        case _:
            return SourceLostError(plain(error))


def stalled(options: ReadOptions) -> str:
    return f"nothing came for {options.read:g} s"


def unanswered(options: ReadOptions) -> str:
    return f"no answer for {options.connect:g} s"


def plain(error: Exception) -> str:
    """What is wrong with encoded pictures, in plain words or FFmpeg's, without its numbers and without the address."""
    match error:
        case av.error.InvalidDataError():
            return "it is cut, damaged or no video"
        case av.error.EOFError():
            return "it ends too early"
        case _ if getattr(error, "errno", None) == errno.EIO:
            return "its disk cannot be read"
        case _:
            return str(getattr(error, "strerror", None) or type(error).__name__).lower()


def redacted(error: Exception) -> Exception:
    """The cause to show in tracebacks: FFmpeg's own message ends with the address, credentials included."""
    return RuntimeError(redact(str(error)))
