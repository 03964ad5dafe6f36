"""The object-storage client against a real S3 server."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from minio import Minio

from minio_client import Connection, Location, StorageError, Summary, connect, get, list_objects, make_buckets, put
from minio_client.checksum import MIB, PART_SIZE, matches_etag
from tests.support.data import ROOT
from tests.support.object_storage import object_storage

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    with object_storage(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def bucket(storage: Minio, request: pytest.FixtureRequest) -> str:
    name = "test-" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    assert make_buckets(storage, [name]) == [name]
    return name


@pytest.fixture
def storage(connection: Connection) -> Minio:
    return connect(connection)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files in two folders, one of them empty and one with a name that URLs must escape."""
    root = tmp_path / "recordings"
    (root / "día 2").mkdir(parents=True)
    (root / "97.npz").write_bytes(os.urandom(50_000))
    (root / "manifest.csv").write_bytes(b"")
    (root / "día 2" / "a+b c.npz").write_bytes(os.urandom(1000))
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def run(connection: Connection, *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "MINIO_ENDPOINT": connection.endpoint,
        "MINIO_ACCESS_KEY": connection.access_key,
        "MINIO_SECRET_KEY": connection.secret_key,
    } | changed
    command = [sys.executable, "-m", "minio_client", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)


def test_bucket_is_made_once(storage: Minio) -> None:
    assert make_buckets(storage, ["datasets", "evidence"]) == ["datasets", "evidence"]
    assert make_buckets(storage, ["datasets", "models"]) == ["models"]


def test_name_that_s3_does_not_allow_is_refused(storage: Minio) -> None:
    with pytest.raises(StorageError, match="'Bad_Name!' cannot be made"):
        make_buckets(storage, ["Bad_Name!"])


def test_folder_comes_back_as_it_was(storage: Minio, bucket: str, folder: Path, tmp_path: Path) -> None:
    sent = put(storage, folder, Location(bucket, "cwru"))
    assert sent == Summary(transferred=3, skipped=0, size=51_000)
    back = tmp_path / "back"
    assert get(storage, Location(bucket, "cwru"), back).transferred == 3
    assert contents(back) == contents(folder)


def test_what_is_there_already_is_skipped_both_ways(storage: Minio, bucket: str, folder: Path, tmp_path: Path) -> None:
    put(storage, folder, Location(bucket, "cwru"))
    (folder / "97.npz").write_bytes(os.urandom(50_000))
    assert put(storage, folder, Location(bucket, "cwru/")) == Summary(transferred=1, skipped=2, size=50_000)
    back = tmp_path / "back"
    get(storage, Location(bucket, "cwru"), back)
    (back / "manifest.csv").unlink()
    assert get(storage, Location(bucket, "cwru"), back) == Summary(transferred=1, skipped=2, size=0)


def test_file_of_several_parts_is_sent_skipped_and_fetched(storage: Minio, bucket: str, tmp_path: Path) -> None:
    big = tmp_path / "model.onnx"
    big.write_bytes(os.urandom(PART_SIZE + 3 * MIB + 17))
    assert put(storage, big, Location(bucket, "models/")).transferred == 1
    [listed] = list_objects(storage, Location(bucket, "models"))
    assert listed.etag.endswith("-2")
    assert put(storage, big, Location(bucket, "models/")).skipped == 1
    back = tmp_path / "back.onnx"
    get(storage, Location(bucket, "models/model.onnx"), back)
    assert back.read_bytes() == big.read_bytes()
    assert get(storage, Location(bucket, "models/model.onnx"), back).skipped == 1


def test_interrupted_fetch_goes_on_where_it_ended(storage: Minio, bucket: str, tmp_path: Path) -> None:
    source = tmp_path / "a.bin"
    source.write_bytes(os.urandom(3 * MIB))
    put(storage, source, Location(bucket, "a.bin"))
    [listed] = list_objects(storage, Location(bucket))
    part = tmp_path / f".b.bin.{listed.etag[:16]}.part"
    part.write_bytes(source.read_bytes()[: 2 * MIB])
    done: list[int] = []
    get(storage, Location(bucket, "a.bin"), tmp_path / "b.bin", progress=lambda name, now, total: done.append(now))
    assert done[0] == 2 * MIB, "the first two MiB were not fetched again"
    assert done[-1] == 3 * MIB
    assert (tmp_path / "b.bin").read_bytes() == source.read_bytes()
    assert not part.exists()


def test_part_with_wrong_bytes_is_noticed_and_removed(storage: Minio, bucket: str, tmp_path: Path) -> None:
    source = tmp_path / "a.bin"
    source.write_bytes(os.urandom(MIB))
    put(storage, source, Location(bucket, "a.bin"))
    [listed] = list_objects(storage, Location(bucket))
    part = tmp_path / f".b.bin.{listed.etag[:16]}.part"
    part.write_bytes(b"not what was sent")
    with pytest.raises(StorageError, match="checksum is wrong"):
        get(storage, Location(bucket, "a.bin"), tmp_path / "b.bin")
    assert not part.exists()
    assert not (tmp_path / "b.bin").exists()
    get(storage, Location(bucket, "a.bin"), tmp_path / "b.bin")
    assert (tmp_path / "b.bin").read_bytes() == source.read_bytes()


