"""Files that are on the disk, whole, before a call returns: a power cut leaves the old state or the new one."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path


def create_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Makes `folder` with its files; it appears when all of them are on the disk, or not at all.

    Raises OSError, also when a folder with files is there already; what was written until then is removed.
    """
    partial = unfinished(folder)
    try:
        partial.mkdir(parents=True)
        for name, content in files.items():
            write(partial / name, content)
        sync(partial)
        partial.rename(folder)
        sync(folder.parent)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def put_file(path: Path, content: bytes) -> None:
    """Puts a file in place, new or for one that is there: readers see the old or the new one, whole. Raises OSError."""
    partial = unfinished(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial, content)
        partial.replace(path)
        sync(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def unfinished(path: Path) -> Path:
    """A hidden name beside `path`, for what is not whole yet."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")


def remove_unfinished(path: Path, before: float) -> None:
    """Removes what `put_file` left of `path` when it was killed before then, seconds since 1970. Raises OSError."""
    for partial in path.parent.glob(f".{path.name}.{'[0-9a-f]' * 8}"):
        with contextlib.suppress(FileNotFoundError):
            if partial.stat().st_mtime < before:
                partial.unlink()


def write(path: Path, content: bytes) -> None:
    """Writes a file and has its content on the disk. Raises OSError."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync(folder: Path) -> None:
    """Has a folder's own entries, new and renamed, on the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
