"""The archive of a backup: a plain tar of parts, closed by a manifest and by the SHA-256 of everything in it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

from pydantic import Field, ValidationError

from almenara.backup.streams import BLOCK
from almenara.contracts import Contract, Progress
from almenara.errors import InputError

MANIFEST, CHECKSUMS = "manifest.json", "SHA256SUMS"
_DAMAGED = "Take another copy of it, or an earlier backup. Nothing was changed."


class Part(Contract):
    """One file of the archive: its size in bytes and its SHA-256 as hexadecimal digits."""

    name: str
    size: int
    sha256: str


class Manifest(Contract):
    """What an archive holds, and which release made it."""

    format: Literal[1] = 1
    id: str
    kind: Literal["composed", "embedded"]
    made_at: datetime
    release: str
    folder: str | None = None
    """Of an embedded installation; MLflow's artifact addresses name it."""
    images: dict[str, str] = Field(default_factory=dict)
    """Service to image and id."""
    postgresql: int | None = None
    """Major version of the server that the dumps come from."""
    mlflow_revisions: tuple[str, ...] = ()
    alarm_revisions: tuple[str, ...] = ()
    needed_bytes: int
    """Disk space that all of it takes once it is restored, at most."""
    secrets: bool = False
    parts: tuple[Part, ...] = ()


class Sink:
    """Takes the bytes of one part.

    Attributes:
        size: bytes so far.
    """

    def __init__(self, file: IO[bytes], stage: str, expected: int, progress: Progress) -> None:
        self._file, self._stage, self._expected, self._progress = file, stage, expected, progress
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, block: bytes) -> int:
        self._file.write(block)
        self._digest.update(block)
        self.size += len(block)
        self._progress(self._stage, self.size, max(self.size, self._expected))
        return len(block)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class ArchiveWriter:
    """Writes an archive under a hidden name; `complete` gives it its own. A context manager.

    Parts stream: neither their size nor their end has to be known. Without `complete` nothing is left behind.

    Raises InputError: something has that name already, or is about to.
    """

    def __init__(self, path: Path, progress: Progress) -> None:
        _require_free(path)
        self._path, self._progress = path, progress
        self._partial = path.with_name(f".{path.name}.partial")
        self._parts: list[Part] = []

    def __enter__(self) -> Self:
        self._file = os.fdopen(os.open(self._partial, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            fact = f"Another backup is writing {self._path}."
            raise InputError("backup-exists", fact, "Wait for it, or name another file.") from error
        self._file.truncate()  # what a backup that was killed left behind
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._partial.unlink(missing_ok=True)

    @contextmanager
    def part(self, name: str, expected: int = 0) -> Iterator[Sink]:
        """Takes one part; `expected` bytes are for the progress alone."""
        start = self._file.tell()
        self._file.write(_header(name, 0))
        sink = Sink(self._file, name, expected, self._progress)
        yield sink
        self._file.write(b"\0" * (-sink.size % tarfile.BLOCKSIZE))
        end = self._file.tell()
        self._file.seek(start)
        self._file.write(_header(name, sink.size))
        self._file.seek(end)
        self._progress(name, sink.size, sink.size)
        self._parts.append(Part(name=name, size=sink.size, sha256=sink.sha256))

    def finish(self, manifest: Manifest) -> Manifest:
        """Writes the manifest and the checksums, reads the archive back, and has it on the disk.

        Raises InputError: what the disk gives back is not what was written.
        """
        manifest = manifest.model_copy(update={"parts": tuple(self._parts)})
        with self.part(MANIFEST) as sink:
            sink.write(manifest.model_dump_json(indent=2).encode())
        sums = "".join(f"{part.sha256}  {part.name}\n" for part in self._parts)
        with self.part(CHECKSUMS) as sink:
            sink.write(sums.encode())
        self._file.write(b"\0" * (2 * tarfile.BLOCKSIZE))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.check(lambda archive: archive.verify(self._progress))
        return manifest

    def check(self, look: Callable[[Archive], None]) -> None:
        """Gives what is written, once it is finished, to `look`."""
        with Archive(self._partial) as archive:
            look(archive)

    def complete(self) -> None:
        """Gives the archive its name, unless something took it meanwhile: then raises InputError."""
        _require_free(self._path)
        self._partial.rename(self._path)


class Archive:
    """An archive that is read; a context manager.

    Raises InputError: the file is no archive of a backup, is cut off, or is of a newer format.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._tar = tarfile.open(path, "r:")  # noqa: SIM115 - closed by `__exit__`
        except tarfile.TarError as error:
            raise InputError("backup-unreadable", f"{path} is no archive of a backup: {error}.", _DAMAGED) from error
        try:
            members = {member.name: member for member in self._tar if member.isreg()}
            self._members = members
            if not {MANIFEST, CHECKSUMS} <= members.keys():
                raise self._damaged("it is cut off: its manifest, which is written last, is missing")
            self.manifest = self._manifest()
        except tarfile.TarError as error:
            raise self._damaged(str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tar.close()

    def verify(self, progress: Progress) -> None:
        """Reads everything and compares it with the checksums; raises InputError."""
        sums = dict(line.split("  ", 1)[::-1] for line in self._text(CHECKSUMS).splitlines() if "  " in line)
        listed = {part.name: part.sha256 for part in self.manifest.parts}
        if {**listed, MANIFEST: sums.get(MANIFEST, "")} != sums:
            raise self._damaged("its manifest and its checksums differ")
        if self._members.keys() != sums.keys() | {CHECKSUMS}:
            raise self._damaged("it does not hold the parts that its checksums name")
        total, done = sum(self._members[name].size for name in sums), 0
        for name, expected in sums.items():
            digest = hashlib.sha256()
            for block in self.blocks(name):
                digest.update(block)
                done += len(block)
                progress("verify", done, total)
            if digest.hexdigest() != expected:
                raise self._damaged(f"the SHA-256 of its part {name} is wrong")

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def size(self, name: str) -> int:
        """Bytes of a part."""
        return self._members[name].size

    def open(self, name: str) -> IO[bytes]:
        """A part as a file that can be read and sought."""
        file = self._tar.extractfile(self._members[name])
        assert file is not None  # noqa: S101 - regular files alone are members
        return file

    def blocks(self, name: str) -> Iterator[bytes]:
        """A part in blocks of 1 MiB; raises InputError when the file ends before it."""
        with self.open(name) as file:
            try:
                while block := file.read(BLOCK):
                    yield block
            except tarfile.TarError as error:
                raise self._damaged(str(error)) from error

    def _text(self, name: str) -> str:
        try:
            return b"".join(self.blocks(name)).decode()
        except UnicodeDecodeError as error:
            raise self._damaged(f"{name} is no text") from error

    def _manifest(self) -> Manifest:
        try:
            return Manifest.model_validate_json(self._text(MANIFEST))
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, each["loc"])) or "JSON" for each in error.errors())
            fact = f"This release does not understand the manifest of {self._path} ({fields})."
            raise InputError(
                "backup-format", fact, "Restore it with the release that made it, or a newer one."
            ) from error

    def _damaged(self, what: str) -> InputError:
        return InputError("backup-damaged", f"{self._path} cannot be restored: {what}.", _DAMAGED)


def _require_free(path: Path) -> None:
    if path.exists():
        raise InputError("backup-exists", f"{path} is there already.", "Name another file.")


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o600, int(time.time())
    return member.tobuf(tarfile.GNU_FORMAT)