def test_object_of_another_client_is_checked_by_its_etag(storage: Minio, bucket: str, tmp_path: Path) -> None:
    source = tmp_path / "a.bin"
    source.write_bytes(b"healthy")
    storage.fput_object(bucket, "a.bin", str(source))
    get(storage, Location(bucket, "a.bin"), tmp_path / "b.bin")
    assert (tmp_path / "b.bin").read_bytes() == b"healthy"


def test_prefix_ends_at_a_slash(storage: Minio, bucket: str, folder: Path, tmp_path: Path) -> None:
    put(storage, folder / "97.npz", Location(bucket, "run/97.npz"))
    put(storage, folder / "97.npz", Location(bucket, "run2/97.npz"))
    assert [found.key for found in list_objects(storage, Location(bucket, "run"))] == ["run/97.npz"]


def test_object_goes_into_a_folder_that_exists(storage: Minio, bucket: str, folder: Path, tmp_path: Path) -> None:
    put(storage, folder / "97.npz", Location(bucket, "run/"))
    (tmp_path / "out").mkdir()
    get(storage, Location(bucket, "run/97.npz"), tmp_path / "out")
    assert (tmp_path / "out" / "97.npz").is_file()


def test_key_that_leads_out_of_the_target_is_not_fetched(bucket: str, tmp_path: Path) -> None:
    from minio_client.transfer import _local_path

    for key in ("run/../../etc/passwd", "run//a", "run/./a"):
        with pytest.raises(StorageError, match="lead out of"):
            _local_path(key, "run", tmp_path)


def test_nothing_at_a_prefix_is_said(storage: Minio, bucket: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="There is nothing at"):
        get(storage, Location(bucket, "nowhere"), tmp_path)


def test_missing_bucket_names_the_remedy(storage: Minio, folder: Path) -> None:
    with pytest.raises(StorageError, match=r"NoSuchBucket\).*minio-client make-buckets"):
        put(storage, folder, Location("no-such-bucket", "x"))


def test_missing_and_empty_sources_are_named(storage: Minio, bucket: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no file or folder"):
        put(storage, tmp_path / "nowhere", Location(bucket))
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError, match="has no files"):
        put(storage, tmp_path / "empty", Location(bucket))


@pytest.mark.parametrize(
    ("field", "remedy"), [("access_key", "Check MINIO_ACCESS_KEY"), ("secret_key", "Check MINIO_SECRET_KEY")]
)
def test_wrong_key_names_its_variable(connection: Connection, bucket: str, field: str, remedy: str) -> None:
    wrong = connect(replace(connection, **{field: "somebody-else"}))
    with pytest.raises(StorageError, match=remedy):
        list(list_objects(wrong, Location(bucket)))


def test_etag_of_unknown_part_size_matches_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    assert not matches_etag(path, "0123456789abcdef0123456789abcdef-7")
    assert not matches_etag(path, "0123456789abcdef0123456789abcdef-odd")
    assert matches_etag(path, '"9dd4e461268c8034f5c8564e155c67a6"')


def test_command_makes_sends_lists_and_fetches(connection: Connection, folder: Path, tmp_path: Path) -> None:
    made = run(connection, "make-buckets", MINIO_BUCKET_NAME="plant")
    assert (made.returncode, made.stdout) == (0, "plant: made\n")
    assert run(connection, "make-buckets", "plant").stdout == "plant: was there\n"
    sent = run(connection, "put", str(folder), "plant/cwru")
    assert sent.stdout == "3 files sent (51000 bytes), 0 unchanged\n"
    listed = run(connection, "ls", MINIO_BUCKET_NAME="plant").stdout.splitlines()
    assert [line.split(maxsplit=2)[2] for line in listed] == [
        "cwru/97.npz",
        "cwru/día 2/a+b c.npz",
        "cwru/manifest.csv",
    ]
    back = tmp_path / "back"
    assert run(connection, "get", "plant/cwru", str(back)).stdout == "3 files fetched (51000 bytes), 0 unchanged\n"
    assert contents(back) == contents(folder)


@pytest.mark.parametrize(
    ("arguments", "changed", "sentence"),
    [
        (("ls", "plant"), {"MINIO_SECRET_KEY": "", "MINIO_ENDPOINT": ""}, "MINIO_ENDPOINT, MINIO_SECRET_KEY"),
        (("ls", "plant"), {"MINIO_ENDPOINT": "minio:9000"}, "Write http://HOST:PORT"),
        (("ls", "plant"), {"MINIO_ENDPOINT": "http://127.0.0.1:9"}, "Check MINIO_ENDPOINT"),
        (("ls", "no-such-bucket"), {}, "Make it: minio-client make-buckets"),
        (("ls",), {}, "set MINIO_BUCKET_NAME"),
        (("make-buckets",), {}, "set MINIO_BUCKET_NAME"),
        (("put", "nowhere", "plant/x"), {}, "no file or folder nowhere"),
    ],
)
def test_command_tells_what_is_wrong_in_a_sentence_and_exits_2(
    connection: Connection, arguments: tuple[str, ...], changed: dict[str, str], sentence: str
) -> None:
    ended = run(connection, *arguments, **changed)
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert ended.stderr.startswith("minio-client: ")
    assert "Traceback" not in ended.stderr
    assert connection.secret_key not in ended.stderr
