"""The data folder of a service: its databases copied while they are in use, its files as they are, and both put back.

SQLite files are copied with SQLite's own backup: each copy is the database as it was at one moment, and writers go on.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import IO
from uuid import uuid4

from almenara.backup.schema import known_alarm_revisions, revisions_of
from almenara.backup.streams import BLOCK, Writable, forget, write_tar
from almenara.contracts import Contract
from almenara.errors import ConfigurationError, InputError

_OURS = ".almenara-"
_MARK = f"{_OURS}restoring"
_NEW, _OLD = f"{_OURS}new", f"{_OURS}old"
_MAGIC = b"SQLite format 3\0"
_BESIDE_A_DATABASE = ("-wal", "-shm", "-journal")
_REGENERATED = {"models-cache", "alarms/reserve"}
_LOCKS = (".alive", ".lock")
_LEFTOVER_SECONDS = 24 * 3600.0
_RECORD = "api.db"


class Survey(Contract):
    """What a data folder holds; sizes in bytes."""

    database_bytes: int
    file_bytes: int
    free_bytes: int
    mlflow_revisions: tuple[str, ...]
    alarm_revisions: tuple[str, ...]
    known_alarm_revisions: tuple[str, ...]
    """Of the release that looks."""
    alarms: int
    runs: int
    evidence: int
    """Files."""
    restoring: str | None
    """Id of the backup whose restoration has not ended."""


def survey(folder: Path) -> Survey:
    """Look at a folder; one that is not there is empty."""
    databases, files = _contents(folder)
    revisions = [revisions_of(database) for database in databases]
    mark = folder / _MARK
    here = next(place for place in (folder, *folder.parents) if place.exists())
    return Survey(
        database_bytes=sum(_size(path) for path in databases),
        file_bytes=sum(_size(path) for path in files),
        free_bytes=shutil.disk_usage(here).free,
        mlflow_revisions=_distinct(revisions, "mlflow"),
        alarm_revisions=_distinct(revisions, "alarms"),
        known_alarm_revisions=tuple(sorted(known_alarm_revisions())),
        alarms=sum(_rows(database, "alarms") for database in databases),
        runs=sum(_rows(database, "runs") for database in databases),
        evidence=sum(path.is_file() and path.relative_to(folder).parts[0] == "evidence" for path in files),
        restoring=mark.read_text(encoding="utf-8") if mark.exists() else None,
    )


def write_databases(folder: Path, sink: Writable) -> None:
    """Write consistent copies of all SQLite files as a tar.

    The plant-wide record (``api.db``) is copied last: what a worker believes to have reported is then in it.

    Raises ConfigurationError: the copies, which are made in `folder`, find no room there.
    """
    databases = sorted(_contents(folder)[0], key=lambda path: (path.name == _RECORD, path))
    need, free = max(map(_size, databases), default=0), shutil.disk_usage(folder).free
    if need > free:
        fact = f"A copy of the databases in {folder} needs {need} bytes there, and {free} are free."
        raise ConfigurationError(fact, "Make room, then run the backup again.")
    _remove_leftovers(folder)
    with write_tar(sink) as tar:
        for database in databases:
            copy = folder / f"{_OURS}copy-{uuid4().hex}"
            try:
                _copy_database(database, copy)
                with copy.open("rb") as file:
                    _add(tar, database.relative_to(folder).as_posix(), file)
            finally:
                copy.unlink(missing_ok=True)


def write_files(folder: Path, sink: Writable) -> None:
    """Write everything but databases, and but what is made anew by itself, as a tar.

    A file that is deleted meanwhile is left out. Links are left out.

    Raises InputError: a file was cut off while it was copied.
    """
    with write_tar(sink) as tar:
        for path in _contents(folder)[1]:
            name = path.relative_to(folder).as_posix()
            if path.is_dir():
                member = tarfile.TarInfo(name)
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(member)
                continue
            try:
                file = path.open("rb")
            except FileNotFoundError:
                continue
            with file:
                _add(tar, name, file)
            forget(tar)


def extract(folder: Path, tars: Iterable[IO[bytes]]) -> None:
    """Put what the tars hold beside what `folder` has, for `exchange`.

    Raises InputError: a tar is cut off, or holds something else than files and folders below it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / _NEW
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    for source in tars:
        _extract(source, new)


