"""Where the storage is and who asks: read from the environment, never from the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import certifi
import urllib3
from minio import Minio

from minio_client.errors import StorageError, explained


@dataclass(frozen=True)
class Connection:
    """Address and credentials of an S3 server.

    Attributes:
        endpoint: ``http://host:port`` or ``https://host``.
        access_key: user name of the key.
        secret_key: its secret; not shown when the connection is printed.
        bucket: bucket that is meant when none is named.
        region: what the server calls its region.
    """

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    bucket: str | None = None
    region: str = "us-east-1"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Connection:
        """Read MINIO_ENDPOINT, MINIO_ACCESS_KEY, MINIO_SECRET_KEY, MINIO_BUCKET_NAME and MINIO_REGION.

        Raises:
            StorageError: one of the first three is missing.
        """
        values = os.environ if environment is None else environment
        required = ("MINIO_ENDPOINT", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY")
        missing = [name for name in required if not values.get(name)]
        if missing:
            raise StorageError(
                f"Not set in the environment: {', '.join(missing)}.",
                "Set them, for example with: set -a; . ./.env; set +a",
            )
        endpoint, access_key, secret_key = (values[name] for name in required)
        region = values.get("MINIO_REGION") or "us-east-1"
        return cls(endpoint, access_key, secret_key, values.get("MINIO_BUCKET_NAME") or None, region)


def connect(
    connection: Connection, *, connect_seconds: float = 5.0, read_seconds: float = 30.0, retries: int = 2
) -> Minio:
    """A client for the connection; nothing is sent yet.

    Args:
        connection: address and credentials.
        connect_seconds: longest time of one attempt to connect.
        read_seconds: longest time without a byte of an answer.
        retries: of a request that got no answer, or that the server could not serve.

    Raises:
        StorageError: the endpoint is no http(s) address, or holds a password.
    """
    address = urlsplit(connection.endpoint)
    if "@" in address.netloc:
        raise StorageError(
            "The address of the object storage (MINIO_ENDPOINT) holds a user name or a password.",
            "Give them as MINIO_ACCESS_KEY and MINIO_SECRET_KEY.",
        )
    if address.scheme not in {"http", "https"} or not address.netloc or address.path not in {"", "/"}:
        raise StorageError(
            f"The address of the object storage (MINIO_ENDPOINT) is {connection.endpoint!r}.",
            "Write http://HOST:PORT or https://HOST.",
        )
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=connect_seconds, read=read_seconds),
        maxsize=16,
        cert_reqs="CERT_REQUIRED",
        ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
        retries=urllib3.Retry(
            total=retries, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504], raise_on_status=False
        ),
    )
    with explained("MINIO_ENDPOINT"):
        return Minio(
            address.netloc,
            access_key=connection.access_key,
            secret_key=connection.secret_key,
            secure=address.scheme == "https",
            region=connection.region,
            http_client=pool,
        )
