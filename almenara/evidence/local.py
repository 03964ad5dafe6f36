"""Evidence in a local folder, a subfolder an alarm."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from almenara.alarms.records import EvidenceFile
from almenara.evidence.base import (
    MOST_BYTES,
    Stored,
    check,
    check_name,
    describe,
    disk_full,
    is_name,
    replacement_name,
)
from almenara.evidence.durable import create_folder, put_file, sync


class LocalEvidence:
    """An `EvidenceStore` in a folder.

    Args:
        folder: made when the first evidence is saved.
        within: a folder above it whose evidence, that of other stores, can be read too.
        apart: name of a folder in it that belongs to another store.
        leave_free: bytes of the disk that evidence never takes: they are left for the alarms themselves.
    """

    def __init__(
        self, folder: Path, *, within: Path | None = None, apart: str | None = None, leave_free: int = 16 * 2**20
    ) -> None:
        self.folder = folder.resolve()
        self._within = (within or folder).resolve()
        self._other = self.folder / apart if apart else None
        self._leave_free = leave_free

    def save(self, name: str, files: Mapping[str, bytes]) -> tuple[EvidenceFile, ...]:
        check_name(name)
        self._check_room(sum(map(len, files.values())))
        target = self._free(name)
        described = tuple(describe(file, str(target / file), content) for file, content in files.items())
        create_folder(target, files)
        self._sync_above(target.parent)
        return described

    def read(self, file: EvidenceFile) -> bytes:
        path = _inside(self._within, file)
        if file.size > MOST_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), file.uri)
        with path.open("rb") as stream:
            return check(file, stream.read(file.size + 1))

    def replace(self, file: EvidenceFile, content: bytes) -> EvidenceFile:
        path = _inside(self.folder, file)
        return self.add(path.parent.relative_to(self.folder).as_posix(), file, content)

    def add(self, name: str, file: EvidenceFile, content: bytes) -> EvidenceFile:
        """Saves what is shown instead of `file` with the evidence called `name`, there or not. Raises OSError."""
        self._check_room(len(content))
        path = self.folder / name / replacement_name(file, content)
        put_file(path, content)
        self._sync_above(path.parent)
        return describe(file.name, str(path), content)

    def stored(self) -> list[Stored]:
        found = []
        for folder, below, names in os.walk(self.folder):
            path = Path(folder)
            below[:] = [name for name in below if is_name(name) and path / name != self._other]
            entries = [] if below or path == self.folder else list(_entries(path, names))
            if entries:
                found.append(
                    Stored(
                        name=path.relative_to(self.folder).as_posix(),
                        files=tuple(sorted(name for name, _ in entries)),
                        size=sum(status.st_size for _, status in entries),
                        saved_at=min(status.st_mtime for _, status in entries),
                    )
                )
        return found

    def delete(self, stored: Stored) -> None:
        check_name(stored.name)
        try:
            shutil.rmtree(self.folder / stored.name)
        except FileNotFoundError:
            return

    def start(self) -> None:
        """Nothing goes on in the background."""

    def close(self) -> None:
        """Nothing goes on in the background."""

    def remove_leftovers(self, before: float) -> None:
        """Also removes empty folders."""
        for folder, _, names in os.walk(self.folder, topdown=False):
            path = Path(folder)
            for name in names:
                if name.startswith(".") and _untouched(path / name, before):
                    (path / name).unlink(missing_ok=True)
            if path == self.folder or not _untouched(path, before):
                continue
            if path.name.startswith("."):
                shutil.rmtree(path, ignore_errors=True)
            else:
                _remove_if_empty(path)

    def _check_room(self, size: int) -> None:
        there = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        if shutil.disk_usage(there).free < size + self._leave_free:
            raise disk_full(str(self.folder))

    def _free(self, name: str) -> Path:
        """A folder that is not there yet."""
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        return next(path for path in (self.folder / each for each in names) if not path.exists())

    def _sync_above(self, folder: Path) -> None:
        """Has the entries of `folder` itself and of all above it, up to the store's own, on the disk."""
        while folder.is_relative_to(self.folder):
            folder = folder.parent
            sync(folder)


def _inside(folder: Path, file: EvidenceFile) -> Path:
    """The path of a file in `folder`: records come from elsewhere too, and must not open any file there is."""
    path = Path(file.uri).resolve()
    if path == folder or not path.is_relative_to(folder):
        raise FileNotFoundError(errno.ENOENT, "it is not in this evidence store", file.uri)
    return path


def _entries(folder: Path, names: list[str]) -> Iterator[tuple[str, os.stat_result]]:
    """The finished files, without those that vanish meanwhile."""
    for name in names:
        if not name.startswith("."):
            try:
                yield name, (folder / name).stat()
            except FileNotFoundError:
                continue


def _untouched(path: Path, before: float) -> bool:
    try:
        return path.stat().st_mtime < before
    except FileNotFoundError:
        return False


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ENOTEMPTY}:
            raise