def exchange(folder: Path) -> None:
    """Replace everything in `folder` by what was extracted; after an interruption, extract again, then exchange."""
    new, old = folder / _NEW, folder / _OLD
    shutil.rmtree(old, ignore_errors=True)
    old.mkdir()
    for entry in _entries(folder):
        entry.rename(old / entry.name)
    for entry in list(new.iterdir()):
        entry.rename(folder / entry.name)
    new.rmdir()
    os.sync()
    shutil.rmtree(old)


def mark(folder: Path, backup: str) -> None:
    """Note that the restoration of a backup is going on."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).write_text(backup, encoding="utf-8")


def unmark(folder: Path) -> None:
    """Note that the restoration has ended."""
    (folder / _MARK).unlink(missing_ok=True)


def _contents(folder: Path) -> tuple[list[Path], list[Path]]:
    """Databases, and everything else that is copied: files and folders, in the order of their names."""
    databases: list[Path] = []
    others: list[Path] = []
    for path in _walk(folder, folder):
        (databases if path.is_file() and _is_database(path) else others).append(path)
    beside = {Path(f"{database}{end}") for database in databases for end in _BESIDE_A_DATABASE}
    return databases, [path for path in others if path not in beside]


def _walk(top: Path, folder: Path) -> Iterator[Path]:
    for entry in sorted(_entries(folder)) if folder.is_dir() else ():
        regenerated = entry.relative_to(top).as_posix() in _REGENERATED or entry.suffix in _LOCKS
        if regenerated or entry.is_symlink():
            continue
        if entry.is_dir():
            yield entry
            yield from _walk(top, entry)
        elif entry.is_file():
            yield entry


def _entries(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if not entry.name.startswith(_OURS)]


def _is_database(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except FileNotFoundError:
        return False


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:
        return 0


def _copy_database(database: Path, copy: Path) -> None:
    # Never read-only: of a database in WAL mode that no process holds open, a reader has to make the index.
    source = sqlite3.connect(f"{database.resolve().as_uri()}?mode=rw", uri=True, timeout=30)
    with closing(source), closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def _add(tar: tarfile.TarFile, name: str, file: IO[bytes]) -> None:
    status = os.fstat(file.fileno())
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = status.st_size, status.st_mtime, status.st_mode & 0o777
    try:
        tar.addfile(member, file)
    except OSError as error:
        if error.errno is not None:
            raise
        fact = f"{name} was cut off while it was copied."
        raise InputError("backup-changed", fact, "Run the backup again.") from error


def _extract(source: IO[bytes], into: Path) -> None:
    try:
        with tarfile.open(fileobj=source, mode="r|", ignore_zeros=True) as tar:
            for member in tar:
                place = PurePosixPath(member.name)
                if place.is_absolute() or ".." in place.parts or not (member.isreg() or member.isdir()):
                    raise InputError("backup-damaged", f"A part of the backup holds {member.name!r}, which is no file.")
                _put(into / place, tar.extractfile(member), member)
                forget(tar)
    except tarfile.TarError as error:
        raise InputError("backup-damaged", f"A part of the backup cannot be unpacked: {error}.") from error


def _put(path: Path, content: IO[bytes] | None, member: tarfile.TarInfo) -> None:
    if content is None:
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        shutil.copyfileobj(content, file, BLOCK)
    path.chmod(member.mode & 0o777)
    os.utime(path, (member.mtime, member.mtime))


def _remove_leftovers(folder: Path) -> None:
    """Removes copies that a process which was killed left behind."""
    for copy in folder.glob(f"{_OURS}copy-*"):
        if _size(copy) and copy.stat().st_mtime < time.time() - _LEFTOVER_SECONDS:
            copy.unlink(missing_ok=True)


def _rows(database: Path, table: str) -> int:
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=rw", uri=True, timeout=30)) as connection:
        there = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchone()
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) if there else 0  # noqa: S608 - ours


def _distinct(revisions: list[dict[str, str]], schema: str) -> tuple[str, ...]:
    return tuple(sorted({found[schema] for found in revisions if schema in found}))
