"""Every object travels through the tar with its key, content and metadata, whatever the key looks like."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from almenara.backup import buckets
from almenara.backup.streams import names_in
from almenara.errors import InputError
from minio_client import Connection, connect
from tests.support.object_storage import object_storage

pytestmark = pytest.mark.slow

LARGE = os.urandom(17 * 2**20)
OBJECTS: dict[str, dict[str, bytes]] = {
    "datasets": {
        "línea 2/été +%&=.csv": b"a,b\n",
        "empty": b"",
        "x" * 200 + "/" + "y" * 200: b"a long key",
    },
    "mlflow": {"7/run/artifacts/model.onnx": LARGE},
    "nothing": {},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    with object_storage(tmp_path_factory.mktemp("storage")) as connection:
        yield connection


@pytest.fixture
def storage(server: Connection) -> Iterator[Any]:
    """A client; all buckets are gone at the end."""
    client = connect(server)
    yield client
    for bucket in client.list_buckets():
        for item in client.list_objects(bucket.name, recursive=True):
            client.remove_object(bucket.name, item.object_name)
        client.remove_bucket(bucket.name)


def fill(storage: Any) -> dict[str, dict[str, bytes]]:
    for bucket, objects in OBJECTS.items():
        storage.make_bucket(bucket)
        for key, content in objects.items():
            storage.put_object(
                bucket, key, io.BytesIO(content), len(content), "text/csv", metadata={"sha": f"{len(content)}"}
            )
    return OBJECTS


def backed_up(storage: Any) -> io.BytesIO:
    sink = io.BytesIO()
    buckets.write_objects(storage, sink)
    return io.BytesIO(sink.getvalue())


def content_of(storage: Any) -> dict[str, dict[str, bytes]]:
    return {
        bucket.name: {
            item.object_name: storage.get_object(bucket.name, item.object_name).data
            for item in storage.list_objects(bucket.name, recursive=True)
        }
        for bucket in storage.list_buckets()
    }


def clear(storage: Any) -> None:
    buckets.remove_others(storage, {})
    for bucket in storage.list_buckets():
        storage.remove_bucket(bucket.name)


def no_warning(what: str) -> None:
    raise AssertionError(what)


def test_buckets_and_objects_come_back_as_they_were(storage: Any) -> None:
    before = fill(storage)
    tar = backed_up(storage)
    clear(storage)
    assert buckets.put_objects(storage, tar, no_warning) == sum(map(len, before.values()))
    assert content_of(storage) == before


def test_metadata_come_back(storage: Any) -> None:
    fill(storage)
    tar = backed_up(storage)
    clear(storage)
    buckets.put_objects(storage, tar, no_warning)
    found = storage.stat_object("datasets", "línea 2/été +%&=.csv")
    assert found.content_type == "text/csv"
    assert {name.lower(): value for name, value in found.metadata.items()}["x-amz-meta-sha"] == "4"


def test_objects_that_the_backup_does_not_have_are_removed(storage: Any) -> None:
    before = fill(storage)
    tar = backed_up(storage)
    storage.put_object("datasets", "later", io.BytesIO(b"x"), 1)
    assert buckets.remove_others(storage, names_in(tar)) == 1
    assert content_of(storage) == before


def test_survey_counts_objects_and_bytes(storage: Any) -> None:
    fill(storage)
    found = buckets.survey(storage)
    assert found["mlflow"] == (1, len(LARGE))
    assert found["nothing"] == (0, 0)


def test_putting_again_what_was_put_in_part_ends_with_all_of_it(storage: Any) -> None:
    before = fill(storage)
    tar = backed_up(storage)
    storage.remove_object("mlflow", "7/run/artifacts/model.onnx")
    buckets.put_objects(storage, tar, no_warning)
    assert content_of(storage) == before


def test_a_tar_of_something_else_is_refused(storage: Any) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("notes.txt"), io.BytesIO())
    with pytest.raises(InputError, match="names no bucket"):
        buckets.put_objects(storage, io.BytesIO(sink.getvalue()), no_warning)
