"""Fetching one object into a partial file, which a later call goes on with."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from minio import Minio

from minio_client.checksum import MIB
from minio_client.errors import StorageError
from minio_client.progress import FileMeter


def fetch(
    storage: Minio, bucket: str, key: str, part: Path, *, size: int, meter: FileMeter, etag: str | None = None
) -> Mapping[str, str]:
    """Bring ``part`` to the object's size, from where it ends; what is in it is not checked here.

    Args:
        storage: client.
        bucket: bucket of the object.
        key: its key.
        part: partial file; its folder is made. If it is as large as the object or larger, it is begun anew.
        size: bytes of the object.
        meter: told of every block, and of what was there already.
        etag: when given, only an object with this ETag is fetched.

    Returns:
        The headers of the answer.

    Raises:
        StorageError: the object ended early.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    begun = part.stat().st_size if part.is_file() else 0
    offset = begun if begun < size else 0
    conditions = {"If-Match": etag} if etag else None
    response = storage.get_object(bucket, key, offset=offset, request_headers=conditions)
    with contextlib.closing(response), part.open("ab" if offset else "wb") as file:
        meter.update(offset)
        for block in response.stream(MIB):
            file.write(block)
            meter.update(len(block))
    if part.stat().st_size < size:
        raise StorageError(f"{bucket}/{key} ended early.", "Run the same command again: it goes on there.")
    headers: Mapping[str, str] = response.headers
    return headers
