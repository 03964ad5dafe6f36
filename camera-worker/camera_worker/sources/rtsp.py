"""Pictures of an RTSP stream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import av

from camera_worker.slot import Picture
from camera_worker.sources.lag import Lag
from camera_worker.sources.reading import (
    ReadOptions,
    SourceLostError,
    Transport,
    Witness,
    decode,
    lost,
    redacted,
    stalled,
    time_of,
    unanswered,
    video_stream,
)
from camera_worker.sources.resolving import require_host

# No probing, because a camera's session description says it all.
_RTSP_OPTIONS = {"allowed_media_types": "video", "analyzeduration": "0", "probesize": "32768"}

# What comes in the wrong order is put right for 100 ms (max_delay, in microseconds), after which a hole is a loss; the
# socket's buffer holds the burst of a key frame.
_TRANSPORT_OPTIONS: dict[Transport, dict[str, str]] = {
    "tcp": {"rtsp_transport": "tcp"},
    "udp": {"rtsp_transport": "udp", "reorder_queue_size": "512", "max_delay": "100000", "buffer_size": "2097152"},
}


def read_stream(address: str, options: ReadOptions, witness: Witness) -> Iterator[Picture]:
    """The undamaged pictures of an RTSP stream.

    Ends when the camera ends the stream; raises SourceLostError when it cannot be opened, nothing came for
    `options.read` seconds or the pictures come too late (see `Lag`), UnauthorisedError when it refuses the credentials.
    Pictures that newer ones wait behind, old as they are, are left out.
    """
    require_host(urlsplit(address).hostname or "", options.connect)
    choices = _RTSP_OPTIONS | _TRANSPORT_OPTIONS[options.transport]
    delivery = f"RTSP over {options.transport.upper()}"
    opened, came, lag = False, False, Lag()
    begun_at = time.monotonic()
    try:
        with av.open(address, options=choices, timeout=(options.connect, options.read)) as container:
            opened = True
            stream = video_stream(container, delivery, witness)
            packets = container.demux(stream)
            asked_at = time.monotonic()
            for packet in packets:
                # After a read that timed out, FFmpeg first hands over the picture it was still assembling.
                arrived = time.monotonic()
                if arrived - asked_at >= options.read:
                    raise SourceLostError(stalled(options))
                came = True
                lag.note(time_of(packet), arrived=arrived, waited=arrived - asked_at)
                witness.late(lag.seconds)
                if lag.reason:
                    raise SourceLostError(lag.reason)
                for picture in decode(stream, packet, options, witness):
                    if not lag.is_outdated:
                        yield picture
                asked_at = time.monotonic()
    except (av.FFmpegError, OSError) as error:
        reason = lost(error, options)
        if not opened and time.monotonic() - begun_at >= options.connect:  # whatever FFmpeg makes of it
            reason = SourceLostError(unanswered(options))
        elif isinstance(error, av.error.ExitError) and options.transport == "udp" and not came:
            reason = SourceLostError(f"{reason}; if a firewall keeps UDP away, say transport: tcp")
        raise reason from redacted(error)
