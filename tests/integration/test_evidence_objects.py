"""Evidence in real object storage: saved at once, moved when the storage answers, lost never."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from minio import Minio

from almenara.alarms.config import EvidencePart
from almenara.errors import ConfigurationError
from almenara.evidence import EvidenceStore, LocalEvidence, Retention, open_evidence
from almenara.evidence.base import MOST_BYTES
from almenara.evidence.objects import ObjectEvidence
from almenara.processes import free_port
from minio_client import Connection, connect
from tests.support.camera import wait_for
from tests.support.object_storage import object_storage

pytestmark = pytest.mark.slow

URL = "s3://evidence/plant"
FILES = {"frame.jpg": b"frame", "verdict.json": b"{}"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    with object_storage(tmp_path_factory.mktemp("storage")) as connection:
        yield connection


@pytest.fixture
def bucket(server: Connection, monkeypatch: pytest.MonkeyPatch) -> Iterator[Minio]:
    keys(server, monkeypatch)
    client = connect(server)
    client.make_bucket("evidence")
    yield client
    for item in client.list_objects("evidence", recursive=True):
        client.remove_object("evidence", item.object_name)
    client.remove_bucket("evidence")


def keys(server: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIO_ACCESS_KEY", server.access_key)
    monkeypatch.setenv("MINIO_SECRET_KEY", server.secret_key)


def opened(server: Connection, folder: Path, owner: str = "worker-1") -> ObjectEvidence:
    return ObjectEvidence(URL, folder / "outgoing", owner=owner, endpoint=server.endpoint)


def objects(bucket: Minio) -> set[str]:
    return {item.object_name for item in bucket.list_objects("evidence", recursive=True)}


def test_saved_evidence_is_readable_before_and_after_it_was_moved(
    server: Connection, bucket: Minio, tmp_path: Path
) -> None:
    store = opened(server, tmp_path)
    saved = store.save("outflow", FILES)
    assert [store.read(file) for file in saved] == list(FILES.values())
    assert objects(bucket) == set()
    assert store.upload() == ""
    assert {f"s3://evidence/{name}" for name in objects(bucket)} == {file.uri for file in saved}
    assert not [path for path in (tmp_path / "outgoing").rglob("*") if path.is_file()]
    assert [store.read(file) for file in saved] == list(FILES.values())


def test_the_same_name_twice_does_not_overwrite(server: Connection, bucket: Minio, tmp_path: Path) -> None:
    store = opened(server, tmp_path)
    first, second = (store.save("outflow", {"frame.jpg": content})[0] for content in (b"one", b"two"))
    store.upload()
    assert (store.read(first), store.read(second)) == (b"one", b"two")


def test_a_file_is_replaced_after_it_was_moved(server: Connection, bucket: Minio, tmp_path: Path) -> None:
    store = opened(server, tmp_path)
    (early,) = store.save("outflow", {"strip.jpg": b"early"})
    store.upload()
    whole = store.replace(early, b"whole")
    assert (whole.name, store.read(whole)) == ("strip.jpg", b"whole")
    store.upload()
    assert (store.read(early), store.read(whole)) == (b"early", b"whole")
    assert len(store.stored()) == 1


def test_storage_that_is_away_delays_no_alarm_and_gets_all_of_it_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIO_ACCESS_KEY", "almenara-test")
    monkeypatch.setenv("MINIO_SECRET_KEY", "almenara-test-secret")
    away = ObjectEvidence(URL, tmp_path / "outgoing", owner="worker-1", endpoint=f"http://127.0.0.1:{free_port()}")
    began = time.monotonic()
    saved = [away.save("outflow", {"frame.jpg": bytes([number])})[0] for number in range(5)]
    assert time.monotonic() - began < 2
    assert away.upload()
    assert [away.read(file) for file in saved] == [bytes([number]) for number in range(5)]
    (tmp_path / "server").mkdir()
    with object_storage(tmp_path / "server") as server:
        connect(server).make_bucket("evidence")
        restarted = opened(server, tmp_path)
        assert restarted.upload() == ""
        assert [restarted.read(file) for file in saved] == [bytes([number]) for number in range(5)]


def test_what_is_neither_here_nor_there_is_an_oserror(server: Connection, bucket: Minio, tmp_path: Path) -> None:
    store = opened(server, tmp_path)
    (file,) = store.save("outflow", {"frame.jpg": b"frame"})
    store.upload()
    (found,) = store.stored()
    store.delete(found)
    store.delete(found)
    assert objects(bucket) == set()
    with pytest.raises(FileNotFoundError):
        store.read(file)


def test_an_object_that_was_changed_is_not_read(server: Connection, bucket: Minio, tmp_path: Path) -> None:
    store = opened(server, tmp_path)
    (file,) = store.save("outflow", {"frame.jpg": b"frame"})
    (other,) = store.save("outflow", {"frame.jpg": b"other"})
    store.upload()
    with pytest.raises(OSError, match="SHA-256 differs"):
        store.read(file.model_copy(update={"uri": other.uri}))


@pytest.mark.parametrize("uri", ["s3://other/plant/worker-1/a/frame.jpg", "s3://evidence/secret", "/etc/passwd"])
def test_objects_elsewhere_are_not_read(server: Connection, bucket: Minio, tmp_path: Path, uri: str) -> None:
    store = opened(server, tmp_path)
    (file,) = store.save("outflow", {"frame.jpg": b"frame"})
    with pytest.raises(FileNotFoundError, match="not in this evidence store"):
        store.read(file.model_copy(update={"uri": uri}))


def test_stores_that_share_a_bucket_read_each_other_and_remove_their_own(
    server: Connection, bucket: Minio, tmp_path: Path
) -> None:
    one, other = opened(server, tmp_path / "1", "worker-1"), opened(server, tmp_path / "2", "worker-2")
    (mine,) = one.save("outflow", {"frame.jpg": b"mine"})
    (theirs,) = other.save("outflow", {"frame.jpg": b"theirs"})
    one.upload()
    other.upload()
    assert (one.read(theirs), other.read(mine)) == (b"theirs", b"mine")
    retention = Retention(one, keep_seconds=None, at_most_bytes=0, needed=set)
    retention.sweep(time.time() + 3600)
    assert (retention.removed, retention.removed_bytes) == (1, 4)
    assert other.read(theirs) == b"theirs"
    assert one.stored() == []


def test_evidence_of_a_standing_alarm_stays_in_the_bucket(server: Connection, bucket: Minio, tmp_path: Path) -> None:
    store = opened(server, tmp_path)
    (standing,), (old,) = (store.save("outflow", {"frame.jpg": content}) for content in (b"standing", b"old"))
    store.upload()
    Retention(store, keep_seconds=1, at_most_bytes=0, needed=lambda: {standing.uri}).sweep(time.time() + 3600)
    assert store.read(standing) == b"standing"
    with pytest.raises(FileNotFoundError):
        store.read(old)


def test_a_bucket_that_is_missing_is_told_and_evidence_waits(
    server: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys(server, monkeypatch)
    store = ObjectEvidence("s3://missing", tmp_path, owner="worker-1", endpoint=server.endpoint)
    (file,) = store.save("outflow", {"frame.jpg": b"frame"})
    assert "NoSuchBucket" in store.upload()
    assert store.read(file) == b"frame"


def test_the_configured_store_moves_evidence_by_itself(server: Connection, bucket: Minio, tmp_path: Path) -> None:
    part = EvidencePart(url=URL, endpoint=server.endpoint)
    before = set(threading.enumerate())
    store: EvidenceStore = open_evidence(part, tmp_path, origin="worker-1")
    assert set(threading.enumerate()) == before
    store.start()
    [thread] = set(threading.enumerate()) - before
    store.save("outflow", FILES)
    wait_for(lambda: len(objects(bucket)) == 2, 10, "the evidence in the bucket")
    assert all(name.startswith("plant/worker-1/outflow-") for name in objects(bucket))
    store.close()
    thread.join(10)
    assert not thread.is_alive()


def test_an_outage_is_logged_once_and_so_is_its_end(
    server: Connection, bucket: Minio, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = ObjectEvidence("s3://later", tmp_path, owner="worker-1", endpoint=server.endpoint)
    store.save("outflow", FILES)
    with caplog.at_level(logging.INFO):
        store.start()
        wait_for(lambda: "the bucket later does not take it" in caplog.text, 10, "the warning")
        bucket.make_bucket("later")
        wait_for(lambda: "The bucket later has all the evidence that waited." in caplog.text, 10, "the end")
    store.close()
    assert len(list(bucket.list_objects("later", recursive=True))) == 2
    assert caplog.text.count("does not take it") == 1


def test_a_record_that_claims_too_large_an_object_is_refused(server: Connection, bucket: Minio, tmp_path: Path) -> None:
    store = opened(server, tmp_path)
    (file,) = store.save("outflow", {"frame.jpg": b"frame"})
    with pytest.raises(OSError, match="too large"):
        store.read(file.model_copy(update={"size": MOST_BYTES + 1}))


def test_without_an_address_evidence_stays_in_the_folder(tmp_path: Path) -> None:
    worker = open_evidence(EvidencePart(), tmp_path, origin="worker-1")
    record = open_evidence(EvidencePart(), tmp_path)
    assert isinstance(worker, LocalEvidence)
    (frame,) = worker.save("outflow", {"frame.jpg": b"frame"})
    assert record.read(frame) == b"frame"
    assert record.stored() == []


@pytest.mark.parametrize("name", ["MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"])
def test_a_missing_key_is_a_configuration_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIO_ACCESS_KEY", "someone")
    monkeypatch.setenv("MINIO_SECRET_KEY", "something")
    monkeypatch.delenv(name)
    with pytest.raises(ConfigurationError, match=f"Not set in the environment: {name}"):
        ObjectEvidence(URL, tmp_path, owner="worker-1")


@pytest.mark.parametrize(
    ("url", "endpoint"), [("http://evidence", None), ("s3:///plant", None), (URL, "minio:9000"), (URL, "http://m/path")]
)
def test_a_malformed_address_is_a_configuration_error(
    url: str, endpoint: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIO_ACCESS_KEY", "someone")
    monkeypatch.setenv("MINIO_SECRET_KEY", "something")
    with pytest.raises(ConfigurationError, match="Write "):
        ObjectEvidence(url, tmp_path, owner="worker-1", endpoint=endpoint)
