"""A backup of the composed platform, made while it runs.

The order makes the parts fit together, since each names only what was there before it:

1. The worker's own database comes before the plant-wide record. What the worker believes to have reported is then in
   the record; what it reports again is known there by its key.
2. Databases come before files: evidence is saved before the alarm that names it is written.
3. Files come before buckets: evidence moves from a folder to its bucket, and is removed from the folder after that.
4. MLflow's database comes before its bucket: an artifact is uploaded before the run or version that names it is done.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from almenara import __version__
from almenara.backup.archive import Archive, ArchiveWriter, Manifest, Sink
from almenara.backup.folder import Survey
from almenara.backup.host_files import copy_configuration, copy_secrets
from almenara.backup.platform import SERVICES, Platform
from almenara.contracts import Progress
from almenara.errors import ConfigurationError

BUCKETS = "buckets.tar"
_MARGIN_BYTES = 64 * 2**20


def databases_part(service: str) -> str:
    return f"databases/{service}.tar"


def dump_part(role: str) -> str:
    return f"databases/{role}.dump"


def files_part(service: str) -> str:
    return f"files/{service}.tar"


@dataclass(frozen=True)
class _Sizes:
    """What is there, in bytes."""

    services: dict[str, Survey]
    databases: dict[str, int]
    buckets: int

    @property
    def total(self) -> int:
        return (
            sum(each.database_bytes + each.file_bytes for each in self.services.values())
            + sum(self.databases.values())
            + self.buckets
        )


def back_up(directory: Path, target: Path, *, secrets: bool, progress: Progress) -> Manifest:
    """Write everything the platform of `directory` keeps to a new archive.

    Args:
        directory: of docker-compose.yaml.
        target: the archive; only its owner can read it.
        secrets: also .env, alarms.env and cameras.env.
        progress: told a part's name, and the bytes of it.

    Raises ConfigurationError: the platform is not up, or the disk has no room. InputError: as `ArchiveWriter`, or a
    file was cut off while it was copied.
    """
    platform = Platform(directory)
    sizes = _survey(platform)
    require_room(target.resolve().parent, sizes.total)
    with ArchiveWriter(target, progress) as archive:
        for service in SERVICES:
            expected = sizes.services[service].database_bytes
            _copy_stream(platform, service, "databases", archive, databases_part(service), expected)
        for role, name in platform.databases.items():
            with archive.part(dump_part(role), sizes.databases[name]) as sink:
                _pour(platform.dump(role), sink)
        for service in SERVICES:
            expected = sizes.services[service].file_bytes
            _copy_stream(platform, service, "files", archive, files_part(service), expected)
        _copy_stream(platform, "api", "objects", archive, BUCKETS, sizes.buckets)
        copy_configuration(archive, platform.configuration_folder, platform.compose.directory)
        if secrets:
            copy_secrets(archive, platform.compose.directory)
        manifest = archive.finish(_manifest(platform, sizes, secrets=secrets))
        archive.check(lambda written: _check_dumps(platform, written))
        archive.complete()
    return manifest


def require_room(folder: Path, need: int) -> None:
    """Raises ConfigurationError when `folder` has no room for so many bytes."""
    free = shutil.disk_usage(folder).free
    if free < need + _MARGIN_BYTES:
        fact = f"{folder} has {free / 2**20:.0f} MiB free, and {(need + _MARGIN_BYTES) / 2**20:.0f} MiB may be needed."
        raise ConfigurationError(fact, "Make room there, or name another place.")


def _survey(platform: Platform) -> _Sizes:
    services = {service: platform.survey(service) for service in SERVICES}
    there = platform.database_sizes()
    for name in platform.databases.values():
        if name not in there:
            raise ConfigurationError(
                f"The database {name} is not there.", "Start the platform: docker compose up --wait"
            )
    buckets: dict[str, tuple[int, int]] = platform.ask("api", "survey-buckets")
    names = platform.databases.values()
    return _Sizes(services, {name: there[name] for name in names}, sum(size for _, size in buckets.values()))


def _manifest(platform: Platform, sizes: _Sizes, *, secrets: bool) -> Manifest:
    surveys = sizes.services.values()
    alarms = {revision for each in surveys for revision in each.alarm_revisions}
    return Manifest(
        id=str(uuid4()),
        kind="composed",
        made_at=datetime.now(UTC),
        release=__version__,
        images=platform.images(),
        postgresql=platform.postgresql_version(),
        mlflow_revisions=platform.revision("mlflow"),
        alarm_revisions=tuple(sorted(alarms.union(platform.revision("alarms")))),
        needed_bytes=sizes.total,
        secrets=secrets,
    )


def _copy_stream(
    platform: Platform, service: str, action: str, archive: ArchiveWriter, name: str, expected: int
) -> None:
    with archive.part(name, expected) as sink:
        _pour(platform.read(service, action), sink)


def _pour(blocks: Iterable[bytes], sink: Sink) -> None:
    for block in blocks:
        sink.write(block)


def _check_dumps(platform: Platform, archive: Archive) -> None:
    for role in platform.databases:
        platform.check_dump(archive.blocks(dump_part(role)))
