"""What a version of a data set is, and which manifests are refused."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minio_client import StorageError
from minio_client.datasets import Entry, Manifest, compare, scan
from minio_client.datasets.manifest import FORMAT, WORK_FOLDER

EMPTY = hashlib.sha256(b"").hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "recordings"
    (root / "día 2").mkdir(parents=True)
    (root / "97.npz").write_bytes(b"normal")
    (root / "día 2" / "a+b.npz").write_bytes(b"fault")
    (root / "leer.csv").touch()
    return root


def document(*files: dict[str, object], form: str = FORMAT) -> bytes:
    return json.dumps({"files": list(files), "format": form}).encode()


def parsed(content: bytes) -> Manifest:
    return Manifest.parse(content, hashlib.sha256(content).hexdigest())


def entry(path: str, size: int = 0) -> dict[str, object]:
    return {"path": path, "size": size, "sha256": EMPTY}


def test_files_are_named_by_path_size_and_sha256_in_order(folder: Path) -> None:
    assert scan(folder).files == (
        Entry("97.npz", 6, hashlib.sha256(b"normal").hexdigest()),
        Entry("día 2/a+b.npz", 5, hashlib.sha256(b"fault").hexdigest()),
        Entry("leer.csv", 0, EMPTY),
    )


def test_version_is_the_sha256_of_the_stored_document(folder: Path) -> None:
    manifest = scan(folder)
    assert manifest.version == hashlib.sha256(manifest.document).hexdigest()
    assert Manifest.parse(manifest.document, manifest.version) == manifest


def test_version_of_known_contents_never_changes(folder: Path) -> None:
    assert scan(folder).version == "93f0b86cec22d947d09f115511ceccf3bc6f6ba15ee7fc3f6e83ca7daf551ee1"


def test_same_contents_elsewhere_and_at_another_time_are_the_same_version(folder: Path, tmp_path: Path) -> None:
    before = scan(folder).version
    folder.rename(tmp_path / "elsewhere")
    os.utime(tmp_path / "elsewhere" / "97.npz", (0, 0))
    (tmp_path / "elsewhere" / "empty folder").mkdir()
    assert scan(tmp_path / "elsewhere").version == before


def test_other_content_and_other_name_are_other_versions(folder: Path) -> None:
    versions = [scan(folder).version]
    (folder / "97.npz").write_bytes(b"Normal")
    versions.append(scan(folder).version)
    (folder / "97.npz").rename(folder / "98.npz")
    versions.append(scan(folder).version)
    assert len(set(versions)) == 3


def test_what_is_on_its_way_is_no_part_of_the_data_set(folder: Path) -> None:
    before = scan(folder)
    (folder / WORK_FOLDER).mkdir()
    (folder / WORK_FOLDER / "0.part").write_bytes(b"half")
    assert scan(folder) == before


def test_links_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"of somebody else")
    (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(StorageError, match="link is a link"):
        scan(folder)


def test_folder_behind_a_link_is_refused_and_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (folder / "shortcut").symlink_to(tmp_path / "other", target_is_directory=True)
    with pytest.raises(StorageError, match="shortcut is a link"):
        scan(folder)


def test_pipe_is_refused_and_not_read(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(StorageError, match="pipe is neither a file nor a folder"):
        scan(folder)


def test_name_that_is_not_utf8_is_refused(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.npz")).touch()
    with pytest.raises(StorageError, match="not in UTF-8"):
        scan(folder)


@pytest.mark.parametrize("name", ["a\\b", "a\nb"])
def test_name_that_other_systems_read_as_a_path_is_refused(folder: Path, name: str) -> None:
    (folder / name).touch()
    with pytest.raises(StorageError, match="backslash or control character"):
        scan(folder)


def test_missing_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="There is no folder"):
        scan(tmp_path / "nowhere")
    with pytest.raises(StorageError, match="has no files"):
        scan(tmp_path)


@pytest.mark.parametrize(
    "path", ["../etc/passwd", "/etc/passwd", "a/../../b", "a//b", "./a", "", "a/", f"{WORK_FOLDER}/x", "a\0b", "a\\b"]
)
def test_manifest_that_leads_out_of_the_folder_is_refused(path: str) -> None:
    with pytest.raises(StorageError):
        parsed(document(entry(path)))


@given(path=st.text(max_size=40) | st.lists(st.sampled_from(["..", ".", "", "a", "b c"]), max_size=5).map("/".join))
def test_path_that_is_accepted_lies_below_the_folder(path: str) -> None:
    try:
        [file] = parsed(document(entry(path))).files
    except StorageError:
        return
    folder = "/data/set/"
    assert os.path.normpath(folder + file.path) == folder + path


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ((entry("b"), entry("a")), "out of order"),
        ((entry("a"), entry("a")), "out of order"),
        ((entry("a", -1),), "out of order"),
        (({"path": "a", "size": 0, "sha256": "../../blob"},), "no valid SHA-256"),
        ((entry("a"), entry("a/b")), "a file and a folder at once"),
        (({"path": "a"},), "cannot be read"),
        ((), "has 1 to"),
    ],
)
def test_manifest_that_no_folder_can_hold_is_refused(files: tuple[dict[str, object], ...], sentence: str) -> None:
    with pytest.raises(StorageError, match=sentence):
        parsed(document(*files))


def test_manifest_of_a_later_format_asks_for_an_update() -> None:
    with pytest.raises(StorageError, match="Update minio-client"):
        parsed(document(entry("a"), form="minio-client-dataset/2"))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"format": 1}'])
def test_what_is_no_manifest_is_said(content: bytes) -> None:
    with pytest.raises(StorageError, match="manifest of version"):
        parsed(content)


def test_manifest_that_was_changed_in_storage_is_refused(folder: Path) -> None:
    manifest = scan(folder)
    with pytest.raises(StorageError, match="was changed in storage"):
        Manifest.parse(manifest.document + b" ", manifest.version)


def test_difference_names_what_was_added_removed_and_changed() -> None:
    other = hashlib.sha256(b"x").hexdigest()
    before = Manifest((Entry("a", 0, EMPTY), Entry("b", 0, EMPTY), Entry("c", 0, EMPTY)))
    after = Manifest((Entry("b", 1, other), Entry("c", 0, EMPTY), Entry("d", 0, EMPTY)))
    found = compare(before, after)
    assert (found.added, found.removed, found.changed) == (("d",), ("a",), ("b",))
