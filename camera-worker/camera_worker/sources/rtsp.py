"""Pictures of an RTSP stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import av

from camera_worker.slot import Picture
from camera_worker.sources.reading import (
    ReadOptions,
    SourceLostError,
    UnauthorisedError,
    decode,
    plain,
    redacted,
    video_stream,
)

# TCP because lost packets are lost sight; no probing, because a camera's session description says it all.
_RTSP_OPTIONS = {
    "rtsp_transport": "tcp",
    "allowed_media_types": "video",
    "analyzeduration": "0",
    "probesize": "32768",
}


def read_stream(
    address: str, options: ReadOptions, *, on_damage: Callable[[], None] = lambda: None
) -> Iterator[Picture]:
    """The undamaged pictures of an RTSP stream.

    Ends when the camera ends the stream; raises SourceLostError when it cannot be opened or nothing came for
    `options.read` seconds, UnauthorisedError when it refuses the credentials.
    """
    try:
        with av.open(address, options=dict(_RTSP_OPTIONS), timeout=(options.connect, options.read)) as container:
            stream = video_stream(container)
            packets = container.demux(stream)
            asked_at = time.monotonic()
            for packet in packets:
                # After a read that timed out, FFmpeg first hands over the picture it was still assembling.
                if time.monotonic() - asked_at >= options.read:
                    raise SourceLostError(_stalled(options))
                yield from decode(packet, on_damage)
                asked_at = time.monotonic()
    except av.error.HTTPUnauthorizedError as error:
        raise UnauthorisedError("the camera refuses the credentials (401)") from redacted(error)
    except av.error.ExitError as error:
        raise SourceLostError(_stalled(options)) from redacted(error)
    except (av.FFmpegError, OSError) as error:
        raise SourceLostError(plain(error)) from redacted(error)


def _stalled(options: ReadOptions) -> str:
    return f"nothing came for {options.read:g} s"
