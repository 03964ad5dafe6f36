"""Confirmed normals: what a false alarm showed, kept for good in the form in which `almenara train` reads data."""

from __future__ import annotations

import csv
import fcntl
import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from almenara.alarms.records import EvidenceFile
from almenara.contracts import AlarmKind
from almenara.errors import InputError
from almenara.evidence.base import EvidenceReader, path_part
from almenara.evidence.durable import put_file
from almenara.manifests import RECORDING_COLUMNS, open_manifest

_POSTED = ("bearing", "shaft_rpm", "unit")
_SHOWN = {"vision": "frame.jpg", "vibration": "window.npz"}


def keep_normal(
    evidence: Sequence[EvidenceFile], store: EvidenceReader, folder: Path, source: str, kind: AlarmKind
) -> Path | None:
    """Keeps the frame or window of a false alarm as normal data; a second time changes nothing.

    A frame goes to ``vision/SOURCE/good/``, a window to ``vibration/SOURCE/`` with a line in its ``manifest.csv``:
    both folders are data sets. Files are called after their content's SHA-256.

    Args:
        evidence: of the alarm.
        store: reads it.
        folder: of all confirmed normals; no retention goes there.
        source: camera or asset.
        kind: of the alarm.

    Returns the file, or None when the evidence has neither. Raises OSError, and InputError for a window or a manifest
    that cannot be read.
    """
    shown = _shown(evidence, kind)
    if shown is None:
        return None
    path = _place(shown, folder, source, kind)
    if kind == "vision":
        if not path.exists():
            put_file(path, store.read(shown))
        return path
    content = store.read(shown)
    row = _row(content, path.name, source)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path.parent):
        put_file(path, content)
        _add_row(path.parent / "manifest.csv", row)
    return path


def drop_normal(evidence: Sequence[EvidenceFile], folder: Path, source: str, kind: AlarmKind) -> None:
    """Takes back what `keep_normal` kept of an alarm, its line of the manifest too; nothing if it kept nothing.

    Raises OSError, and InputError for a manifest that cannot be read.
    """
    shown = _shown(evidence, kind)
    if shown is None:
        return
    path = _place(shown, folder, source, kind)
    if not path.exists():
        return
    if kind == "vibration":
        with _alone(path.parent):
            _remove_row(path.parent / "manifest.csv", path.name)
            path.unlink(missing_ok=True)
    else:
        path.unlink(missing_ok=True)


def _shown(evidence: Sequence[EvidenceFile], kind: AlarmKind) -> EvidenceFile | None:
    return next((file for file in evidence if file.name == _SHOWN.get(kind)), None)


def _place(shown: EvidenceFile, folder: Path, source: str, kind: AlarmKind) -> Path:
    data = folder / kind / path_part(source)
    name = f"{shown.sha256[:32]}{Path(shown.name).suffix}"
    return data / "good" / name if kind == "vision" else data / name


def _row(content: bytes, name: str, source: str) -> dict[str, str]:
    """A window's line of the manifest, from what was posted with it."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as window:
            posted = {
                key.removeprefix("posted_"): str(window[key]) for key in window.files if key.startswith("posted_")
            }
            rate = float(window["sampling_rate_hz"])
    except (zipfile.BadZipFile, ValueError, EOFError, KeyError, TypeError) as error:
        fact = f"The window of the false alarm of {source} cannot be read: {error}."
        raise InputError("evidence-unreadable", fact) from error
    return posted | {
        "file": name,
        "channel": "signal",
        "record": f"confirmed-{Path(name).stem}",
        "asset": source,
        "sampling_rate_hz": f"{rate:g}",
        "fault": "normal",
    }


def _add_row(manifest: Path, row: dict[str, str]) -> None:
    """Adds a line unless its file has one; people may have changed the others."""
    text = manifest.read_text(encoding="utf-8-sig") if manifest.exists() else ",".join(RECORDING_COLUMNS) + "\n"
    if manifest.exists():
        with open_manifest(manifest) as rows:
            columns = list(rows.fieldnames or RECORDING_COLUMNS)
            if any(known["file"] == row["file"] for known in rows):
                return
    else:
        columns = list(RECORDING_COLUMNS)
    line = io.StringIO()
    csv.DictWriter(line, columns, restval="", extrasaction="ignore", lineterminator="\n").writerow(row)
    put_file(manifest, f"{text.rstrip()}\n{line.getvalue()}".encode())


def _remove_row(manifest: Path, file: str) -> None:
    """Removes the line of a file; the others keep what people wrote there."""
    if not manifest.exists():
        return
    text = io.StringIO()
    with open_manifest(manifest) as rows:
        columns = list(rows.fieldnames or ())
        kept = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
        kept.writeheader()
        kept.writerows(row for row in rows if row.get("file") != file)
    put_file(manifest, text.getvalue().encode())


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else, in this process or another, is in such a block for the folder."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
