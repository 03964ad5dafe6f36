"""What evidence stores have in common: their interface, the names in them, and how files are described and checked."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from almenara.alarms.records import EvidenceFile

MOST_BYTES = 64 * 2**20
"""Of one file."""

_MEDIA_TYPES = {
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".json": "application/json",
    ".npz": "application/x-npz",
}
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,149}")


@dataclass(frozen=True)
class Stored:
    """The evidence of one alarm, as a store lists it.

    Attributes:
        name: within the store.
        files: names of its files, sorted.
        size: bytes, of all files together.
        saved_at: seconds since 1970 UTC, of its oldest file.
    """

    name: str
    files: tuple[str, ...]
    size: int
    saved_at: float


class EvidenceReader(Protocol):
    """Where the content of evidence comes from."""

    def read(self, file: EvidenceFile) -> bytes:
        """The content as it was saved. Raises OSError: it is gone, it is not of this store, or it was changed."""
        ...


class EvidenceStore(EvidenceReader, Protocol):
    """Keeps the files of the alarms of one alarm database. What a URI names never changes."""

    def save(self, name: str, files: Mapping[str, bytes]) -> tuple[EvidenceFile, ...]:
        """Saves the files of one alarm under a name of its own, whole or not at all, on the disk when it returns.

        Args:
            name: parts of letters, digits, ``._-``, separated by ``/``; the store extends it when it is taken.
            files: name -> content.

        Raises OSError.
        """
        ...

    def replace(self, file: EvidenceFile, content: bytes) -> EvidenceFile:
        """Saves what is to be shown instead of `file`: same name, another URI. The old content stays readable.

        Raises OSError.
        """
        ...

    def stored(self) -> list[Stored]:
        """All that is there, in no order. Raises OSError."""
        ...

    def delete(self, stored: Stored) -> None:
        """Removes the evidence of one alarm; nothing happens when it is gone already. Raises OSError."""
        ...

    def remove_leftovers(self, before: float) -> None:
        """Removes what crashed saves left and nobody touched since `before`, seconds since 1970. Raises OSError."""
        ...

    def start(self) -> None:
        """Begins what goes on in the background, until `close`."""
        ...

    def close(self) -> None:
        """Ends what goes on in the background; evidence can be saved and read all the same."""
        ...


def disk_full(where: str) -> OSError:
    """The error of a disk that takes nothing more."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), where)


def path_part(text: str) -> str:
    """A camera's or an asset's name as one harmless part of a path; different names stay different."""
    cleaned = re.sub(r"[^A-Za-z0-9_-]", "_", text)[:80]
    return cleaned if cleaned == text else f"{cleaned}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def is_name(part: str) -> bool:
    """Whether it may be one part of a name: harmless, and not that of something unfinished."""
    return _PART.fullmatch(part) is not None


def check_name(name: str) -> None:
    """Raises ValueError when a part of `name` could lead out of the store, or be taken for an unfinished one."""
    if not all(map(is_name, name.split("/"))):
        raise ValueError(f"{name!r} is no name of evidence")


def describe(name: str, uri: str, content: bytes) -> EvidenceFile:
    """A saved file as an alarm carries it. Raises OSError when it is larger than `MOST_BYTES`."""
    if len(content) > MOST_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), name)
    return EvidenceFile(
        name=name,
        uri=uri,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        media_type=_MEDIA_TYPES.get(PurePosixPath(name).suffix, "application/octet-stream"),
    )


def check(file: EvidenceFile, content: bytes) -> bytes:
    """The content if it is what was saved; raises OSError if not."""
    if len(content) != file.size or hashlib.sha256(content).hexdigest() != file.sha256:
        raise OSError(errno.EIO, "it is not what was saved: its SHA-256 differs", file.uri)
    return content


def replacement_name(file: EvidenceFile, content: bytes) -> str:
    """The file name under which content that is shown instead of `file` is kept."""
    name = PurePosixPath(file.name)
    return f"{name.stem}.{hashlib.sha256(content).hexdigest()[:12]}{name.suffix}"
