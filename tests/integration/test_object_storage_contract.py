"""What Almenara relies on in S3 storage, asked of every server that can be had.

MinIO is the server of the platform; versitygw and nanio show what holds beyond it. `GAPS` is the whole list of what a
server is known to lack: such a test must fail there, and begins to fail here when the server catches up.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import S3Error
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

from minio_client import Connection, Location, connect, presign
from minio_client.buckets import DeletionRule, clear_lifecycle, lifecycle, set_lifecycle, set_versioning, versioning
from minio_client.checksum import MIB
from tests.support.object_storage import minio_server, nanio_server, versitygw_server

pytestmark = [pytest.mark.slow, pytest.mark.alone]

SERVERS = {"minio": minio_server, "versitygw": versitygw_server, "nanio": nanio_server}
_VERSIONS = (
    "test_versioning_is_switched_on_and_suspended",
    "test_old_version_can_be_read",
    "test_deleted_object_is_hidden_by_a_marker_and_comes_back_without_it",
    "test_versions_are_listed_with_times_that_the_sdk_reads",
)
_RULES = (
    "test_rule_of_deletion_is_kept_and_removed",
    "test_rule_for_unfinished_uploads_is_kept",
    "test_rules_of_two_prefixes_stand_side_by_side",
)
GAPS = {
    "minio": {
        "test_rule_for_unfinished_uploads_is_kept": "removes them by itself after a day and keeps no rule for it",
    },
    "versitygw": {
        **dict.fromkeys(_RULES, "has no rules of deletion"),
        "test_unknown_key_has_a_code_of_its_own": "calls it XAdminUserNotFound",
        "test_versions_are_listed_with_times_that_the_sdk_reads": "writes times with nine digits after the second",
    },
    "nanio": {
        **dict.fromkeys(_RULES, "has no rules of deletion"),
        **dict.fromkeys(_VERSIONS, "has no versions"),
        "test_read_of_another_etag_is_refused": "does not look at If-Match",
    },
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" in metafunc.fixturenames:
        gaps = {name: lacking.get(metafunc.function.__name__) for name, lacking in GAPS.items()}
        marks = {name: [pytest.mark.xfail(strict=True, reason=gap)] if gap else [] for name, gap in gaps.items()}
        servers = [pytest.param(name, marks=marks[name]) for name in SERVERS]
        metafunc.parametrize("server", servers, indirect=True, scope="module")


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    with SERVERS[request.param](tmp_path_factory.mktemp(request.param)) as connection:
        yield connection


@pytest.fixture
def storage(server: Connection) -> Minio:
    return connect(server)


@pytest.fixture
def bucket(storage: Minio, request: pytest.FixtureRequest) -> str:
    name = "contract-" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    storage.make_bucket(name)
    return name


@pytest.fixture
def artifacts(server: Connection, bucket: str, monkeypatch: pytest.MonkeyPatch) -> S3ArtifactRepository:
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", server.region)
    return S3ArtifactRepository(f"s3://{bucket}/1/run/artifacts", server.access_key, server.secret_key)


@pytest.fixture
def boto(artifacts: S3ArtifactRepository) -> Any:
    """The boto3 client that MLflow makes for itself."""
    return artifacts._get_s3_client()


def write(storage: Minio, bucket: str, key: str, content: bytes = b"x", **more: Any) -> Any:
    return storage.put_object(bucket, key, io.BytesIO(content), len(content), **more)


def read(storage: Minio, bucket: str, key: str, **more: Any) -> bytes:
    response = storage.get_object(bucket, key, **more)
    try:
        content: bytes = response.read()
        return content
    finally:
        response.close()


def keys(storage: Minio, bucket: str, prefix: str = "", *, recursive: bool = True) -> list[str]:
    return [found.object_name for found in storage.list_objects(bucket, prefix=prefix, recursive=recursive)]


def http(method: str, link: str, body: bytes | None = None) -> urllib3.BaseHTTPResponse:
    return urllib3.request(method, link, body=body, retries=False, timeout=10)


def test_bucket_exists_once_it_was_made(storage: Minio, bucket: str) -> None:
    assert storage.bucket_exists(bucket)
    assert not storage.bucket_exists("never-made")


def test_bucket_with_objects_is_not_removed(storage: Minio, bucket: str) -> None:
    write(storage, bucket, "a")
    with pytest.raises(S3Error) as raised:
        storage.remove_bucket(bucket)
    assert raised.value.code == "BucketNotEmpty"
    storage.remove_object(bucket, "a")
    storage.remove_bucket(bucket)
    assert not storage.bucket_exists(bucket)


@pytest.mark.parametrize("content", [b"", b"healthy"], ids=["empty", "short"])
def test_object_comes_back_as_it_was_sent(storage: Minio, bucket: str, content: bytes) -> None:
    etag = write(storage, bucket, "a/b.bin", content).etag
    assert read(storage, bucket, "a/b.bin") == content
    assert etag == hashlib.md5(content, usedforsecurity=False).hexdigest()
    assert storage.stat_object(bucket, "a/b.bin").size == len(content)


def test_later_write_replaces_the_earlier(storage: Minio, bucket: str) -> None:
    write(storage, bucket, "a", b"first")
    write(storage, bucket, "a", b"second")
    assert read(storage, bucket, "a") == b"second"


def test_range_is_the_bytes_asked_for(storage: Minio, bucket: str) -> None:
    write(storage, bucket, "a", bytes(range(100)))
    assert read(storage, bucket, "a", offset=10, length=5) == bytes(range(10, 15))
    assert read(storage, bucket, "a", offset=90) == bytes(range(90, 100))


def test_read_of_another_etag_is_refused(storage: Minio, bucket: str) -> None:
    etag = write(storage, bucket, "a", b"first").etag
    assert read(storage, bucket, "a", request_headers={"If-Match": etag}) == b"first"
    write(storage, bucket, "a", b"second")
    with pytest.raises(S3Error) as raised:
        storage.get_object(bucket, "a", request_headers={"If-Match": etag})
    assert raised.value.code == "PreconditionFailed"


def test_user_metadata_and_content_type_come_back(storage: Minio, bucket: str) -> None:
    write(storage, bucket, "a.json", content_type="application/json", metadata={"sha256": "00ff", "files": "3"})
    told = storage.stat_object(bucket, "a.json").metadata
    assert (told["x-amz-meta-sha256"], told["x-amz-meta-files"]) == ("00ff", "3")
    assert told["Content-Type"] == "application/json"


def test_time_of_change_is_the_servers_clock_in_utc(storage: Minio, bucket: str) -> None:
    write(storage, bucket, "a")
    [found] = storage.list_objects(bucket)
    assert abs(datetime.now(UTC) - found.last_modified) < timedelta(minutes=1)


def test_body_that_was_damaged_on_its_way_is_refused(boto: Any, storage: Minio, bucket: str) -> None:
    with pytest.raises(boto.exceptions.ClientError) as raised:
        boto.put_object(Bucket=bucket, Key="a", Body=b"damaged", ContentMD5="rL0Y20zC+Fzt72VPzMSk2A==")
    assert raised.value.response["Error"]["Code"] == "BadDigest"
    assert keys(storage, bucket) == []


def test_delete_of_what_is_not_there_is_no_error(storage: Minio, bucket: str) -> None:
    write(storage, bucket, "a")
    storage.remove_object(bucket, "a")
    storage.remove_object(bucket, "a")
    assert keys(storage, bucket) == []


def test_several_objects_are_deleted_in_one_request(storage: Minio, bucket: str) -> None:
    for key in ("a", "b/c", "d"):
        write(storage, bucket, key)
    assert list(storage.remove_objects(bucket, [DeleteObject("a"), DeleteObject("b/c")])) == []
    assert keys(storage, bucket) == ["d"]


def test_missing_object_and_missing_bucket_have_codes_of_their_own(storage: Minio, bucket: str) -> None:
    for name, code in ((bucket, "NoSuchKey"), ("never-made", "NoSuchBucket")):
        with pytest.raises(S3Error) as raised:
            storage.get_object(name, "a")
        assert raised.value.code == code


def test_listing_goes_on_past_a_thousand_keys(storage: Minio, bucket: str) -> None:
    wanted = [f"line/{number:04}" for number in range(1010)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: write(storage, bucket, key), wanted))
    assert keys(storage, bucket) == wanted


def test_prefix_and_delimiter_give_one_level(storage: Minio, bucket: str) -> None:
    for key in ("a/1", "a/b/2", "a/b/3", "ab", "c/4"):
        write(storage, bucket, key)
    assert keys(storage, bucket, "a/") == ["a/1", "a/b/2", "a/b/3"]
    assert sorted(keys(storage, bucket, "a/", recursive=False)) == ["a/1", "a/b/"]
    assert sorted(keys(storage, bucket, recursive=False)) == ["a/", "ab", "c/"]


@pytest.mark.parametrize("key", ["día 2/señal.npz", "a+b & c=d.bin", "100 %.csv", "工場/カメラ.jpg", "~x'(y)!.txt"])
def test_key_of_any_characters_is_kept(storage: Minio, bucket: str, key: str) -> None:
    write(storage, bucket, key, key.encode())
    assert read(storage, bucket, key) == key.encode()
    assert keys(storage, bucket) == [key]
    assert keys(storage, bucket, key[:3]) == [key]


def test_upload_in_parts_is_one_object(storage: Minio, bucket: str) -> None:
    content = os.urandom(12 * MIB + 5)
    etag = write(storage, bucket, "big", content, part_size=5 * MIB).etag
    assert etag.endswith("-3")
    assert read(storage, bucket, "big") == content
    assert read(storage, bucket, "big", offset=5 * MIB - 3, length=6) == content[5 * MIB - 3 : 5 * MIB + 3]


def test_upload_that_breaks_off_leaves_no_object(storage: Minio, bucket: str) -> None:
    class Breaking(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= 5 * MIB:
                raise ConnectionAbortedError
            return super().read(size)

    with pytest.raises(ConnectionAbortedError):
        storage.put_object(bucket, "big", Breaking(bytes(11 * MIB)), 11 * MIB, part_size=5 * MIB)
    assert keys(storage, bucket) == []


def test_link_lets_its_holder_fetch_without_a_key(storage: Minio, bucket: str) -> None:
    write(storage, bucket, "día/frame 1.jpg", b"picture")
    assert http("GET", presign(storage, Location(bucket, "día/frame 1.jpg"))).data == b"picture"


def test_link_for_an_upload_lets_its_holder_write(storage: Minio, bucket: str) -> None:
    link = presign(storage, Location(bucket, "upload.bin"), write=True)
    assert http("PUT", link, b"sent").status == 200
    assert read(storage, bucket, "upload.bin") == b"sent"


def test_link_that_expired_is_refused(storage: Minio, bucket: str) -> None:
    write(storage, bucket, "a")
    made = datetime.now(UTC) - timedelta(hours=2)
    link = storage.get_presigned_url("GET", bucket, "a", expires=timedelta(hours=1), request_date=made)
    assert http("GET", link).status == 403


@pytest.mark.parametrize("change", ["key", "time", "signature", "method"])
def test_link_that_was_changed_is_refused(storage: Minio, bucket: str, change: str) -> None:
    for key in ("public", "secret"):
        write(storage, bucket, key)
    link = presign(storage, Location(bucket, "public"))
    changed = {
        "key": link.replace("/public?", "/secret?"),
        "time": link.replace("X-Amz-Expires=3600", "X-Amz-Expires=7200"),
        "signature": link[:-1] + ("0" if link[-1] != "0" else "1"),
        "method": link,
    }[change]
    assert changed != link or change == "method"
    method, body = ("PUT", b"overwritten") if change == "method" else ("GET", None)
    assert http(method, changed, body).status == 403
    assert read(storage, bucket, "public") == b"x"


def test_link_works_under_no_other_host(storage: Minio, bucket: str) -> None:
    write(storage, bucket, "a")
    link = presign(storage, Location(bucket, "a"))
    assert urllib3.request("GET", link, headers={"Host": "elsewhere:9000"}, retries=False).status == 403


def test_nothing_is_read_without_a_key(server: Connection, storage: Minio, bucket: str) -> None:
    write(storage, bucket, "a")
    assert http("GET", f"{server.endpoint}/{bucket}/a").status in {401, 403}


def refused_with(server: Connection, bucket: str) -> str:
    with pytest.raises(S3Error) as raised:
        list(connect(server).list_objects(bucket))
    return str(raised.value.code)


def test_unknown_key_has_a_code_of_its_own(server: Connection, bucket: str) -> None:
    assert refused_with(replace(server, access_key="somebody-else"), bucket) == "InvalidAccessKeyId"


def test_wrong_secret_has_a_code_of_its_own(server: Connection, bucket: str) -> None:
    assert refused_with(replace(server, secret_key=server.access_key), bucket) == "SignatureDoesNotMatch"


def test_bucket_without_versioning_says_off(storage: Minio, bucket: str) -> None:
    assert versioning(storage, bucket) == "off"


def test_versioning_is_switched_on_and_suspended(storage: Minio, bucket: str) -> None:
    assert set_versioning(storage, bucket, on=True) == "on"
    assert set_versioning(storage, bucket, on=False) == "suspended"


def test_old_version_can_be_read(storage: Minio, bucket: str) -> None:
    set_versioning(storage, bucket, on=True)
    old = write(storage, bucket, "a", b"old").version_id
    write(storage, bucket, "a", b"new")
    assert read(storage, bucket, "a") == b"new"
    assert read(storage, bucket, "a", version_id=old) == b"old"


def test_deleted_object_is_hidden_by_a_marker_and_comes_back_without_it(boto: Any, storage: Minio, bucket: str) -> None:
    set_versioning(storage, bucket, on=True)
    write(storage, bucket, "a", b"kept")
    storage.remove_object(bucket, "a")
    assert keys(storage, bucket) == []
    listed = boto.list_object_versions(Bucket=bucket)
    assert len(listed["Versions"]) == 1
    [marker] = listed["DeleteMarkers"]
    storage.remove_object(bucket, "a", version_id=marker["VersionId"])
    assert read(storage, bucket, "a") == b"kept"


def test_versions_are_listed_with_times_that_the_sdk_reads(storage: Minio, bucket: str) -> None:
    set_versioning(storage, bucket, on=True)
    write(storage, bucket, "a")
    storage.remove_object(bucket, "a")
    found = list(storage.list_objects(bucket, include_version=True))
    assert sorted(item.is_delete_marker for item in found) == [False, True]


def test_rule_of_deletion_is_kept_and_removed(storage: Minio, bucket: str) -> None:
    rule = DeletionRule(prefix="line-2/", expire_days=90, noncurrent_days=7)
    assert set_lifecycle(storage, bucket, rule) == [rule]
    clear_lifecycle(storage, bucket)
    assert lifecycle(storage, bucket) == []


def test_rule_for_unfinished_uploads_is_kept(storage: Minio, bucket: str) -> None:
    rule = DeletionRule(expire_days=30, abort_uploads_days=2)
    assert set_lifecycle(storage, bucket, rule) == [rule]


def test_rules_of_two_prefixes_stand_side_by_side(storage: Minio, bucket: str) -> None:
    set_lifecycle(storage, bucket, DeletionRule(prefix="a/", expire_days=1))
    set_lifecycle(storage, bucket, DeletionRule(prefix="b/", expire_days=2))
    changed = set_lifecycle(storage, bucket, DeletionRule(prefix="a/", expire_days=3))
    assert {rule.prefix: rule.expire_days for rule in changed} == {"a/": 3, "b/": 2}


def test_mlflow_keeps_a_model_of_several_parts(artifacts: S3ArtifactRepository, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(os.urandom(20 * MIB))
    artifacts.log_artifact(str(model), "model")
    (tmp_path / "back").mkdir()
    back = artifacts.download_artifacts("model/model.onnx", str(tmp_path / "back"))
    assert Path(back).read_bytes() == model.read_bytes()


def test_mlflow_lists_and_deletes_a_folder(artifacts: S3ArtifactRepository, tmp_path: Path) -> None:
    (tmp_path / "run" / "plots").mkdir(parents=True)
    for name in ("card.json", "plots/roc.png"):
        (tmp_path / "run" / name).write_bytes(b"content")
    artifacts.log_artifacts(str(tmp_path / "run"))
    listed = {(item.path, item.is_dir) for item in artifacts.list_artifacts()}
    assert listed == {("card.json", False), ("plots", True)}
    artifacts.delete_artifacts("plots")
    assert [item.path for item in artifacts.list_artifacts()] == ["card.json"]
