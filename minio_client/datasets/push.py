"""Sending a folder as a version of a data set."""

from __future__ import annotations

import hashlib
import io
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from minio import Minio
from minio.error import S3Error

from minio_client.checksum import PART_SIZE, matches_etag
from minio_client.datasets.catalogue import (
    BUCKET,
    blob_key,
    check_fingerprint,
    check_name,
    fingerprint_key,
    manifest_key,
    stored_versions,
)
from minio_client.datasets.manifest import Entry, Manifest, scan
from minio_client.errors import StorageError, explained
from minio_client.progress import FileMeter, Meter, Progress, in_parallel

_MISSING = {"NoSuchKey", "NoSuchObject"}
_TIMES = 3


@dataclass(frozen=True)
class Pushed:
    """What a push did.

    Attributes:
        version: of the folder's contents.
        files: number of files in it.
        size: bytes of them.
        sent: number of contents that were not in storage yet.
        sent_size: bytes of those.
        new: the version was not in storage yet.
    """

    version: str
    files: int
    size: int
    sent: int
    sent_size: int
    new: bool


def push(
    storage: Minio,
    folder: Path,
    name: str,
    *,
    bucket: str = BUCKET,
    fingerprint: str | None = None,
    jobs: int = 4,
    progress: Progress | None = None,
) -> Pushed:
    """Send a folder as the latest version of a data set; contents that storage holds already are not sent again.

    The version appears when all its contents are there: of an interrupted push nobody sees anything, and the next one
    goes on with the files that are missing.

    Args:
        storage: client.
        folder: what to send; links in it are refused.
        name: of the data set.
        bucket: where data sets are kept.
        fingerprint: of the training data as Almenara computes it; the version can then be named by it.
        jobs: files read and sent at the same time.
        progress: told how far it is, first of reading and then of sending.

    Raises:
        StorageError: a bad name, a folder that is no data set, a file that changed meanwhile, no such bucket, or
            storage refuses.
    """
    check_name(name)
    if fingerprint is not None:
        check_fingerprint(fingerprint)
    known = {stored.version for stored in stored_versions(storage, bucket, name)}
    manifest = scan(folder, jobs=jobs, progress=progress)
    contents = {entry.sha256: entry for entry in manifest.files}
    meter = Meter(sum(entry.size for entry in contents.values()), progress)

    def send(entry: Entry) -> int | None:
        shown = meter.of(f"send {PurePosixPath(entry.path).name}")
        return _send(storage, bucket, folder / entry.path, entry, shown)

    sizes = [size for size in in_parallel(send, contents.values(), jobs) if size is not None]
    _publish(storage, bucket, name, manifest)
    if fingerprint is not None:
        key = fingerprint_key(name, fingerprint, manifest.version)
        with explained(f"The fingerprint of {name} cannot be written"):
            storage.put_object(bucket, key, io.BytesIO(), 0)
    return Pushed(
        manifest.version, len(manifest.files), manifest.size, len(sizes), sum(sizes), manifest.version not in known
    )


def _send(storage: Minio, bucket: str, path: Path, entry: Entry, meter: FileMeter) -> int | None:
    """Bytes sent, or None when storage holds them already."""
    key = blob_key(entry.sha256)
    with explained(f"{path} cannot be sent to {bucket}/{key}"):
        if _is_there(storage, bucket, key, path, entry):
            meter.update(entry.size)
            return None
        with path.open("rb") as file:
            storage.put_object(
                bucket,
                key,
                _Checked(file, path, entry),
                entry.size,
                part_size=PART_SIZE,
                num_parallel_uploads=1,
                progress=meter,
            )
    return entry.size


def _is_there(storage: Minio, bucket: str, key: str, path: Path, entry: Entry) -> bool:
    try:
        found = storage.stat_object(bucket, key)
    except S3Error as error:
        if error.code in _MISSING:
            return False
        raise
    if found.size != entry.size:
        return False
    encrypted = "x-amz-server-side-encryption" in found.metadata  # its ETag is then no checksum of the bytes
    return encrypted or matches_etag(path, found.etag)


class _Checked:
    """A file that is read as its hash says or not at all: other bytes never get to storage under that hash."""

    def __init__(self, file: BinaryIO, path: Path, entry: Entry) -> None:
        self._file = file
        self._path = path
        self._entry = entry
        self._digest = hashlib.sha256()
        self._left = entry.size

    def read(self, size: int) -> bytes:
        block = self._file.read(size)
        self._digest.update(block)
        self._left -= len(block)
        ended = self._left <= 0 or not block
        if ended and (self._left or self._digest.hexdigest() != self._entry.sha256):
            raise StorageError(
                f"{self._path} changed while it was sent.", "Push again when nobody writes to the folder."
            )
        return block


def _publish(storage: Minio, bucket: str, name: str, manifest: Manifest) -> None:
    """Write the manifest, unless the version is the latest already.

    The latest is the one written last, and servers tell time in whole seconds: one that was written in the same second
    as another is written again.
    """
    facts = {"files": str(len(manifest.files)), "bytes": str(manifest.size)}
    for attempt in range(_TIMES):
        latest = stored_versions(storage, bucket, name)[:2]
        alone = len(latest) < 2 or latest[0].pushed != latest[1].pushed
        if latest and latest[0].version == manifest.version and alone:
            return
        if attempt:
            time.sleep(1)
        with explained(f"The manifest of {name} cannot be written"):
            storage.put_object(
                bucket,
                manifest_key(name, manifest.version),
                io.BytesIO(manifest.document),
                len(manifest.document),
                content_type="application/json",
                metadata=facts,
            )
