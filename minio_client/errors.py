"""The one error of this package, and the translation of everything that storage can answer into it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import urllib3
from minio.error import InvalidResponseError, S3Error, ServerError

_REMEDIES = {
    "AccessDenied": "Give the key a policy that allows this, or use another key.",
    "InvalidAccessKeyId": "Check MINIO_ACCESS_KEY.",
    "NoSuchBucket": "Make it: minio-client make-buckets NAME.",
    "NoSuchKey": "See what there is: minio-client ls BUCKET.",
    "RequestTimeTooSkewed": "Set this machine's clock.",
    "SignatureDoesNotMatch": "Check MINIO_SECRET_KEY.",
    "XAdminUserNotFound": "Check MINIO_ACCESS_KEY.",  # versitygw
}


class StorageError(Exception):
    """Object storage, a credential or a path stands in the way.

    Attributes:
        fact: what is wrong, one sentence.
        remedy: what to do about it; may be empty.
    """

    def __init__(self, fact: str, remedy: str = "") -> None:
        super().__init__(f"{fact} {remedy}".strip())
        self.fact = fact
        self.remedy = remedy


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what storage answers while doing ``what`` into a `StorageError`."""
    try:
        yield
    except S3Error as error:
        remedy = _REMEDIES.get(error.code or "", "")
        raise StorageError(f"{what}: {error.message or error.code} ({error.code}).", remedy) from error
    except (urllib3.exceptions.HTTPError, ServerError, InvalidResponseError) as error:
        raise StorageError(
            f"{what}: object storage does not answer as it should ({_innermost(error)}).",
            "Check MINIO_ENDPOINT and that the server runs.",
        ) from error
    except ValueError as error:
        raise StorageError(f"{what}: {error}.") from error
    except OSError as error:
        raise StorageError(f"{what}: {error.strerror or error} ({error.filename or 'network'}).") from error


def _innermost(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason if reason is not None else error)
