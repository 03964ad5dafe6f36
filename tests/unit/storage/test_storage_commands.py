"""What people write on the command line of `minio-client`: versions, durations and addresses."""

from __future__ import annotations

from datetime import timedelta

import pytest
from minio import Minio

from minio_client import Connection, Location, StorageError, connect, presign
from minio_client.datasets import Reference
from minio_client.durations import parse_days, parse_duration


@pytest.fixture
def storage() -> Minio:
    return connect(Connection("https://storage.example:9000", "reader", "not-a-real-secret"))


@pytest.mark.parametrize(
    ("text", "name", "which"),
    [
        ("cwru", "cwru", "latest"),
        ("cwru@latest", "cwru", "latest"),
        ("line-2.outflow@3f9a1c", "line-2.outflow", "3f9a1c"),
        ("a@" + "0" * 64, "a", "0" * 64),
    ],
)
def test_reference_is_a_name_and_a_version(text: str, name: str, which: str) -> None:
    assert Reference.parse(text) == Reference(name, which)


@pytest.mark.parametrize("text", ["cwru@", "cwru@3f9a1", "cwru@LATEST", "cwru@3F9A1C", "cwru@" + "0" * 65, "cwru@a@b"])
def test_what_names_no_version_is_refused(text: str) -> None:
    with pytest.raises(StorageError, match="names no version"):
        Reference.parse(text)


@pytest.mark.parametrize("name", ["", "blobs", "Cwru", "a/b", "..", "-a", "a-", "a b", "é", "a" * 64])
def test_name_that_no_data_set_may_have_is_refused(name: str) -> None:
    with pytest.raises(StorageError, match="is no name of a data set"):
        Reference.parse(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", timedelta(seconds=90)),
        ("5m", timedelta(minutes=5)),
        ("12h", timedelta(hours=12)),
        ("30d", timedelta(days=30)),
        ("4w", timedelta(weeks=4)),
    ],
)
def test_duration_is_a_number_with_its_unit(text: str, expected: timedelta) -> None:
    assert parse_duration(text, "--expires") == expected


@pytest.mark.parametrize("text", ["", "30", "d", "0d", "-1d", "1.5h", "1 d", "1y", "9999999999s"])
def test_what_is_no_duration_is_refused_with_the_options_name(text: str) -> None:
    with pytest.raises(StorageError, match=r"--expires is .* no duration"):
        parse_duration(text, "--expires")


def test_days_are_whole() -> None:
    assert (parse_days("2w", "--expire-after"), parse_days("48h", "--expire-after")) == (14, 2)
    with pytest.raises(StorageError, match="whole days"):
        parse_days("36h", "--expire-after")


def test_link_names_its_object_and_its_time_and_no_secret(storage: Minio) -> None:
    link = presign(storage, Location("evidence", "line-2/día.jpg"), expires=timedelta(hours=12))
    assert link.startswith("https://storage.example:9000/evidence/line-2/d%C3%ADa.jpg?")
    assert "X-Amz-Expires=43200" in link
    assert "not-a-real-secret" not in link


@pytest.mark.parametrize("expires", [timedelta(), timedelta(days=7, seconds=1)])
def test_link_for_longer_than_a_signature_lasts_is_refused(storage: Minio, expires: timedelta) -> None:
    with pytest.raises(StorageError, match="1 s to 7 days"):
        presign(storage, Location("evidence", "a"), expires=expires)


@pytest.mark.parametrize("key", ["", "folder/"])
def test_link_to_no_object_is_refused(storage: Minio, key: str) -> None:
    with pytest.raises(StorageError, match="names no object"):
        presign(storage, Location("evidence", key))


def test_endpoint_with_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(StorageError, match=r"MINIO_ENDPOINT.* holds") as raised:
        connect(Connection("http://admin:hunter22@minio:9000", "reader", "secret"))
    assert "hunter22" not in str(raised.value)
