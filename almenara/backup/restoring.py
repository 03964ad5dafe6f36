"""Restoration of the composed platform.

Nothing is touched before the whole archive has been verified and the installation has been found fit for it. The
databases are loaded under other names and take the place of the old ones at once, in one transaction, so that until
then the old installation is only stopped. A restoration that was interrupted is run again; until it has ended, the
platform stays stopped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from almenara.backup.archive import Archive, Manifest
from almenara.backup.composed import BUCKETS, databases_part, dump_part, files_part
from almenara.backup.folder import Survey
from almenara.backup.host_files import restore_configuration, restore_secrets
from almenara.backup.platform import SERVICES, Platform
from almenara.backup.schema import require_known
from almenara.backup.streams import names_in
from almenara.contracts import Progress
from almenara.errors import AlmenaraError, ConfigurationError, InputError

_STORES = ("postgres", "minio")
_ROWS = {"mlflow": ("runs", "registered_models"), "alarms": ("alarms",)}
_ALL = ("--profile", "*")


@dataclass(frozen=True)
class Restored:
    """What a restoration did.

    Attributes:
        manifest: of the archive.
        replaced: files on this machine that another took the place of; the old ones have a longer name.
        warnings: what could not be restored as it was.
    """

    manifest: Manifest
    replaced: tuple[Path, ...]
    warnings: tuple[str, ...]


def restore(directory: Path, source: Path, *, replace: bool, progress: Progress) -> Restored:
    """Put back what an archive holds, and start the platform.

    Args:
        directory: of docker-compose.yaml, of the installation that is restored.
        source: the archive.
        replace: whether what the installation holds may be lost.
        progress: told a part's name, and the bytes of it.

    Raises InputError: the archive is damaged, of another kind or of a newer release; the installation is not empty.
    ConfigurationError: the platform cannot be reached, stopped or started.
    """
    with Archive(source) as archive:
        archive.verify(progress)
        if archive.manifest.kind != "composed":
            fact = f"{source} is a backup of a data folder, not of the composed platform."
            raise InputError("backup-kind", fact, "Name the folder: almenara restore FILE --var-dir var")
        restore_secrets(archive, directory)
        platform = Platform(directory)
        platform.compose.call("up", "--detach", "--wait", "--no-deps", *_STORES)
        surveys = {service: platform.survey(service) for service in SERVICES}
        _require_fit(platform, archive.manifest, surveys)
        _require_replaceable(platform, archive.manifest, surveys, replace=replace)
        running = _stop(platform)
        try:
            warnings = _put_back(platform, archive, progress)
        except (AlmenaraError, OSError, KeyboardInterrupt) as error:
            reason = error.fact if isinstance(error, AlmenaraError) else str(error) or "it was interrupted."
            fact = f"The restoration has not ended: {reason}"
            remedy = "The services are stopped. When that is set right, run the same command again: it goes on."
            raise ConfigurationError(fact, remedy) from error
        replaced = restore_configuration(archive, platform.configuration_folder)
        try:
            platform.compose.call("up", "--detach", "--wait", "--no-build", *running)
        except AlmenaraError as error:
            fact = f"The backup is restored, but not every service has started: {error.fact}"
            raise ConfigurationError(fact, error.remedy.replace("the command", "`docker compose up --wait`")) from error
        return Restored(archive.manifest, tuple(replaced), tuple(warnings))


def _put_back(platform: Platform, archive: Archive, progress: Progress) -> list[str]:
    """Databases, buckets, data folders; warnings. Between its two marks the installation is neither old nor new."""
    platform.ask("api", "mark", archive.manifest.id)
    stages = _Told(archive, progress)
    _load_databases(platform, stages)
    warnings = platform.write("api", "put-objects", blocks=stages.blocks(BUCKETS))
    for service in SERVICES:
        parts = (databases_part(service), files_part(service))
        size = str(sum(map(archive.size, parts)))
        platform.write(service, "unpack", size, blocks=chain.from_iterable(map(stages.blocks, parts)))
    with archive.open(BUCKETS) as file:
        wanted = {bucket: sorted(keys) for bucket, keys in names_in(file).items()}
    platform.ask("api", "remove-others", text=json.dumps(wanted))
    platform.ask("api", "unmark")
    return warnings


class _Told:
    """Parts of an archive, whose reading is told to a progress."""

    def __init__(self, archive: Archive, progress: Progress) -> None:
        self._archive, self._progress = archive, progress

    def blocks(self, name: str) -> Iterator[bytes]:
        done, total = 0, self._archive.size(name)
        for block in self._archive.blocks(name):
            yield block
            done += len(block)
            self._progress(name, done, total)


def _require_fit(platform: Platform, manifest: Manifest, surveys: dict[str, Survey]) -> None:
    """Raises InputError or ConfigurationError: this release, its server or its disk cannot take the backup."""
    for survey in surveys.values():
        require_known("alarm", manifest.alarm_revisions, frozenset(survey.known_alarm_revisions))
    require_known("MLflow", manifest.mlflow_revisions, platform.known_mlflow_revisions())
    server = platform.postgresql_version()
    if (manifest.postgresql or 0) > server:
        fact = f"The backup is of PostgreSQL {manifest.postgresql}, and the server here is {server}."
        raise InputError("backup-newer", fact, "Install a server of that version or a newer one. Nothing was changed.")
    free = min(survey.free_bytes for survey in surveys.values())
    if free < manifest.needed_bytes:
        needed = manifest.needed_bytes / 2**20
        fact = f"The disk of Docker's volumes has {free / 2**20:.0f} MiB free, and the backup needs {needed:.0f} MiB."
        raise ConfigurationError(fact, "Make room there. Nothing was changed.")


def _require_replaceable(platform: Platform, manifest: Manifest, surveys: dict[str, Survey], *, replace: bool) -> None:
    """Raises InputError: the installation holds something, and nobody said that it may be lost."""
    if replace or surveys["api"].restoring == manifest.id:
        return
    found = {
        f"{service} {what}": getattr(each, what) for service, each in surveys.items() for what in ("alarms", "evidence")
    }
    there = platform.database_sizes()
    for role, name in platform.databases.items():
        if name in there:
            found |= {f"{name} {table}": rows for table, rows in platform.rows(role, _ROWS[role]).items()}
    buckets: dict[str, tuple[int, int]] = platform.ask("api", "survey-buckets")
    found |= {f"bucket {bucket} objects": objects for bucket, (objects, _) in buckets.items()}
    if held := ", ".join(f"{what} {count}" for what, count in found.items() if count):
        fact = f"This installation is not empty: {held}."
        raise InputError("not-empty", fact, "With --replace all of it is given up for the backup. Nothing was changed.")


def _stop(platform: Platform) -> list[str]:
    """Stop everything but the stores; what was running."""
    listed = platform.compose.call(*_ALL, "ps", "--services", "--status", "running").split()
    running = [service for service in listed if service not in _STORES]
    if running:
        platform.compose.call(*_ALL, "stop", *running)
    return running


def _load_databases(platform: Platform, stages: _Told) -> None:
    there = platform.database_sizes()
    for role, name in platform.databases.items():
        fresh, old = _quoted(_fresh(name)), _quoted(f"{name}.old")
        drops = "".join(f"DROP DATABASE IF EXISTS {each} WITH (FORCE);\n" for each in (fresh, old))
        platform.sql("template1", f"{drops}CREATE DATABASE {fresh} TEMPLATE template0;\n")
        platform.load(_fresh(name), stages.blocks(dump_part(role)))
    names = list(platform.databases.values())
    present = [name for name in names if name in there]
    quoted = ", ".join("'" + name.replace("'", "''") + "'" for name in names)
    ends = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ({quoted});\n"  # noqa: S608 - quoted
    away = "".join(f"ALTER DATABASE {_quoted(name)} RENAME TO {_quoted(f'{name}.old')};\n" for name in present)
    into = "".join(f"ALTER DATABASE {_quoted(_fresh(name))} RENAME TO {_quoted(name)};\n" for name in names)
    drop = "".join(f"DROP DATABASE {_quoted(f'{name}.old')} WITH (FORCE);\n" for name in present)
    platform.sql("template1", f"{ends}BEGIN;\n{away}{into}COMMIT;\n{drop}")


def _fresh(name: str) -> str:
    return f"{name}.restoring"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
