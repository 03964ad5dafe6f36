"""Pictures of a video file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import av

from camera_worker.slot import Picture
from camera_worker.sources.reading import SourceLostError, decode, plain, video_stream


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
            for packet in container.demux(video_stream(container)):
                for picture in decode(packet, on_damage):
                    at = picture.time or 0.0
                    first = at if first is None else first
                    wait(max(0.0, start + at - first - time.monotonic()))
                    yield picture
    except (av.FFmpegError, OSError) as error:
        raise SourceLostError(plain(error)) from error
