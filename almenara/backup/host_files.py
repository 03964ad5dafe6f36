"""Files of the machine itself in a backup: the configuration folder, and on request the files with secrets."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from almenara.backup.archive import Archive, ArchiveWriter
from almenara.backup.compose import env_files
from almenara.backup.streams import write_tar
from almenara.errors import InputError

CONFIGURATION, SECRETS = "configuration.tar", "secrets.tar"
BEFORE = ".before-restore"
"""Ends the name of a file that another took the place of."""
_SECRET_FILES = ("alarms.env", "cameras.env")
_PLANT_FILES = ("alarms.yaml", "cameras.yaml")


def copy_configuration(archive: ArchiveWriter, folder: Path, directory: Path) -> None:
    """Write the configuration folder as a part; of the release's own deploy/ only what belongs to the plant."""
    if folder == directory / "deploy":
        files = [path for name in _PLANT_FILES if (path := folder / name).is_file()]
    else:
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    _copy(archive, CONFIGURATION, {path.relative_to(folder).as_posix(): path for path in files})


def copy_secrets(archive: ArchiveWriter, directory: Path) -> None:
    """Write .env, alarms.env and cameras.env as a part, those that are there."""
    _copy(archive, SECRETS, {name: path for name, path in _secret_places(directory).items() if path.is_file()})


def restore_secrets(archive: Archive, directory: Path) -> None:
    """Put .env and its like where they are missing; the stores have the passwords of those that are there."""
    places = _secret_places(directory)
    for name, content, mode in _files(archive, SECRETS):
        place = places.get(name)
        if place is not None and not place.exists():
            _write(place, content, mode & 0o600)


def restore_configuration(archive: Archive, folder: Path) -> list[Path]:
    """Put back the files of the configuration folder; those that took another's place, which has a longer name now.

    Raises InputError: the archive names a file outside the folder.
    """
    replaced = []
    for name, content, mode in _files(archive, CONFIGURATION):
        place = (folder / name).resolve()
        if not place.is_relative_to(folder.resolve()):
            raise InputError("backup-damaged", f"The backup's configuration names {name!r}, outside its folder.")
        if place.exists():
            if place.read_bytes() == content:
                continue
            place.replace(place.with_name(place.name + BEFORE))
            replaced.append(place)
        _write(place, content, mode)
    return replaced


def _secret_places(directory: Path) -> dict[str, Path]:
    return {path.name: path for path in env_files(directory)} | {name: directory / name for name in _SECRET_FILES}


def _copy(archive: ArchiveWriter, part: str, files: dict[str, Path]) -> None:
    with archive.part(part) as sink, write_tar(sink) as tar:
        for name, path in files.items():
            content, status = path.read_bytes(), path.stat()
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(content), status.st_mode & 0o777, status.st_mtime
            tar.addfile(member, io.BytesIO(content))


def _files(archive: Archive, part: str) -> Iterator[tuple[str, bytes, int]]:
    """Name, content and mode of the files of a part; nothing if the archive has no such part."""
    if part not in archive:
        return
    with archive.open(part) as file, tarfile.open(fileobj=file) as tar:
        for member in tar:
            if source := tar.extractfile(member):
                yield member.name, source.read(), member.mode & 0o777


def _write(place: Path, content: bytes, mode: int) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as out:
        out.write(content)
