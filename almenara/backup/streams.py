"""Tars that are written and read as streams, and how objects travel in them.

A key of the object storage need not be the name of a file, so the exact one travels in a header of its own.
"""

from __future__ import annotations

import tarfile
from typing import IO, Protocol, cast

BLOCK = 2**20
BUCKET, KEY = "ALMENARA.bucket", "ALMENARA.key"


class Writable(Protocol):
    """Where bytes go."""

    def write(self, block: bytes, /) -> int: ...


def write_tar(sink: Writable) -> tarfile.TarFile:
    """A tar that is written to `sink` from its beginning to its end."""
    return tarfile.open(fileobj=cast("IO[bytes]", sink), mode="w|", format=tarfile.PAX_FORMAT, bufsize=BLOCK)


def forget(tar: tarfile.TarFile) -> None:
    """Drops what the tar remembers of its members, which would grow with their number."""
    tar.members = []  # type: ignore[attr-defined]


def names_in(source: IO[bytes]) -> dict[str, set[str]]:
    """Bucket to keys of a tar of objects that can be sought; the objects are not read."""
    names: dict[str, set[str]] = {}
    with tarfile.open(fileobj=source, mode="r:") as tar:
        for member in tar:
            keys = names.setdefault(member.pax_headers[BUCKET], set())
            if KEY in member.pax_headers:
                keys.add(member.pax_headers[KEY])
            forget(tar)
    return names
