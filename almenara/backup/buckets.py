"""The buckets of the object storage as one tar: every object with its metadata, every bucket with its settings."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Collection, Mapping
from typing import IO, Any

from minio import Minio
from minio.commonconfig import ENABLED
from minio.deleteobjects import DeleteObject
from minio.error import S3Error
from minio.lifecycleconfig import LifecycleConfig
from minio.versioningconfig import VersioningConfig
from minio.xml import marshal, unmarshal

from almenara.backup.streams import BUCKET, KEY, Writable, forget, write_tar
from almenara.errors import ConfigurationError, InputError

_HEADERS, _VERSIONING, _LIFECYCLE = "ALMENARA.headers", "ALMENARA.versioning", "ALMENARA.lifecycle"
_KEPT_HEADERS = {"content-type", "content-encoding", "content-disposition", "content-language", "cache-control"}
_UNSUPPORTED = {"NotImplemented", "NoSuchLifecycleConfiguration", "MethodNotAllowed", "XNotImplemented"}
_PART_SIZE = 16 * 2**20

Warn = Callable[[str], None]


def survey(storage: Minio) -> dict[str, tuple[int, int]]:
    """Bucket to the number of its objects and their bytes."""
    found = {}
    for bucket in storage.list_buckets():
        sizes = [item.size for item in storage.list_objects(bucket.name, recursive=True)]
        found[str(bucket.name)] = (len(sizes), sum(sizes))
    return found


def write_objects(storage: Minio, sink: Writable) -> None:
    """Write every bucket as a tar; an object that is deleted meanwhile is left out."""
    with write_tar(sink) as tar:
        for bucket in storage.list_buckets():
            member = tarfile.TarInfo(bucket.name)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            member.pax_headers = {BUCKET: bucket.name, **_settings(storage, bucket.name)}
            tar.addfile(member)
            for item in storage.list_objects(bucket.name, recursive=True):
                _write_object(storage, bucket.name, item.object_name, tar)
                forget(tar)


def put_objects(storage: Minio, source: IO[bytes], warn: Warn) -> int:
    """Put every object of a tar into its bucket, which is made if need be; returns how many.

    Settings that the server does not know are told to `warn`. Raises InputError: the tar is none of a backup.
    """
    count = 0
    with tarfile.open(fileobj=source, mode="r|") as tar:
        for member in tar:
            bucket, key = member.pax_headers.get(BUCKET), member.pax_headers.get(KEY)
            if bucket is None:
                raise InputError("backup-damaged", f"The buckets' part holds {member.name!r}, which names no bucket.")
            if key is None:
                _make_bucket(storage, bucket, member.pax_headers, warn)
                continue
            headers = json.loads(member.pax_headers.get(_HEADERS, "{}"))
            content_type = headers.pop("content-type", "application/octet-stream")
            storage.put_object(
                bucket,
                key,
                tar.extractfile(member),
                member.size,
                content_type=content_type,
                metadata=headers,
                part_size=_PART_SIZE,
            )
            count += 1
            forget(tar)
    return count


def remove_others(storage: Minio, wanted: Mapping[str, Collection[str]]) -> int:
    """Remove every object that `wanted` does not name, in all buckets; returns how many.

    Raises ConfigurationError: the storage refuses to remove one.
    """
    count = 0
    for bucket in storage.list_buckets():
        keep = wanted.get(bucket.name, ())
        listed = storage.list_objects(bucket.name, recursive=True)
        others = [DeleteObject(item.object_name) for item in listed if item.object_name not in keep]
        for error in storage.remove_objects(bucket.name, others):
            fact = f"{bucket.name}/{error.name} cannot be removed: {error.message}."
            raise ConfigurationError(fact, "Remove it by hand, then run the restoration again.")
        count += len(others)
    return count


def _settings(storage: Minio, bucket: str) -> dict[str, str]:
    found = {}
    try:
        if storage.get_bucket_versioning(bucket).status == ENABLED:
            found[_VERSIONING] = ENABLED
        if rules := storage.get_bucket_lifecycle(bucket):
            found[_LIFECYCLE] = marshal(rules).decode()
    except S3Error as error:
        if error.code not in _UNSUPPORTED:
            raise
    return found


def _write_object(storage: Minio, bucket: str, key: str, tar: tarfile.TarFile) -> None:
    try:
        response = storage.get_object(bucket, key)
    except S3Error as error:
        if error.code == "NoSuchKey":
            return
        raise
    try:
        headers = {name.lower(): value for name, value in response.headers.items()}
        kept = {name: text for name, text in headers.items() if name in _KEPT_HEADERS or name.startswith("x-amz-meta-")}
        member = tarfile.TarInfo(f"{bucket}/{key}")
        member.size, member.mode = int(headers["content-length"]), 0o600
        member.pax_headers = {BUCKET: bucket, KEY: key, _HEADERS: json.dumps(kept)}
        tar.addfile(member, response)
    finally:
        response.close()
        response.release_conn()


def _make_bucket(storage: Minio, bucket: str, settings: Mapping[str, str], warn: Warn) -> None:
    if not storage.bucket_exists(bucket):
        storage.make_bucket(bucket)
    wanted: list[tuple[str, Callable[[], Any]]] = []
    if _VERSIONING in settings:
        wanted.append(("versioning", lambda: storage.set_bucket_versioning(bucket, VersioningConfig(ENABLED))))
    if _LIFECYCLE in settings:
        rules = unmarshal(LifecycleConfig, settings[_LIFECYCLE])
        wanted.append(("lifecycle", lambda: storage.set_bucket_lifecycle(bucket, rules)))
    for name, setting in wanted:
        try:
            setting()
        except S3Error as error:
            warn(f"the bucket {bucket} does not get its {name} setting: {error.code}")
