"""Which data sets and versions there are in a bucket, and which of them a name means.

`blobs/sha256/ab/HASH` holds contents, `NAME/manifests/VERSION.json` what a version consists of, and an empty object
`NAME/fingerprints/FINGERPRINT/VERSION` says which version a training run's data fingerprint belongs to.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from minio import Minio

from minio_client.datasets.manifest import MOST_BYTES, Manifest
from minio_client.errors import StorageError, explained
from minio_client.progress import in_parallel

BUCKET = "datasets"
"""Where data sets are kept unless another bucket is named."""

_BLOBS = "blobs"
_NAME = re.compile("[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_LATEST = "latest"
_WHICH = re.compile("[0-9a-f]{6,64}")
_MANIFEST = re.compile("([0-9a-f]{64})[.]json")


@dataclass(frozen=True)
class Reference:
    """A version of a data set: ``NAME``, ``NAME@latest``, or ``NAME@`` and 6 to 64 digits.

    The digits are the beginning of a version, or else of a data fingerprint that was pushed with it.
    """

    name: str
    which: str = _LATEST

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read ``NAME[@VERSION]``.

        Raises:
            StorageError: it is none.
        """
        name, _, which = text.partition("@")
        which = which if "@" in text else _LATEST
        if which != _LATEST and not _WHICH.fullmatch(which):
            raise StorageError(
                f"{text!r} names no version.",
                "Write NAME@latest, or NAME@ and 6 to 64 digits of minio-client datasets list.",
            )
        return cls(check_name(name), which)

    def __str__(self) -> str:
        return f"{self.name}@{self.which}"


@dataclass(frozen=True)
class Stored:
    """A version in storage; ``pushed`` is the last time at which it was, by the server's clock."""

    version: str
    pushed: datetime


@dataclass(frozen=True)
class Version:
    """A version in storage with its number of files, their bytes, and the data fingerprints that belong to it."""

    version: str
    pushed: datetime
    files: int
    size: int
    fingerprints: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """A data set with its number of versions and its latest."""

    name: str
    versions: int
    latest: Stored


def check_name(name: str) -> str:
    """The name, when a data set may be called so.

    Raises:
        StorageError: it may not.
    """
    if not _is_name(name):
        raise StorageError(
            f"{name!r} is no name of a data set.",
            f"Take up to 63 small letters, digits, `.`, `_`, `-`, a letter or digit at both ends, but not {_BLOBS!r}.",
        )
    return name


def check_fingerprint(fingerprint: str) -> str:
    """The fingerprint, when it is a SHA-256 in hexadecimal.

    Raises:
        StorageError: it is not.
    """
    if not re.fullmatch("[0-9a-f]{64}", fingerprint):
        raise StorageError(
            f"{fingerprint!r} is no data fingerprint.", "It is the 64 digits of a model card's training data."
        )
    return fingerprint


def blob_key(sha256: str) -> str:
    """Key of the contents with a SHA-256."""
    return f"{_BLOBS}/sha256/{sha256[:2]}/{sha256}"


def manifest_key(name: str, version: str) -> str:
    """Key of a version's manifest."""
    return f"{name}/manifests/{version}.json"


def fingerprint_key(name: str, fingerprint: str, version: str) -> str:
    """Key of the object that ties a data fingerprint to a version."""
    return f"{name}/fingerprints/{fingerprint}/{version}"


def stored_versions(storage: Minio, bucket: str, name: str) -> list[Stored]:
    """The versions of a data set, the latest first; none when there is no such data set.

    Raises:
        StorageError: no such bucket, or storage does not answer.
    """
    prefix = f"{name}/manifests/"
    found = []
    for key, modified in _keys(storage, bucket, prefix):
        match = _MANIFEST.fullmatch(key.removeprefix(prefix))
        if match:
            found.append(Stored(match[1], modified))
    return sorted(found, key=lambda stored: (stored.pushed, stored.version), reverse=True)


def list_versions(storage: Minio, bucket: str, name: str) -> list[Version]:
    """The versions of a data set with their sizes and fingerprints, the latest first.

    Raises:
        StorageError: no such data set or bucket, or storage does not answer.
    """
    found = stored_versions(storage, bucket, name)
    if not found:
        raise _unknown(name)
    fingerprints: dict[str, list[str]] = {}
    prefix = f"{name}/fingerprints/"
    for key, _ in _keys(storage, bucket, prefix):
        fingerprint, _, version = key.removeprefix(prefix).partition("/")
        fingerprints.setdefault(version, []).append(fingerprint)

    def described(stored: Stored) -> Version:
        with explained(f"{name}@{stored.version[:12]} cannot be read"):
            told = storage.stat_object(bucket, manifest_key(name, stored.version)).metadata
        files, size = (int(told.get(f"x-amz-meta-{what}", 0)) for what in ("files", "bytes"))
        return Version(stored.version, stored.pushed, files, size, tuple(fingerprints.get(stored.version, ())))

    return in_parallel(described, found, 8)


def list_datasets(storage: Minio, bucket: str) -> list[Dataset]:
    """All data sets of a bucket, by name.

    Raises:
        StorageError: no such bucket, or storage does not answer.
    """
    with explained(f"{bucket} cannot be listed"):
        folders = [found.object_name for found in storage.list_objects(bucket) if found.is_dir]
    names = [name for name in sorted(folder.rstrip("/") for folder in folders) if _is_name(name)]
    versions = {name: stored_versions(storage, bucket, name) for name in names}
    return [Dataset(name, len(found), found[0]) for name, found in versions.items() if found]


def resolve(storage: Minio, bucket: str, reference: Reference) -> str:
    """The version that a reference means, all 64 digits.

    Raises:
        StorageError: there is none, or several begin with those digits.
    """
    versions = stored_versions(storage, bucket, reference.name)
    if not versions:
        raise _unknown(reference.name)
    if reference.which == _LATEST:
        return versions[0].version
    matching = [stored.version for stored in versions if stored.version.startswith(reference.which)]
    if not matching:
        prefix = f"{reference.name}/fingerprints/{reference.which}"
        tied = {key.rpartition("/")[2] for key, _ in _keys(storage, bucket, prefix)}
        # Versions that differ in names alone may share a fingerprint: any of them trains the same model.
        matching = [stored.version for stored in versions if stored.version in tied][:1]
    if not matching:
        raise StorageError(
            f"There is no {reference}.", f"See what there is: minio-client datasets list {reference.name}."
        )
    if len(matching) > 1:
        raise StorageError(f"{len(matching)} versions begin with {reference}.", "Write more of its digits.")
    return matching[0]


def load_manifest(storage: Minio, bucket: str, reference: Reference) -> Manifest:
    """The manifest of the version that a reference means.

    Raises:
        StorageError: there is none, several begin with those digits, or the manifest is damaged.
    """
    version = resolve(storage, bucket, reference)
    with explained(f"{reference} cannot be read"):
        response = storage.get_object(bucket, manifest_key(reference.name, version))
        with contextlib.closing(response):
            return Manifest.parse(response.read(MOST_BYTES), version)


def _keys(storage: Minio, bucket: str, prefix: str) -> Iterator[tuple[str, datetime]]:
    with explained(f"{bucket}/{prefix} cannot be listed"):
        for found in storage.list_objects(bucket, prefix=prefix, recursive=True):
            yield found.object_name, found.last_modified or datetime.min.replace(tzinfo=UTC)


def _is_name(name: str) -> bool:
    return name != _BLOBS and _NAME.fullmatch(name) is not None


def _unknown(name: str) -> StorageError:
    return StorageError(f"There is no data set {name!r}.", "See which there are: minio-client datasets list.")
