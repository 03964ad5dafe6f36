"""The command `minio-client` for data sets, links and what buckets do on their own, against real servers."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import urllib3

from minio_client import Connection, connect
from minio_client.cli import main
from tests.support.object_storage import nanio_server, versitygw_server

pytestmark = [pytest.mark.slow, pytest.mark.alone]


@pytest.fixture(scope="module")
def nanio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    with nanio_server(tmp_path_factory.mktemp("nanio")) as running:
        yield running


@pytest.fixture(scope="module")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    with versitygw_server(tmp_path_factory.mktemp("versitygw")) as running:
        yield running


@dataclass(frozen=True)
class Ended:
    """What a command printed, and its exit code."""

    code: int
    stdout: str
    stderr: str


def run(connection: Connection, *arguments: str | Path) -> Ended:
    environment = {
        "MINIO_ENDPOINT": connection.endpoint,
        "MINIO_ACCESS_KEY": connection.access_key,
        "MINIO_SECRET_KEY": connection.secret_key,
    }
    out, err = io.StringIO(), io.StringIO()
    command = ["minio-client", *map(str, arguments)]
    with (
        patch.dict(os.environ, environment),
        patch.object(sys, "argv", command),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    return Ended(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def told(ended: Ended) -> Any:
    assert ended.code == 0, ended.stderr
    return json.loads(ended.stdout)


def refused(ended: Ended) -> str:
    assert ended.code == 2
    assert ended.stderr.startswith("minio-client: ")
    return ended.stderr


def test_data_set_makes_its_way_from_a_folder_and_back(nanio: Connection, tmp_path: Path) -> None:
    run(nanio, "make-buckets", "datasets")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.npz").write_bytes(b"normal")
    fingerprint = "5" * 64
    pushed = told(run(nanio, "datasets", "push", tmp_path / "set", "cwru", "--fingerprint", fingerprint, "--json"))
    [listed] = told(run(nanio, "datasets", "list", "cwru", "--json"))["versions"]
    assert (listed["version"], listed["fingerprints"]) == (pushed["version"], [fingerprint])
    assert run(nanio, "datasets", "list").stdout.startswith(f"cwru  1 versions  {pushed['version'][:12]}  20")
    pulled = told(run(nanio, "datasets", "pull", "cwru@555555", tmp_path / "back", "--json"))
    assert (pulled["version"], pulled["fetched"]) == (pushed["version"], 1)
    (tmp_path / "back" / "b.npz").write_bytes(b"fault")
    difference = run(nanio, "datasets", "diff", "cwru@latest", tmp_path / "back")
    assert difference.stdout == "added    b.npz\n"
    again = run(nanio, "datasets", "pull", "cwru", tmp_path / "back")
    assert "1 files in" in again.stderr
    assert again.stdout.endswith("0 files fetched (0 bytes), 1 unchanged\n")


def test_link_is_the_only_line_on_stdout_and_its_host_is_named_beside_it(versitygw: Connection) -> None:
    run(versitygw, "make-buckets", "evidence")
    upload = run(versitygw, "presign", "evidence/a.jpg", "--put")
    assert urllib3.request("PUT", upload.stdout.strip(), body=b"picture").status == 200
    link = run(versitygw, "presign", "evidence/a.jpg", "--expires", "5m")
    assert urllib3.request("GET", link.stdout.strip()).data == b"picture"
    assert f"works under {versitygw.endpoint} alone" in link.stderr
    assert versitygw.secret_key not in link.stdout + link.stderr


def test_versioning_is_shown_switched_on_and_suspended(versitygw: Connection) -> None:
    run(versitygw, "make-buckets", "versions")
    said = [run(versitygw, "versioning", "versions", *switch).stdout for switch in ((), ("off",), ("on",), ("off",))]
    assert [line.split()[-1] for line in said] == ["off", "off", "on", "suspended"]
    assert told(run(versitygw, "versioning", "versions", "--json")) == {"bucket": "versions", "versioning": "suspended"}


@pytest.mark.parametrize("server", ["nanio", "versitygw"])
def test_server_without_rules_of_deletion_says_so(server: str, request: pytest.FixtureRequest) -> None:
    connection: Connection = request.getfixturevalue(server)
    run(connection, "make-buckets", "rules")
    assert "no rules of deletion" in refused(run(connection, "lifecycle", "rules", "--expire-after", "30d"))


def test_server_without_versions_says_so(nanio: Connection) -> None:
    run(nanio, "make-buckets", "plain")
    assert "no versioning" in refused(run(nanio, "versioning", "plain", "on"))


def test_clearing_rules_never_removes_a_bucket(nanio: Connection) -> None:
    run(nanio, "make-buckets", "empty")
    assert run(nanio, "lifecycle", "empty", "--clear").stdout == "empty: nothing is deleted on its own\n"
    assert connect(nanio).bucket_exists("empty")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("lifecycle", "plain", "--clear", "--expire-after", "1d"), "--clear removes all rules"),
        (("lifecycle", "plain", "--prefix", "a/"), "--prefix alone sets nothing"),
        (("lifecycle", "plain", "--noncurrent", "36h"), "whole days"),
        (("versioning", "no-such-bucket", "on"), "minio-client make-buckets"),
        (("presign", "plain"), "names no object"),
        (("presign", "plain/a", "--expires", "8d"), "1 s to 7 days"),
        (("datasets", "list", "--bucket", "no-such-bucket"), "minio-client make-buckets"),
        (("datasets", "push", "nowhere", "cwru", "--fingerprint", "odd"), "is no data fingerprint"),
        (("datasets", "diff", "nowhere", "cwru@latest"), "no folder nowhere"),
        (("datasets", "pull", "Cwru", "back"), "is no name of a data set"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(versitygw: Connection, arguments: tuple[str, ...], sentence: str) -> None:
    assert sentence in refused(run(versitygw, *arguments))


@pytest.mark.parametrize(
    "command", ["make-buckets", "versioning", "lifecycle", "presign", "datasets push", "datasets pull"]
)
def test_help_of_every_command_has_an_example(nanio: Connection, command: str) -> None:
    assert "Example: minio-client" in run(nanio, *command.split(), "--help").stdout
