"""Fetching a version of a data set into a folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from minio import Minio

from minio_client.checksum import sha256
from minio_client.datasets.catalogue import BUCKET, Reference, blob_key, load_manifest
from minio_client.datasets.manifest import WORK_FOLDER, Entry, Manifest, walk
from minio_client.download import fetch
from minio_client.errors import StorageError, explained
from minio_client.progress import FileMeter, Meter, Progress, in_parallel

_SHOWN = 5


@dataclass(frozen=True)
class Pulled:
    """What a pull did.

    Attributes:
        version: what the folder now holds.
        fetched: number of files written.
        fetched_size: bytes of them.
        unchanged: number of files that were there as they should be.
        others: paths in the folder that are no part of the version; they were left alone.
    """

    version: str
    fetched: int
    fetched_size: int
    unchanged: int
    others: tuple[str, ...]


def pull(
    storage: Minio,
    reference: Reference,
    folder: Path,
    *,
    bucket: str = BUCKET,
    force: bool = False,
    jobs: int = 4,
    progress: Progress | None = None,
) -> Pulled:
    """Bring a version's files into a folder; those that are there already are not fetched.

    Nothing is ever deleted, and a local file that differs is replaced only with ``force``: without it, nothing at all
    is written. A file appears under its name once it is whole and its SHA-256 right. An interrupted pull goes on
    where it ended.

    Args:
        storage: client.
        reference: the version.
        folder: where to; it is made if it is missing.
        bucket: where data sets are kept.
        force: replace local files that differ.
        jobs: files fetched at the same time.
        progress: told how far it is, first of checking what is there and then of fetching.

    Raises:
        StorageError: no such version, local files that differ, a path that leads through a link, too little space,
            damaged contents, or storage refuses.
    """
    manifest = load_manifest(storage, bucket, reference)
    missing = _missing(manifest, folder, force=force, jobs=jobs, progress=progress)
    with explained(f"{folder} cannot be written"):
        folder.mkdir(parents=True, exist_ok=True)
        _check_space(folder, missing)
        meter = Meter(sum(entries[0].size for entries in missing.values()), progress)

        def bring(entries: list[Entry]) -> None:
            _bring(storage, bucket, folder, entries, force, meter.of(f"fetch {PurePosixPath(entries[0].path).name}"))

        in_parallel(bring, missing.values(), jobs)
        shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)
        ours = {entry.path for entry in manifest.files}
        others = tuple(sorted({path for path, _ in walk(folder)} - ours))
    fetched = [entry for entries in missing.values() for entry in entries]
    return Pulled(
        version=manifest.version,
        fetched=len(fetched),
        fetched_size=sum(entry.size for entry in fetched),
        unchanged=len(manifest.files) - len(fetched),
        others=others,
    )


def _missing(
    manifest: Manifest, folder: Path, *, force: bool, jobs: int, progress: Progress | None
) -> Mapping[str, list[Entry]]:
    """Entries that have to be fetched, by their SHA-256; nothing is written yet."""
    if (folder / WORK_FOLDER).is_symlink():
        raise StorageError(f"{folder / WORK_FOLDER} is a link.", "Take it out: files on their way go there.")
    meter = Meter(manifest.size, progress)

    def state(entry: Entry) -> bool | None:
        with explained(f"{folder / entry.path} cannot be read"):
            found = _is_right(folder, entry)
        meter.add(f"check {PurePosixPath(entry.path).name}", entry.size)
        return found

    states = dict(zip(manifest.files, in_parallel(state, manifest.files, jobs), strict=True))
    different = [entry.path for entry, right in states.items() if right is False]
    if different and not force:
        raise StorageError(
            f"{len(different)} files in {folder} are not those of version {manifest.version[:12]}: {_some(different)}.",
            "Pull into another folder, or replace them with --force.",
        )
    missing: dict[str, list[Entry]] = {}
    for entry, right in states.items():
        if not right:
            missing.setdefault(entry.sha256, []).append(entry)
    return missing


def _is_right(folder: Path, entry: Entry) -> bool | None:
    """Whether a local file is what the entry says; None when there is none."""
    place = folder
    for part in entry.path.split("/")[:-1]:
        place /= part
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise StorageError(f"{place} is no folder, and {entry.path} would go there.", "Pull into another folder.")
    path = folder / entry.path
    if path.is_symlink():
        return False
    if path.is_dir():
        raise StorageError(f"{path} is a folder, and a file would go there.", "Pull into another folder.")
    if not path.exists():
        return None
    return path.stat().st_size == entry.size and sha256(path) == entry.sha256


def _check_space(folder: Path, missing: Mapping[str, list[Entry]]) -> None:
    needed = sum(entry.size for entries in missing.values() for entry in entries)
    begun = sum(size for path, size in _parts(folder) if path.stem in missing)
    free = shutil.disk_usage(folder).free
    if needed - begun > free:
        raise StorageError(f"{folder} has {free} bytes of free space, and {needed - begun} are needed.", "Make room.")


def _parts(folder: Path) -> Iterable[tuple[Path, int]]:
    return [(path, path.stat().st_size) for path in (folder / WORK_FOLDER).glob("*.part")]


def _bring(storage: Minio, bucket: str, folder: Path, entries: list[Entry], force: bool, meter: FileMeter) -> None:
    """Fetch one content and put it to every path that has it."""
    first, *further = entries
    key = blob_key(first.sha256)
    part = folder / WORK_FOLDER / f"{first.sha256}.part"
    with explained(f"{bucket}/{key} cannot be fetched for {first.path}"):
        fetch(storage, bucket, key, part, size=first.size, meter=meter)
        if part.stat().st_size != first.size or sha256(part) != first.sha256:
            part.unlink()
            raise StorageError(
                f"{bucket}/{key} arrived damaged: its SHA-256 is wrong.",
                "Pull again. If that does not help, push the folder that holds the original again.",
            )
        for entry in further:
            copy = part.with_suffix(".copy")
            shutil.copyfile(part, copy)
            _place(copy, folder / entry.path, force=force)
        _place(part, folder / first.path, force=force)


def _place(whole: Path, path: Path, *, force: bool) -> None:
    if path.exists() and not force:
        raise StorageError(f"{path} appeared during the pull and is left alone.", "Move it away, and pull again.")
    path.parent.mkdir(parents=True, exist_ok=True)
    whole.replace(path)


def _some(paths: list[str]) -> str:
    return ", ".join(paths[:_SHOWN]) + (", …" if len(paths) > _SHOWN else "")
