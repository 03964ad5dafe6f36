"""The object storage of evidence, of backups and of the doctor: one client, whose requests always end."""

from __future__ import annotations

import os
from collections.abc import Mapping

from minio import Minio

from almenara.errors import ConfigurationError
from minio_client import Connection, StorageError, connect


def object_storage(
    endpoint: str | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    connect_seconds: float = 2.0,
    read_seconds: float = 10.0,
    retries: int = 1,
) -> Minio:
    """A client with the keys MINIO_ACCESS_KEY and MINIO_SECRET_KEY; nothing is sent yet.

    Args:
        endpoint: ``http://host:port`` or ``https://host``; by default MINIO_ENDPOINT.
        environment: where the variables are; by default that of the process.
        connect_seconds: longest time of one attempt to connect.
        read_seconds: longest time without a byte of an answer.
        retries: of a request that got no answer, or that the server could not serve.

    Raises:
        ConfigurationError: a variable is missing, or the endpoint is malformed.
    """
    values = dict(os.environ if environment is None else environment)
    if endpoint is not None:
        values["MINIO_ENDPOINT"] = endpoint
    try:
        connection = Connection.from_environment(values)
        return connect(connection, connect_seconds=connect_seconds, read_seconds=read_seconds, retries=retries)
    except StorageError as error:
        raise ConfigurationError(error.fact, error.remedy) from error
