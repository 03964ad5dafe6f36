"""Links that let their holder fetch or write one object without a key of their own."""

from __future__ import annotations

from datetime import timedelta

from minio import Minio

from minio_client.errors import StorageError, explained
from minio_client.transfer import Location

LONGEST = timedelta(days=7)
"""What the signature allows at most."""


def presign(storage: Minio, target: Location, *, expires: timedelta = timedelta(hours=1), write: bool = False) -> str:
    """A link to one object; nothing is sent, and whether the object exists is not asked.

    The signature covers the host: the link works only under the address that the client was made with.

    Args:
        storage: client.
        target: bucket and key.
        expires: how long the link works, from 1 s to 7 days.
        write: for an upload with PUT instead of a download with GET.

    Raises:
        StorageError: no key, or a time that the signature does not allow.
    """
    if not target.prefix or target.prefix.endswith("/"):
        raise StorageError(f"{target} names no object.", "Write BUCKET/KEY.")
    if not timedelta(seconds=1) <= expires <= LONGEST:
        raise StorageError("A link works for 1 s to 7 days.", "Write for example --expires 12h.")
    with explained(f"A link to {target} cannot be made"):
        link: str = storage.get_presigned_url("PUT" if write else "GET", target.bucket, target.prefix, expires=expires)
        return link
