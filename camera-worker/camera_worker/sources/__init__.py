"""Where pictures come from: streams, HTTP, video files and webcams, each read by an iterator of undamaged pictures."""

from camera_worker.sources.file import read_file
from camera_worker.sources.reader import read_source
from camera_worker.sources.reading import Description, ReadOptions, SourceLostError, UnauthorisedError, Witness
from camera_worker.sources.source import Source, SourceKind

__all__ = [
    "Description",
    "ReadOptions",
    "Source",
    "SourceKind",
    "SourceLostError",
    "UnauthorisedError",
    "Witness",
    "read_file",
    "read_source",
]
