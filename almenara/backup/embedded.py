"""Backup and restoration of an installation without containers: everything lies in one folder, ``var/``."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from almenara import __version__
from almenara.backup import folder
from almenara.backup.archive import Archive, ArchiveWriter, Manifest
from almenara.backup.composed import databases_part, files_part, require_room
from almenara.backup.schema import known_alarm_revisions, known_mlflow_revisions, require_known
from almenara.contracts import Progress
from almenara.errors import ConfigurationError, InputError

_NAME = "var"


def back_up(var_dir: Path, target: Path, *, progress: Progress) -> Manifest:
    """Write all of `var_dir` to a new archive, databases before files, while its services may run.

    Raises ConfigurationError: there is no such folder, or no room. InputError: as `ArchiveWriter`; `target` is in it.
    """
    if not var_dir.is_dir():
        raise ConfigurationError(f"There is no folder {var_dir}.", "Name the data folder: --var-dir var")
    if target.resolve().is_relative_to(var_dir.resolve()):
        raise InputError("backup-inside", f"{target} is in the folder that is backed up.", "Name another place for it.")
    found = folder.survey(var_dir)
    need = found.database_bytes + found.file_bytes
    require_room(target.resolve().parent, need)
    with ArchiveWriter(target, progress) as archive:
        with archive.part(databases_part(_NAME), found.database_bytes) as sink:
            folder.write_databases(var_dir, sink)
        with archive.part(files_part(_NAME), found.file_bytes) as sink:
            folder.write_files(var_dir, sink)
        manifest = Manifest(
            id=str(uuid4()),
            kind="embedded",
            made_at=datetime.now(UTC),
            release=__version__,
            folder=str(var_dir.resolve()),
            mlflow_revisions=found.mlflow_revisions,
            alarm_revisions=found.alarm_revisions,
            needed_bytes=need,
        )
        manifest = archive.finish(manifest)
        archive.complete()
    return manifest


def restore(var_dir: Path, source: Path, *, replace: bool, progress: Progress) -> Manifest:
    """Put back what an archive holds; `var_dir` keeps what it has until all of it is on the disk.

    Raises InputError: the archive is damaged, of another kind or of a newer release; the folder is not empty.
    ConfigurationError: a process uses the folder, or there is no room.
    """
    with Archive(source) as archive:
        archive.verify(progress)
        manifest = archive.manifest
        if manifest.kind != "embedded":
            fact = f"{source} is a backup of the composed platform, not of a data folder."
            raise InputError("backup-kind", fact, "Leave --var-dir out.")
        require_known("alarm", manifest.alarm_revisions, known_alarm_revisions())
        require_known("MLflow", manifest.mlflow_revisions, known_mlflow_revisions())
        found = folder.survey(var_dir)
        held = f"{found.alarms} alarms, {found.runs} runs, {found.file_bytes} bytes of files"
        if not replace and found.restoring != manifest.id and (found.alarms or found.runs or found.file_bytes):
            remedy = "With --replace all of it is given up for the backup. Nothing was changed."
            raise InputError("not-empty", f"{var_dir} is not empty: {held}.", remedy)
        _require_unused(var_dir)
        var_dir.mkdir(parents=True, exist_ok=True)
        require_room(var_dir, manifest.needed_bytes)
        folder.mark(var_dir, manifest.id)
        with archive.open(databases_part(_NAME)) as databases, archive.open(files_part(_NAME)) as files:
            folder.extract(var_dir, [databases, files])
        folder.exchange(var_dir)
        folder.unmark(var_dir)
        return manifest


def _require_unused(var_dir: Path) -> None:
    """Raises ConfigurationError when a process of this user has a file of the folder open, where that can be told."""
    top = var_dir.resolve()
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            opened = Path(os.readlink(entry))  # noqa: PTH115 - a pipe's name is no path to resolve
        except OSError:
            continue  # it ended meanwhile, or belongs to another user
        if opened.is_relative_to(top):
            fact = f"Process {entry.parts[2]} uses {var_dir}."
            raise ConfigurationError(fact, "Stop the services, then restore. Nothing was changed.")
