"""Listing, and copying files and folders to storage and back."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

from minio import Minio

from minio_client.checksum import PART_SIZE, matches_etag, sha256
from minio_client.download import fetch
from minio_client.errors import StorageError, explained
from minio_client.progress import Meter, Progress, in_parallel

_SHA256 = "sha256"  # user metadata; storage sends it back as x-amz-meta-sha256


@dataclass(frozen=True)
class Location:
    """A bucket and what is below a prefix in it; the prefix ends at a slash or at the end of a key."""

    bucket: str
    prefix: str = ""

    @classmethod
    def parse(cls, text: str, default_bucket: str | None = None) -> Location:
        """Read ``bucket/prefix``, or an empty text as the default bucket.

        Raises:
            StorageError: there is no bucket in it.
        """
        bucket, _, prefix = text.partition("/")
        bucket = bucket or ("" if text else default_bucket or "")
        if not bucket:
            raise StorageError(f"{text!r} names no bucket.", "Write BUCKET/PREFIX, or set MINIO_BUCKET_NAME.")
        return cls(bucket, prefix)

    def __str__(self) -> str:
        return f"{self.bucket}/{self.prefix}"


@dataclass(frozen=True)
class Listed:
    """An object in storage; ``modified`` is UTC."""

    key: str
    size: int
    etag: str
    modified: datetime | None


@dataclass(frozen=True)
class Summary:
    """What a transfer did; ``size`` is the bytes of the files that were transferred."""

    transferred: int
    skipped: int
    size: int


def list_objects(storage: Minio, location: Location) -> Iterator[Listed]:
    """Objects at and below a location, in the order of their keys.

    Raises:
        StorageError: no such bucket, or storage does not answer.
    """
    with explained(f"{location} cannot be listed"):
        for found in storage.list_objects(location.bucket, prefix=location.prefix or None, recursive=True):
            if _is_within(found.object_name, location.prefix):
                yield Listed(found.object_name, found.size, found.etag.strip('"'), found.last_modified)


def put(storage: Minio, source: Path, target: Location, *, jobs: int = 4, progress: Progress | None = None) -> Summary:
    """Copy a file or a folder to storage; what is there already, with the same size and ETag, is skipped.

    A folder's files go to ``prefix/relative/path``. A file goes to the key ``prefix``, or into it if it is empty or
    ends with a slash. Storage checks every byte that it receives; the file's SHA-256 is kept with the object.

    Raises:
        StorageError: no such file, an empty folder, no such bucket, or storage refuses.
    """
    files = _plan_put(source, target)
    known = {found.key: found for found in list_objects(storage, target)}
    sizes = {key: path.stat().st_size for key, path in files.items()}
    meter = Meter(sum(sizes.values()), progress)

    def send(item: tuple[str, Path]) -> int | None:
        key, path = item
        there = known.get(key)
        if there is not None and there.size == sizes[key] and matches_etag(path, there.etag):
            meter.add(path.name, sizes[key])
            return None
        content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        with explained(f"{path} cannot be sent to {target.bucket}/{key}"):
            storage.fput_object(
                target.bucket,
                key,
                str(path),
                content_type=content_type,
                metadata={_SHA256: sha256(path)},
                part_size=PART_SIZE,
                num_parallel_uploads=1,
                progress=meter.of(path.name),
            )
        return sizes[key]

    return _summary(in_parallel(send, files.items(), jobs))


def get(storage: Minio, source: Location, target: Path, *, jobs: int = 4, progress: Progress | None = None) -> Summary:
    """Copy an object, or all objects below a prefix, to disk; files with the same size and ETag are skipped.

    An object whose key is the prefix goes to the file ``target``, or into it if it is a folder; objects below the
    prefix go to ``target/relative/path``. A file appears under its name when it is whole and its checksum right; until
    then it is a hidden ``.part`` beside it, and a later call goes on where it ends.

    Raises:
        StorageError: nothing there, a key that leads out of the target, a wrong checksum, or storage refuses.
    """
    found = [item for item in list_objects(storage, source) if not item.key.endswith("/")]
    if not found:
        raise StorageError(f"There is nothing at {source}.", f"See what there is: minio-client ls {source.bucket}.")
    plan = [(item, _local_path(item.key, source.prefix, target)) for item in found]
    meter = Meter(sum(item.size for item in found), progress)

    def copy(item: tuple[Listed, Path]) -> int | None:
        remote, path = item
        with explained(f"{source.bucket}/{remote.key} cannot be fetched to {path}"):
            if path.is_file() and path.stat().st_size == remote.size and matches_etag(path, remote.etag):
                meter.add(path.name, remote.size)
                return None
            _download(storage, source.bucket, remote, path, meter)
        return remote.size

    return _summary(in_parallel(copy, plan, jobs))


def _summary(sizes: Iterable[int | None]) -> Summary:
    """Counts of files by what became of each: bytes that were copied, or None when it was skipped."""
    found = list(sizes)
    copied = [size for size in found if size is not None]
    return Summary(transferred=len(copied), skipped=len(found) - len(copied), size=sum(copied))


def _plan_put(source: Path, target: Location) -> dict[str, Path]:
    """Key of every file that has to be in storage afterwards."""
    if source.is_file():
        into = not target.prefix or target.prefix.endswith("/")
        return {f"{target.prefix}{source.name}" if into else target.prefix: source}
    if not source.is_dir():
        raise StorageError(f"There is no file or folder {source}.")
    prefix = f"{target.prefix.rstrip('/')}/" if target.prefix else ""
    files = {
        f"{prefix}{path.relative_to(source).as_posix()}": path for path in sorted(source.rglob("*")) if path.is_file()
    }
    if not files:
        raise StorageError(f"The folder {source} has no files.")
    return files


def _is_within(key: str, prefix: str) -> bool:
    return not prefix or prefix.endswith("/") or key == prefix or key.startswith(f"{prefix}/")


def _local_path(key: str, prefix: str, target: Path) -> Path:
    if key == prefix:
        return target / PurePosixPath(key).name if target.is_dir() else target
    relative = key.removeprefix(prefix).removeprefix("/") if prefix else key
    parts = relative.split("/")
    if any(part in {"", ".", ".."} or "\0" in part for part in parts):
        raise StorageError(f"The key {key!r} would lead out of {target} and is not fetched.", "Rename the object.")
    return target.joinpath(*parts)


def _download(storage: Minio, bucket: str, remote: Listed, path: Path, meter: Meter) -> None:
    # The part carries its object's ETag: what was begun of an older object is not continued with a newer one.
    part = path.with_name(f".{path.name}.{remote.etag[:16]}.part")
    headers = fetch(storage, bucket, remote.key, part, size=remote.size, meter=meter.of(path.name), etag=remote.etag)
    if not _is_right(part, remote.etag, headers):
        part.unlink()
        raise StorageError(f"{bucket}/{remote.key} arrived damaged: its checksum is wrong.", "Fetch it again.")
    part.replace(path)


def _is_right(path: Path, etag: str, headers: Mapping[str, str]) -> bool:
    """Check a file by the SHA-256 that `put` left, else by its ETag where that is an MD5 of the whole."""
    stored = headers.get(f"x-amz-meta-{_SHA256}")
    if stored is not None:
        return sha256(path) == stored
    unknown = "-" in etag or "x-amz-server-side-encryption" in headers
    return unknown or matches_etag(path, etag)
