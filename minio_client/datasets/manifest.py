"""What a version of a data set is: the paths, sizes and SHA-256s of its files, and a version derived from them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from minio_client.checksum import sha256
from minio_client.errors import StorageError, explained
from minio_client.progress import Meter, Progress, in_parallel

FORMAT = "minio-client-dataset/1"
MOST_FILES = 200_000
MOST_BYTES = 256 * 2**20
"""Of a manifest; 200 000 files with paths of full length."""
WORK_FOLDER = ".minio-client"
"""In a pulled folder: files on their way. It is no part of the data set."""

_LONGEST_PATH = 1024
_SHA256 = re.compile("[0-9a-f]{64}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\\]")


@dataclass(frozen=True)
class Entry:
    """One file: its path below the data set's folder with `/`, its size in bytes and its SHA-256 in hexadecimal."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The files of one version, in the order of their paths."""

    files: tuple[Entry, ...]

    @cached_property
    def document(self) -> bytes:
        """The manifest as it is stored: JSON in one spelling, so that equal contents are equal bytes."""
        files = [{"path": file.path, "sha256": file.sha256, "size": file.size} for file in self.files]
        return json.dumps({"files": files, "format": FORMAT}, separators=(",", ":"), sort_keys=True).encode()

    @cached_property
    def version(self) -> str:
        """SHA-256 of the document: the same contents under the same paths are the same version."""
        return hashlib.sha256(self.document).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @classmethod
    def parse(cls, document: bytes, version: str) -> Manifest:
        """Read a stored manifest and check it whole: nobody but its author vouches for what is in storage.

        Raises:
            StorageError: the document is not that of the version, or names files that no folder can hold.
        """
        if hashlib.sha256(document).hexdigest() != version:
            raise StorageError(f"The manifest of version {version[:12]} was changed in storage.", "Push it again.")
        try:
            read = json.loads(document)
            known = read["format"] == FORMAT
            files = (
                tuple(Entry(str(f["path"]), int(f["size"]), str(f["sha256"])) for f in read["files"]) if known else ()
            )
        except (KeyError, TypeError, ValueError) as error:
            raise StorageError(f"The manifest of version {version[:12]} cannot be read: {error!r}.") from error
        if not known:
            raise StorageError(
                f"The manifest of version {version[:12]} is in the format {read['format']!r}.", "Update minio-client."
            )
        _check(files)
        return cls(files)


def scan(folder: Path, *, jobs: int = 4, progress: Progress | None = None) -> Manifest:
    """Read a folder and hash its files. Empty folders are no part of a data set.

    Raises:
        StorageError: no such folder, no files or too many, a name that cannot be kept, or something that is neither
            file nor folder, such as a link.
    """
    if not folder.is_dir():
        raise StorageError(f"There is no folder {folder}.")
    sizes: dict[str, int] = {}
    with explained(f"{folder} cannot be read"):
        for path, status in walk(folder):
            if not stat.S_ISREG(status.st_mode):
                kind = "a link" if stat.S_ISLNK(status.st_mode) else "neither a file nor a folder"
                raise StorageError(f"{folder / path} is {kind}.", "Take it out, or put the file itself there.")
            sizes[path] = status.st_size
            if len(sizes) > MOST_FILES:
                raise StorageError(f"{folder} has more than {MOST_FILES} files.", "Pack them, or push parts of it.")
    if not sizes:
        raise StorageError(f"The folder {folder} has no files.")
    meter = Meter(sum(sizes.values()), progress)

    def read(path: str) -> Entry:
        with explained(f"{folder / path} cannot be read"):
            digest = sha256(folder / path)
        meter.add(f"read {PurePosixPath(path).name}", sizes[path])
        return Entry(path, sizes[path], digest)

    files = tuple(in_parallel(read, sorted(sizes), jobs))
    _check(files)
    return Manifest(files)


def walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Path and status of everything in a folder that is no folder; links are not followed.

    Raises:
        OSError: a folder cannot be read.
    """

    def unreadable(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=unreadable):
        if Path(place) == folder and WORK_FOLDER in folders:
            folders.remove(WORK_FOLDER)
        for path in (Path(place, name) for name in (*folders, *names)):
            status = path.lstat()
            if not stat.S_ISDIR(status.st_mode):
                yield path.relative_to(folder).as_posix(), status


def _check(files: tuple[Entry, ...]) -> None:
    """Refuse what no folder can hold or what leads out of it."""
    if not 0 < len(files) <= MOST_FILES:
        raise StorageError(f"A data set has 1 to {MOST_FILES} files, and this one {len(files)}.")
    previous = ""
    folders: set[str] = set()
    for file in files:
        _check_path(file.path)
        if file.path <= previous or file.size < 0 or not _SHA256.fullmatch(file.sha256):
            raise StorageError(f"The manifest's entry for {file.path!r} is out of order or has no valid SHA-256.")
        previous = file.path
        folders.update(str(parent) for parent in PurePosixPath(file.path).parents)
    both = folders.intersection(file.path for file in files)
    if both:
        raise StorageError(f"{min(both)!r} is a file and a folder at once in the manifest.")


def _check_path(path: str) -> None:
    try:
        length = len(path.encode())
    except UnicodeEncodeError:
        raise StorageError(f"The name {path!r} is not in UTF-8.", "Rename the file.") from None
    parts = path.split("/")
    if any(part in {"", ".", ".."} for part in parts) or parts[0] == WORK_FOLDER:
        raise StorageError(f"{path!r} is no path of a file below a folder.", "Rename the file.")
    if length > _LONGEST_PATH or _UNPRINTABLE.search(path):
        raise StorageError(
            f"The name {path!r} is longer than {_LONGEST_PATH} bytes, or has a backslash or control character.",
            "Rename the file.",
        )
