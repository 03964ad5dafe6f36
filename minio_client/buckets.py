"""Buckets: making them, versioning, and the rules by which storage deletes on its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from minio import Minio
from minio.commonconfig import ENABLED, Filter
from minio.error import S3Error
from minio.lifecycleconfig import (
    AbortIncompleteMultipartUpload,
    Expiration,
    LifecycleConfig,
    NoncurrentVersionExpiration,
    Rule,
)
from minio.versioningconfig import OFF, SUSPENDED, VersioningConfig

from minio_client.errors import StorageError, explained

# The last is said by servers that take the request for one that makes the bucket.
_UNSUPPORTED = {"NotImplemented", "MethodNotAllowed", "BucketAlreadyOwnedByYou"}
_OURS = "minio-client:"


@dataclass(frozen=True)
class DeletionRule:
    """What storage deletes on its own below a prefix, in days; None is never.

    Attributes:
        prefix: keys that begin with it; empty for the whole bucket.
        expire_days: after the last write of an object.
        noncurrent_days: after an old version was replaced or deleted, in a bucket with versioning.
        abort_uploads_days: after the beginning of an upload in parts that was not ended.
        foreign: another program made the rule, and it may say more than this.
    """

    prefix: str = ""
    expire_days: int | None = None
    noncurrent_days: int | None = None
    abort_uploads_days: int | None = None
    foreign: bool = False


def make_buckets(storage: Minio, names: Iterable[str]) -> list[str]:
    """Make the buckets that are not there yet and return their names.

    Raises:
        StorageError: a name that S3 does not allow, or one that belongs to somebody else.
    """
    made = []
    for name in names:
        with explained(f"Bucket {name!r} cannot be made"):
            if not storage.bucket_exists(name):
                storage.make_bucket(name)
                made.append(name)
    return made


def versioning(storage: Minio, bucket: str) -> str:
    """`on`, `suspended` (old versions stay, none are added) or `off` (there never were versions).

    Raises:
        StorageError: no such bucket, or the server has no versioning.
    """
    with _asked(bucket, "versioning"):
        status = storage.get_bucket_versioning(bucket).status_string
    return {ENABLED: "on", SUSPENDED: "suspended", OFF: "off"}[status]


def set_versioning(storage: Minio, bucket: str, *, on: bool) -> str:
    """Begin to keep old versions of objects, or stop; returns what `versioning` then says.

    Raises:
        StorageError: no such bucket, or the server has no versioning.
    """
    if not on and versioning(storage, bucket) == "off":
        return "off"
    with _asked(bucket, "versioning"):
        storage.set_bucket_versioning(bucket, VersioningConfig(ENABLED if on else SUSPENDED))
    now = versioning(storage, bucket)
    if on != (now == "on"):
        raise _unsupported(bucket, "versioning")
    return now


def lifecycle(storage: Minio, bucket: str) -> list[DeletionRule]:
    """The bucket's rules of deletion.

    Raises:
        StorageError: no such bucket, or the server has no such rules.
    """
    return [_described(rule) for rule in _rules(storage, bucket)]


def set_lifecycle(storage: Minio, bucket: str, rule: DeletionRule) -> list[DeletionRule]:
    """Put a rule in the place of the one with its prefix, keep the others, and return all.

    Raises:
        StorageError: no such bucket, the server has no such rules or did not keep this one as it is, or the bucket has
            rules of another program, which could not be written back as they were.
    """
    there = lifecycle(storage, bucket)
    if any(old.foreign for old in there):
        raise StorageError(
            f"{bucket} has rules that another program made.",
            f"Change them there, or remove all: minio-client lifecycle {bucket} --clear.",
        )
    kept = [_rule(old) for old in there if old.prefix != rule.prefix]
    with _asked(bucket, "rules of deletion"):
        storage.set_bucket_lifecycle(bucket, LifecycleConfig([*kept, _rule(rule)]))
    now = lifecycle(storage, bucket)
    if rule not in now:
        raise StorageError(
            f"{bucket}: the server took the rule and did not keep all of it.",
            f"See what it kept: minio-client lifecycle {bucket}.",
        )
    return now


def clear_lifecycle(storage: Minio, bucket: str) -> None:
    """Remove all rules of deletion.

    Raises:
        StorageError: no such bucket, or the server has no such rules.
    """
    # A server without rules may read this request as one that deletes the bucket: it is sent only where there are some.
    if _rules(storage, bucket):
        with _asked(bucket, "rules of deletion"):
            storage.delete_bucket_lifecycle(bucket)


def _rules(storage: Minio, bucket: str) -> list[Rule]:
    with _asked(bucket, "rules of deletion"):
        if not storage.bucket_exists(bucket):
            raise StorageError(f"There is no bucket {bucket}.", f"Make it: minio-client make-buckets {bucket}.")
        found = storage.get_bucket_lifecycle(bucket)
        return list(found.rules) if found else []


def _rule(rule: DeletionRule) -> Rule:
    uploads, expire, noncurrent = rule.abort_uploads_days, rule.expire_days, rule.noncurrent_days
    return Rule(
        ENABLED,
        rule_filter=Filter(prefix=rule.prefix),
        rule_id=f"{_OURS}{rule.prefix}",
        abort_incomplete_multipart_upload=AbortIncompleteMultipartUpload(uploads) if uploads else None,
        expiration=Expiration(days=expire) if expire else None,
        noncurrent_version_expiration=NoncurrentVersionExpiration(noncurrent) if noncurrent else None,
    )


def _described(rule: Rule) -> DeletionRule:
    expiration, noncurrent = rule.expiration, rule.noncurrent_version_expiration
    uploads = rule.abort_incomplete_multipart_upload
    return DeletionRule(
        prefix=(rule.rule_filter.prefix if rule.rule_filter else None) or "",
        expire_days=expiration.days if expiration else None,
        noncurrent_days=noncurrent.noncurrent_days if noncurrent else None,
        abort_uploads_days=uploads.days_after_initiation if uploads else None,
        foreign=not (rule.rule_id or "").startswith(_OURS),
    )


@contextlib.contextmanager
def _asked(bucket: str, what: str) -> Iterator[None]:
    try:
        with explained(f"{bucket}: {what}"):
            yield
    except StorageError as error:
        if isinstance(error.__cause__, S3Error) and error.__cause__.code in _UNSUPPORTED:
            raise _unsupported(bucket, what) from error
        if isinstance(error.__cause__, S3Error) and error.__cause__.code == "MalformedXML":
            raise StorageError(
                f"{bucket}: this server does not take such {what}.",
                "MinIO takes --abort-uploads beside another time only; it removes unfinished uploads by itself.",
            ) from error
        raise


def _unsupported(bucket: str, what: str) -> StorageError:
    return StorageError(
        f"{bucket}: this server has no {what}.", "MinIO has; docs/object-storage.md names what others lack."
    )
