"""A data folder is copied while it is in use, and put back so that an interruption never mixes old and new."""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from almenara.alarms import AlarmStore
from almenara.backup import folder
from almenara.backup.streams import Writable
from almenara.errors import ConfigurationError, InputError


def tar_of(write: Callable[[Path, Writable], None], source: Path) -> io.BytesIO:
    sink = io.BytesIO()
    write(source, sink)
    return io.BytesIO(sink.getvalue())


def names(tar: io.BytesIO) -> list[str]:
    with tarfile.open(fileobj=tar) as opened:
        found = opened.getnames()
    tar.seek(0)
    return found


def hostile(name: str, kind: bytes = tarfile.REGTYPE) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)
    return io.BytesIO(out.getvalue())


@pytest.fixture
def var(tmp_path: Path) -> Path:
    var = tmp_path / "var"
    for file in (
        "evidence/outflow/1/frame.jpg",
        "models-cache/big.onnx",
        "alarms/reserve",
        "alarms/alarms.log",
        "alarms/worker.lock",
    ):
        (var / file).parent.mkdir(parents=True, exist_ok=True)
        (var / file).write_bytes(file.encode())
    (var / "confirmed-normal").mkdir()
    for name in ("api.db", "worker.db"):
        AlarmStore(f"sqlite:///{var / 'alarms' / name}").close()
    return var


def restored(var: Path, target: Path) -> Path:
    folder.extract(target, [tar_of(folder.write_databases, var), tar_of(folder.write_files, var)])
    folder.exchange(target)
    return target


def test_files_and_empty_folders_come_back_as_they_were(var: Path, tmp_path: Path) -> None:
    target = restored(var, tmp_path / "new")
    assert (target / "evidence/outflow/1/frame.jpg").read_bytes() == b"evidence/outflow/1/frame.jpg"
    assert (target / "confirmed-normal").is_dir()
    before = (var / "alarms/alarms.log").stat()
    assert (target / "alarms/alarms.log").stat().st_mtime == pytest.approx(before.st_mtime, abs=1)


def test_what_is_made_anew_by_itself_is_left_out(var: Path) -> None:
    listed = names(tar_of(folder.write_files, var))
    assert not [
        name for name in listed if name.startswith("models-cache") or name.endswith(("reserve", ".db", ".lock"))
    ]


def test_a_database_in_use_is_copied_with_what_is_committed_and_nothing_else(var: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(var / "alarms/worker.db", isolation_level=None)) as writer:
        writer.execute("CREATE TABLE numbers (n INTEGER)")
        writer.execute("INSERT INTO numbers VALUES (1)")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO numbers VALUES (2)")
        assert (var / "alarms/worker.db-wal").stat().st_size > 0
        target = restored(var, tmp_path / "new")
        writer.execute("COMMIT")
    with closing(sqlite3.connect(target / "alarms/worker.db")) as copy:
        assert copy.execute("SELECT n FROM numbers").fetchall() == [(1,)]
    assert not (target / "alarms/worker.db-wal").exists()


def test_the_record_is_copied_after_the_workers_databases(var: Path) -> None:
    assert names(tar_of(folder.write_databases, var)) == ["alarms/worker.db", "alarms/api.db"]


def test_copies_leave_nothing_in_the_folder(var: Path) -> None:
    tar_of(folder.write_databases, var)
    assert not list(var.glob(".almenara-*"))


def test_copies_of_a_process_that_was_killed_long_ago_are_removed(var: Path) -> None:
    old, young = var / ".almenara-copy-old", var / ".almenara-copy-young"
    for path in (old, young):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 10 * 86400,) * 2)
    tar_of(folder.write_databases, var)
    assert not old.exists()
    assert young.exists()


def test_no_room_for_a_copy_is_told_before_anything_is_written(var: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(var)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    sink = io.BytesIO()
    with pytest.raises(ConfigurationError, match="10 are free"):
        folder.write_databases(var, sink)
    assert sink.getvalue() == b""


def test_what_was_there_is_replaced(var: Path, tmp_path: Path) -> None:
    target = tmp_path / "new"
    (target / "evidence/later").mkdir(parents=True)
    (target / "alarms").mkdir()
    (target / "alarms/worker.db-wal").write_bytes(b"of another database")
    restored(var, target)
    assert not (target / "evidence/later").exists()
    assert not (target / "alarms/worker.db-wal").exists()


def test_a_tar_that_is_cut_off_leaves_what_was_there(var: Path) -> None:
    before = sorted(path for path in var.rglob("*") if ".almenara-" not in str(path))
    (var / "zzz").write_bytes(b"x" * 5000)
    broken = tar_of(folder.write_files, var).getvalue()
    broken = broken[: broken.index(b"x" * 5000) + 3000]
    (var / "zzz").unlink()
    with pytest.raises(InputError):
        folder.extract(var, [io.BytesIO(broken)])
    assert sorted(path for path in var.rglob("*") if ".almenara-" not in str(path)) == before


@pytest.mark.parametrize("name", ["../out", "/etc/out", "a/../../out"])
def test_a_name_outside_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="which is no file"):
        folder.extract(tmp_path / "var", [hostile(name)])
    assert not (tmp_path / "out").exists()


def test_a_link_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="which is no file"):
        folder.extract(tmp_path / "var", [hostile("link", tarfile.SYMTYPE)])


def test_an_interrupted_exchange_is_ended_by_the_next_call(var: Path, tmp_path: Path) -> None:
    target = restored(var, tmp_path / "new")
    (target / ".almenara-old").mkdir()
    (target / "alarms").rename(target / ".almenara-old" / "alarms")
    restored(var, target)
    assert (target / "alarms/worker.db").exists()
    assert not list(target.glob(".almenara-*"))


def test_survey_tells_what_is_there(var: Path) -> None:
    folder.mark(var, "backup-1")
    found = folder.survey(var)
    assert (found.alarms, found.runs, found.evidence) == (0, 0, 1)
    assert found.alarm_revisions == ("0003",)
    assert found.mlflow_revisions == ()
    assert found.restoring == "backup-1"
    folder.unmark(var)
    assert folder.survey(var).restoring is None


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    found = folder.survey(tmp_path / "none")
    assert (found.database_bytes, found.file_bytes, found.alarms) == (0, 0, 0)
