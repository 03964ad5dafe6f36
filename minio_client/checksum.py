"""Checksums of files: SHA-256, and the ETag that S3 gives a file.

The ETag of an object that was sent in one request is the MD5 of its bytes; of one that was sent in N parts it is the
MD5 of the parts' MD5s, followed by ``-N``. The part size is not stored, so only sizes that clients use are tried.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

MIB = 2**20
PART_SIZE = 16 * MIB
"""What this package sends in one request; larger files go in parts of this size."""
_OTHER_PART_SIZES = tuple(size * MIB for size in (5, 8, 10, 15, 32, 64, 128, 256, 512))


def sha256(path: Path) -> str:
    """SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def matches_etag(path: Path, etag: str) -> bool:
    """Whether a file is what an ETag stands for; False if the ETag's part size cannot be told."""
    digest, _, parts = etag.strip('"').partition("-")
    if not parts:
        return _etag(path, None) == digest
    if not parts.isdigit():
        return False
    size = path.stat().st_size
    fitting = (p for p in (PART_SIZE, *_OTHER_PART_SIZES) if max(1, -(-size // p)) == int(parts))
    return any(_etag(path, part_size) == f"{digest}-{parts}" for part_size in fitting)


def _etag(path: Path, part_size: int | None) -> str:
    with path.open("rb") as file:
        if part_size is None:
            return hashlib.file_digest(file, _md5).hexdigest()
        parts = max(1, -(-path.stat().st_size // part_size))
        digests = b"".join(_part_digest(file, part_size) for _ in range(parts))
    return f"{_md5(digests).hexdigest()}-{parts}"


def _part_digest(file: BinaryIO, part_size: int) -> bytes:
    digest, left = _md5(), part_size
    while left and (block := file.read(min(left, MIB))):
        digest.update(block)
        left -= len(block)
    return digest.digest()


def _md5(data: bytes = b"") -> hashlib._Hash:
    """S3 names contents by MD5; here it protects nothing."""
    return hashlib.md5(data, usedforsecurity=False)
