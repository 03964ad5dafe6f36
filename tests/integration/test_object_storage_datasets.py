"""Data sets against a real S3 server: what is sent, what comes back, and what never happens to good files."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from minio import Minio

from almenara.vision.images import encode_png, fingerprint, load_folder
from minio_client import Connection, StorageError, connect, make_buckets
from minio_client.checksum import MIB, PART_SIZE
from minio_client.datasets import Reference, list_datasets, list_versions, load_manifest, pull, push
from minio_client.datasets.catalogue import blob_key
from minio_client.datasets.manifest import WORK_FOLDER
from tests.support.object_storage import object_storage

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    with object_storage(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def storage(connection: Connection) -> Minio:
    return connect(connection)


@pytest.fixture
def bucket(storage: Minio, request: pytest.FixtureRequest) -> str:
    name = "data-" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    make_buckets(storage, [name])
    return name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four files in two folders: one empty, two with the same content, one with a name that URLs must escape."""
    root = tmp_path / "recordings"
    (root / "día 2").mkdir(parents=True)
    (root / "97.npz").write_bytes(os.urandom(50_000))
    (root / "copy.npz").write_bytes((root / "97.npz").read_bytes())
    (root / "manifest.csv").write_bytes(b"")
    (root / "día 2" / "a+b c.npz").write_bytes(os.urandom(1000))
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def keys(storage: Minio, bucket: str) -> set[str]:
    return {found.object_name for found in storage.list_objects(bucket, recursive=True)}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Failing:
    """A client whose calls of one name fail, after some that do not."""

    def __init__(self, storage: Minio, name: str, after: int) -> None:
        self._storage, self._name, self._left = storage, name, after

    def __getattr__(self, name: str) -> Any:
        if name == self._name:
            self._left -= 1
            if self._left < 0:
                raise ConnectionResetError(104, "the network is gone")
        return getattr(self._storage, name)


def test_folder_comes_back_as_it_was(storage: Minio, bucket: str, folder: Path, tmp_path: Path) -> None:
    sent = push(storage, folder, "cwru", bucket=bucket)
    assert (sent.files, sent.size, sent.sent, sent.sent_size, sent.new) == (4, 101_000, 3, 51_000, True)
    back = pull(storage, Reference("cwru"), tmp_path / "back", bucket=bucket)
    assert (back.version, back.fetched, back.fetched_size, back.others) == (sent.version, 4, 101_000, ())
    assert contents(tmp_path / "back") == contents(folder)


def test_same_contents_are_the_same_version_and_sent_once(storage: Minio, bucket: str, folder: Path) -> None:
    first = push(storage, folder, "cwru", bucket=bucket)
    there = keys(storage, bucket)
    again = push(storage, folder, "cwru", bucket=bucket)
    assert (again.version, again.sent, again.new) == (first.version, 0, False)
    assert keys(storage, bucket) == there


def test_contents_are_shared_between_versions_and_data_sets(storage: Minio, bucket: str, folder: Path) -> None:
    push(storage, folder, "cwru", bucket=bucket)
    (folder / "new.npz").write_bytes(b"one more")
    assert push(storage, folder, "cwru", bucket=bucket).sent == 1
    assert push(storage, folder, "other", bucket=bucket).sent == 0


def test_interrupted_push_is_invisible_and_goes_on(storage: Minio, bucket: str, folder: Path) -> None:
    broken: Any = Failing(storage, "put_object", after=2)
    with pytest.raises(StorageError, match="the network is gone"):
        push(broken, folder, "cwru", bucket=bucket, jobs=1)
    assert list_datasets(storage, bucket) == []
    assert len(keys(storage, bucket)) == 2
    assert push(storage, folder, "cwru", bucket=bucket).sent == 1


@pytest.mark.parametrize("changed", [b"other bytes of the same size", b"shorter"])
def test_file_that_changes_while_it_is_sent_never_gets_under_its_old_hash(
    storage: Minio, bucket: str, tmp_path: Path, changed: bytes
) -> None:
    file = tmp_path / "set" / "a.npz"
    file.parent.mkdir()
    original = b"these bytes were hashed then"
    file.write_bytes(original)

    def change(name: str, done: int, total: int) -> None:
        if name == "read a.npz":
            file.write_bytes(changed)

    with pytest.raises(StorageError, match="changed while it was sent"):
        push(storage, file.parent, "live", bucket=bucket, progress=change)
    assert keys(storage, bucket) == set()


