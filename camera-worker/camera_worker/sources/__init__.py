"""Where pictures come from: RTSP streams, video files and webcams, each read by an iterator of undamaged pictures."""

from camera_worker.sources.file import read_file
from camera_worker.sources.reading import ReadOptions, SourceLostError, UnauthorisedError
from camera_worker.sources.rtsp import read_stream
from camera_worker.sources.source import Source, SourceKind
from camera_worker.sources.webcam import read_webcam

__all__ = [
    "ReadOptions",
    "Source",
    "SourceKind",
    "SourceLostError",
    "UnauthorisedError",
    "read_file",
    "read_stream",
    "read_webcam",
]
