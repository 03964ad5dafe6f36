"""Evidence in a local folder: whole or not at all, checked when it is read, and of nobody else's files."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from pathlib import Path

import pytest

from almenara.alarms.records import EvidenceFile
from almenara.errors import NoEvidenceError
from almenara.evidence import LocalEvidence, path_part
from almenara.evidence.base import MOST_BYTES

FILES = {"frame.jpg": b"frame", "verdict.json": b"{}", "window.npz": b"window", "notes": b"?"}
HOUR = 3600.0


@pytest.fixture
def store(tmp_path: Path) -> LocalEvidence:
    return LocalEvidence(tmp_path / "evidence", leave_free=0)


def test_files_are_described_as_they_were_saved(store: LocalEvidence) -> None:
    saved = store.save("outflow/1", FILES)
    assert [file.name for file in saved] == list(FILES)
    assert [file.size for file in saved] == [len(content) for content in FILES.values()]
    assert saved[0].sha256 == hashlib.sha256(b"frame").hexdigest()
    assert saved[0].uri == str(store.folder / "outflow" / "1" / "frame.jpg")
    assert [file.media_type for file in saved] == [
        "image/jpeg",
        "application/json",
        "application/x-npz",
        "application/octet-stream",
    ]
    assert [store.read(file) for file in saved] == list(FILES.values())


def test_a_name_that_is_taken_is_extended(store: LocalEvidence) -> None:
    saved = [store.save("outflow", {"frame.jpg": content})[0] for content in (b"one", b"two", b"three")]
    assert [store.read(file) for file in saved] == [b"one", b"two", b"three"]
    assert sorted(path.name for path in store.folder.iterdir()) == ["outflow", "outflow-2", "outflow-3"]


@pytest.mark.parametrize("name", ["", "..", "../etc", "/etc", "a//b", ".hidden", "a/../b", "a\nb"])
def test_a_name_that_leads_elsewhere_is_refused(store: LocalEvidence, name: str) -> None:
    with pytest.raises(ValueError, match="no name of evidence"):
        store.save(name, FILES)


def test_files_and_the_names_of_their_folders_are_on_the_disk_before_it_returns(
    store: LocalEvidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    store.save("outflow/1", {"frame.jpg": b"frame", "verdict.json": b"{}"})
    *files, partial, asset, root, above = synced
    assert [file.name for file in files] == ["frame.jpg", "verdict.json"]
    assert {file.parent for file in files} == {partial}
    assert (asset, root, above) == (store.folder / "outflow", store.folder, tmp_path)


@pytest.mark.parametrize("failing", range(1, 7))
def test_a_save_that_fails_leaves_no_evidence_that_looks_whole(
    store: LocalEvidence, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    turns = iter(range(1, 100))

    def sync(_: int) -> None:
        if next(turns) == failing:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(OSError, match="No space left"):
        store.save("outflow/1", {"frame.jpg": b"frame", "verdict.json": b"{}"})
    assert all(found.files == ("frame.jpg", "verdict.json") for found in store.stored())
    assert not list(store.folder.rglob(".*"))


def test_the_last_space_of_the_disk_is_left_for_the_alarms(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(OSError, match="No space left") as failure:
        LocalEvidence(tmp_path / "evidence", leave_free=free).save("outflow", {"frame.jpg": b"frame"})
    assert failure.value.errno == errno.ENOSPC
    assert not (tmp_path / "evidence").exists()


def test_a_full_disk_is_said_in_plain_words() -> None:
    error = NoEvidenceError.because("picture", OSError(errno.ENOSPC, "No space left on device", "evidence"))
    assert str(error) == "no picture: the disk is full"
    assert error.errno == errno.ENOSPC


def test_other_reasons_are_told_without_the_path_which_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    error = NoEvidenceError.because("window", OSError(errno.EACCES, "Permission denied", "/srv/evidence"))
    assert str(error) == "no window: permission denied"
    assert "Permission denied: '/srv/evidence'" in caplog.text
    assert str(NoEvidenceError.because("window", OSError("odd"))) == "no window: odd"


def test_a_file_that_was_changed_is_not_read(store: LocalEvidence) -> None:
    (file,) = store.save("outflow", {"frame.jpg": b"frame"})
    Path(file.uri).write_bytes(b"other")
    with pytest.raises(OSError, match="SHA-256 differs"):
        store.read(file)


def test_a_file_that_grew_is_not_read_whole(store: LocalEvidence) -> None:
    (file,) = store.save("outflow", {"frame.jpg": b"frame"})
    Path(file.uri).write_bytes(b"frame" * 1000)
    with pytest.raises(OSError, match="SHA-256 differs"):
        store.read(file)


def test_a_file_that_could_not_be_read_again_is_not_saved(store: LocalEvidence) -> None:
    with pytest.raises(OSError, match="too large"):
        store.save("outflow", {"frame.jpg": bytes(MOST_BYTES + 1)})
    assert store.stored() == []


def test_a_record_that_claims_too_large_a_file_is_refused(store: LocalEvidence) -> None:
    (file,) = store.save("outflow", {"frame.jpg": b"frame"})
    with pytest.raises(OSError, match="too large"):
        store.read(file.model_copy(update={"size": MOST_BYTES + 1}))


@pytest.mark.parametrize("uri", ["{root}/secret", "{root}/evidence/../secret", "s3://bucket/secret", "{root}/evidence"])
def test_files_outside_the_store_are_not_read(store: LocalEvidence, tmp_path: Path, uri: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    file = _file(uri.format(root=tmp_path), b"secret")
    with pytest.raises(FileNotFoundError, match="not in this evidence store"):
        store.read(file)


def test_a_link_does_not_lead_out_of_the_store(store: LocalEvidence, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    store.save("outflow", {"frame.jpg": b"frame"})
    (store.folder / "outflow" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(FileNotFoundError, match="not in this evidence store"):
        store.read(_file(str(store.folder / "outflow" / "link"), b"secret"))


def test_what_replaces_a_file_has_its_name_and_the_old_stays_readable(store: LocalEvidence) -> None:
    (early,) = store.save("outflow/1", {"strip.jpg": b"early"})
    whole = store.replace(early, b"whole")
    assert (whole.name, whole.media_type, whole.size) == ("strip.jpg", "image/jpeg", 5)
    assert whole.uri != early.uri
    assert (store.read(early), store.read(whole)) == (b"early", b"whole")
    assert store.replace(early, b"whole") == whole


def test_a_replacement_that_fails_leaves_nothing_behind(store: LocalEvidence, monkeypatch: pytest.MonkeyPatch) -> None:
    (early,) = store.save("outflow", {"strip.jpg": b"early"})

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        store.replace(early, b"whole")
    assert [path.name for path in (store.folder / "outflow").iterdir()] == ["strip.jpg"]


def test_stored_evidence_is_listed_by_alarm(store: LocalEvidence) -> None:
    began = time.time()
    store.save("vibration/pump-1/1", {"window.npz": b"1234", "verdict.json": b"12"})
    (found,) = store.stored()
    assert (found.name, found.files, found.size) == ("vibration/pump-1/1", ("verdict.json", "window.npz"), 6)
    assert began - 1 <= found.saved_at <= time.time()


def test_what_others_put_into_the_folder_is_no_evidence(store: LocalEvidence) -> None:
    store.save("vibration/1", FILES)
    (store.folder / "README").write_text("of a person")
    (store.folder / "vibration" / "notes.txt").write_text("of a person")
    (store.folder / "my pictures").mkdir()
    (store.folder / "my pictures" / "cat.jpg").write_text("of a person")
    assert [found.name for found in store.stored()] == ["vibration/1"]


def test_deleted_evidence_is_gone_and_deleting_it_again_is_no_error(store: LocalEvidence) -> None:
    (file, *_) = store.save("vibration/1", FILES)
    (found,) = store.stored()
    store.delete(found)
    store.delete(found)
    assert store.stored() == []
    with pytest.raises(FileNotFoundError):
        store.read(file)


def test_leftovers_of_crashed_saves_are_removed_when_they_are_old(store: LocalEvidence) -> None:
    store.save("vibration/1", FILES)
    old, new = store.folder / "vibration" / ".2.abcd", store.folder / "vibration" / ".3.abcd"
    for folder in (old, new):
        folder.mkdir()
        (folder / "frame.jpg").write_bytes(b"half")
    half = store.folder / "vibration" / "1" / ".strip.jpg.abcd"
    half.write_bytes(b"half")
    empty = store.folder / "gone"
    empty.mkdir()
    past = time.time() - 2 * HOUR
    for path in (old / "frame.jpg", old, half, empty):
        os.utime(path, (past, past))
    store.remove_leftovers(time.time() - HOUR)
    assert not old.exists()
    assert not half.exists()
    assert not empty.exists()
    assert (new / "frame.jpg").exists()
    assert len(store.stored()) == 1


def test_two_stores_in_one_folder_read_each_other_and_list_their_own(tmp_path: Path) -> None:
    record = LocalEvidence(tmp_path, apart="worker", leave_free=0)
    worker = LocalEvidence(tmp_path / "worker", within=tmp_path, leave_free=0)
    (window,) = record.save("pump-1", {"window.npz": b"window"})
    (frame,) = worker.save("outflow", {"frame.jpg": b"frame"})
    assert (record.read(frame), worker.read(window)) == (b"frame", b"window")
    assert [found.name for found in record.stored()] == ["pump-1"]
    assert [found.name for found in worker.stored()] == ["outflow"]


def test_names_of_assets_become_harmless_and_stay_different() -> None:
    assert path_part("pump-1") == "pump-1"
    names = ["../../etc", "a/b", "a_b", "a b", "..", "x" * 200, "x" * 201]
    parts = [path_part(name) for name in names]
    assert len(set(parts)) == len(names)
    assert all(part.replace("-", "").replace("_", "").isalnum() for part in parts)


def _file(uri: str, content: bytes) -> EvidenceFile:
    digest = hashlib.sha256(content).hexdigest()
    return EvidenceFile(name="frame.jpg", uri=uri, sha256=digest, size=len(content), media_type="image/jpeg")
