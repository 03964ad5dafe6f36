"""The client that evidence, backups and the doctor share."""

from __future__ import annotations

import time

import pytest
import urllib3

from almenara.errors import ConfigurationError
from almenara.object_storage import object_storage
from almenara.processes import free_port

KEYS = {"MINIO_ACCESS_KEY": "reader", "MINIO_SECRET_KEY": "not-a-real-secret"}


def test_missing_variables_are_named() -> None:
    with pytest.raises(ConfigurationError, match="MINIO_ACCESS_KEY, MINIO_SECRET_KEY"):
        object_storage("http://127.0.0.1:1", {})
    with pytest.raises(ConfigurationError, match="MINIO_ENDPOINT"):
        object_storage(environment=KEYS)


@pytest.mark.parametrize("endpoint", ["minio:9000", "http://minio:9000/path", "ftp://minio"])
def test_malformed_endpoint_is_shown_with_what_to_write(endpoint: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Write http://HOST:PORT") as raised:
        object_storage(endpoint, KEYS)
    assert endpoint in raised.value.fact


def test_password_in_the_endpoint_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as raised:
        object_storage("http://admin:hunter22@minio:9000", KEYS)
    assert "hunter22" not in str(raised.value)


def test_storage_that_is_away_is_given_up_soon() -> None:
    storage = object_storage(f"http://127.0.0.1:{free_port()}", KEYS)
    began = time.monotonic()
    with pytest.raises(urllib3.exceptions.HTTPError):
        storage.bucket_exists("evidence")
    assert time.monotonic() - began < 5