def test_content_that_was_damaged_in_storage_is_sent_again(
    storage: Minio, bucket: str, folder: Path, tmp_path: Path
) -> None:
    push(storage, folder, "cwru", bucket=bucket)
    key = blob_key(digest((folder / "97.npz").read_bytes()))
    storage.put_object(bucket, key, io.BytesIO(bytes(50_000)), 50_000)
    with pytest.raises(StorageError, match="arrived damaged"):
        pull(storage, Reference("cwru"), tmp_path / "back", bucket=bucket)
    assert not (tmp_path / "back" / "97.npz").exists()
    assert push(storage, folder, "cwru", bucket=bucket).sent == 1
    pull(storage, Reference("cwru"), tmp_path / "back", bucket=bucket)
    assert contents(tmp_path / "back") == contents(folder)


def test_file_of_several_parts_is_sent_once_and_fetched(storage: Minio, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "big.bin").write_bytes(os.urandom(PART_SIZE + 3 * MIB))
    assert push(storage, tmp_path / "set", "big", bucket=bucket).sent == 1
    assert push(storage, tmp_path / "set", "big", bucket=bucket).sent == 0
    pull(storage, Reference("big"), tmp_path / "back", bucket=bucket)
    assert contents(tmp_path / "back") == contents(tmp_path / "set")


def test_interrupted_pull_goes_on_where_it_ended(storage: Minio, bucket: str, tmp_path: Path) -> None:
    content = os.urandom(3 * MIB)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.bin").write_bytes(content)
    push(storage, tmp_path / "set", "big", bucket=bucket)
    part = tmp_path / "back" / WORK_FOLDER / f"{digest(content)}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(content[: 2 * MIB])
    done: list[int] = []

    def note(name: str, now: int, total: int) -> None:
        if name.startswith("fetch"):
            done.append(now)

    pull(storage, Reference("big"), tmp_path / "back", bucket=bucket, progress=note)
    assert (done[0], done[-1]) == (2 * MIB, 3 * MIB)
    assert contents(tmp_path / "back") == {"a.bin": content}


def test_part_with_wrong_bytes_is_noticed_and_fetched_anew(
    storage: Minio, bucket: str, folder: Path, tmp_path: Path
) -> None:
    push(storage, folder, "cwru", bucket=bucket)
    part = tmp_path / "back" / WORK_FOLDER / f"{digest((folder / '97.npz').read_bytes())}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"not what was sent")
    with pytest.raises(StorageError, match="arrived damaged"):
        pull(storage, Reference("cwru"), tmp_path / "back", bucket=bucket)
    pull(storage, Reference("cwru"), tmp_path / "back", bucket=bucket)
    assert contents(tmp_path / "back") == contents(folder)


def test_local_file_that_differs_stops_the_pull_before_anything_is_written(
    storage: Minio, bucket: str, folder: Path, tmp_path: Path
) -> None:
    push(storage, folder, "cwru", bucket=bucket)
    back = tmp_path / "back"
    back.mkdir()
    (back / "97.npz").write_bytes(b"work of a week")
    with pytest.raises(StorageError, match=r"1 files .* 97\.npz.*--force"):
        pull(storage, Reference("cwru"), back, bucket=bucket)
    assert contents(back) == {"97.npz": b"work of a week"}
    pull(storage, Reference("cwru"), back, bucket=bucket, force=True)
    assert contents(back) == contents(folder)


def test_file_that_appears_during_a_pull_is_left_alone(
    storage: Minio, bucket: str, folder: Path, tmp_path: Path
) -> None:
    push(storage, folder, "cwru", bucket=bucket)
    mine = tmp_path / "back" / "manifest.csv"

    def save(name: str, done: int, total: int) -> None:
        if name.startswith("fetch") and not mine.exists():
            mine.write_bytes(b"saved meanwhile")

    with pytest.raises(StorageError, match="appeared during the pull"):
        pull(storage, Reference("cwru"), tmp_path / "back", bucket=bucket, progress=save)
    assert mine.read_bytes() == b"saved meanwhile"


def test_files_that_are_no_part_of_the_version_are_kept_and_named(
    storage: Minio, bucket: str, folder: Path, tmp_path: Path
) -> None:
    push(storage, folder, "cwru", bucket=bucket)
    back = tmp_path / "back"
    back.mkdir()
    (back / "mine.txt").write_bytes(b"notes")
    assert pull(storage, Reference("cwru"), back, bucket=bucket, force=True).others == ("mine.txt",)
    again = pull(storage, Reference("cwru"), back, bucket=bucket)
    assert (again.fetched, again.unchanged) == (0, 4)
    assert (back / "mine.txt").read_bytes() == b"notes"


def a_link_to_a_folder(back: Path, outside: Path) -> None:
    (back / "día 2").symlink_to(outside, target_is_directory=True)


def a_link_for_what_is_on_its_way(back: Path, outside: Path) -> None:
    (back / WORK_FOLDER).symlink_to(outside, target_is_directory=True)


def a_file_where_a_folder_goes(back: Path, outside: Path) -> None:
    (back / "día 2").write_bytes(b"mine")


