"""One way to read every kind of source."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from camera_worker.slot import Picture
from camera_worker.sources.file import play_file
from camera_worker.sources.http import read_http
from camera_worker.sources.reading import ReadOptions, Witness
from camera_worker.sources.rtsp import read_stream
from camera_worker.sources.source import Source, SourceKind
from camera_worker.sources.webcam import read_webcam


def read_source(
    source: Source, options: ReadOptions, witness: Witness, *, wait: Callable[[float], None] = time.sleep
) -> Iterator[Picture]:
    """The undamaged pictures of a source as they come; a file is played at its own speed.

    Ends where the source ends; raises SourceLostError when it is lost, UnauthorisedError when it refuses the
    credentials.
    """
    match source.kind:
        case SourceKind.STREAM:
            return read_stream(source.address, options, witness)
        case SourceKind.HTTP:
            return read_http(source.address, options, witness, wait)
        case SourceKind.FILE:
            return play_file(source.address, options, witness, wait)
        case SourceKind.WEBCAM:
            return read_webcam(int(source.address), options, witness)