def a_folder_where_a_file_goes(back: Path, outside: Path) -> None:
    (back / "97.npz").mkdir()


@pytest.mark.parametrize(
    "prepare",
    [a_link_to_a_folder, a_link_for_what_is_on_its_way, a_file_where_a_folder_goes, a_folder_where_a_file_goes],
)
def test_pull_writes_through_no_link_and_over_no_other_kind(
    storage: Minio, bucket: str, folder: Path, tmp_path: Path, prepare: Callable[[Path, Path], None]
) -> None:
    push(storage, folder, "cwru", bucket=bucket)
    outside, back = tmp_path / "outside", tmp_path / "back"
    outside.mkdir()
    back.mkdir()
    prepare(back, outside)
    before = {path.relative_to(back) for path in back.rglob("*")}
    with pytest.raises(StorageError):
        pull(storage, Reference("cwru"), back, bucket=bucket, force=True)
    assert list(outside.iterdir()) == []
    assert {path.relative_to(back) for path in back.rglob("*")} == before


def test_forced_pull_replaces_a_link_and_not_what_it_leads_to(
    storage: Minio, bucket: str, folder: Path, tmp_path: Path
) -> None:
    push(storage, folder, "cwru", bucket=bucket)
    (tmp_path / "original").write_bytes(b"somebody's")
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "97.npz").symlink_to(tmp_path / "original")
    pull(storage, Reference("cwru"), tmp_path / "back", bucket=bucket, force=True)
    assert (tmp_path / "original").read_bytes() == b"somebody's"
    assert contents(tmp_path / "back") == contents(folder)


def test_latest_is_what_was_pushed_last_even_within_a_second(storage: Minio, bucket: str, folder: Path) -> None:
    pushed = []
    for content in (b"one", b"two", b"one"):
        (folder / "97.npz").write_bytes(content)
        pushed.append(push(storage, folder, "cwru", bucket=bucket).version)
        assert load_manifest(storage, bucket, Reference("cwru")).version == pushed[-1]
    assert pushed[0] == pushed[2] != pushed[1]
    assert [stored.version for stored in list_versions(storage, bucket, "cwru")] == [pushed[2], pushed[1]]


def test_version_is_found_by_a_runs_data_fingerprint(storage: Minio, bucket: str, folder: Path) -> None:
    computed = digest(b"what the training computed")
    trained = push(storage, folder, "cwru", bucket=bucket, fingerprint=computed)
    (folder / "97.npz").write_bytes(b"since then")
    push(storage, folder, "cwru", bucket=bucket)
    assert load_manifest(storage, bucket, Reference("cwru", computed)).version == trained.version
    [latest, first] = list_versions(storage, bucket, "cwru")
    assert (latest.fingerprints, first.fingerprints) == ((), (computed,))
    assert (first.files, first.size) == (4, 101_000)


def test_pulled_version_has_the_fingerprint_of_what_was_trained_on(storage: Minio, bucket: str, tmp_path: Path) -> None:
    for label in ("good", "crack"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        picture = np.full((32, 32, 3), len(label), np.uint8)
        (tmp_path / "pictures" / label / "1.png").write_bytes(encode_png(picture))
    trained_on = fingerprint(load_folder(tmp_path / "pictures"))
    push(storage, tmp_path / "pictures", "tiles", bucket=bucket, fingerprint=trained_on)
    pull(storage, Reference("tiles", trained_on[:8]), tmp_path / "again", bucket=bucket)
    assert fingerprint(load_folder(tmp_path / "again")) == trained_on


def test_data_sets_are_listed_with_their_latest(storage: Minio, bucket: str, folder: Path) -> None:
    pushed = push(storage, folder, "tiles", bucket=bucket)
    push(storage, folder, "cwru", bucket=bucket)
    listed = list_datasets(storage, bucket)
    assert [(found.name, found.versions, found.latest.version) for found in listed] == [
        ("cwru", 1, pushed.version),
        ("tiles", 1, pushed.version),
    ]


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        (Reference("nowhere"), "no data set 'nowhere'"),
        (Reference("cwru", "00000000"), "There is no cwru@00000000"),
    ],
)
def test_what_is_not_there_is_named_with_the_way_to_see_what_is(
    storage: Minio, bucket: str, folder: Path, tmp_path: Path, reference: Reference, sentence: str
) -> None:
    push(storage, folder, "cwru", bucket=bucket)
    with pytest.raises(StorageError, match=f"{sentence}.*minio-client datasets list"):
        pull(storage, reference, tmp_path / "back", bucket=bucket)
    assert not (tmp_path / "back").exists()


def test_missing_bucket_is_said_before_anything_is_read(storage: Minio, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="minio-client make-buckets"):
        push(storage, tmp_path / "not looked at", "cwru", bucket="no-such-bucket")
