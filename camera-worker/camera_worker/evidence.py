"""Evidence of an alarm on disk: the frame that was scored, its heatmap overlay, the verdict and the seconds around."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import os
import shutil
import uuid
from datetime import datetime
from pathlib import Path

from almenara.contracts import VisionVerdict

STRIP = "strip.jpg"

_SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg"}


class EvidenceFolder:
    """Saves evidence under one folder, a subfolder an alarm, named after the camera and the time of the frame."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(
        self, camera: str, captured_at: datetime, jpeg: bytes, verdict: VisionVerdict, *, strip: bytes | None = None
    ) -> tuple[str, ...]:
        """Writes ``frame.jpg`` and ``verdict.json``, and if there are such an overlay and ``strip.jpg``.

        They are on the disk before this returns, and the subfolder is there whole or not at all. What is there of the
        same camera and moment, as of a video that is played again, stays: the subfolder's name then ends in -2, -3…

        Returns the paths; raises OSError when they cannot be written.
        """
        stamp = captured_at.strftime("%Y%m%dT%H%M%S.%f")[:-3] + "Z"
        name = f"{stamp}-{camera}"
        partial = self._folder / f".{name}.{uuid.uuid4().hex[:8]}"
        files = {"frame.jpg": jpeg, **_overlay(verdict)}
        if strip is not None:
            files[STRIP] = strip
        files["verdict.json"] = _document(camera, captured_at, verdict)
        try:
            partial.mkdir(parents=True)
            for file, content in files.items():
                _write(partial / file, content)
            _sync(partial)
            target = partial.rename(self._free(name))
            _sync(self._folder)
            _sync(self._folder.parent)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return tuple(str(target / file) for file in files)

    def _free(self, name: str) -> Path:
        """A subfolder that is not there yet."""
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        return next(path for path in (self._folder / each for each in names) if not path.exists())


def replace_file(path: Path, content: bytes) -> None:
    """Puts new content in a file's place, on the disk: readers see the old or the new file, whole. Raises OSError."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        _write(partial, content)
        partial.replace(path)
        _sync(path.parent)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _overlay(verdict: VisionVerdict) -> dict[str, bytes]:
    """The heatmap as a file, or none: one that cannot be read must not cost the frame."""
    if verdict.heatmap is None:
        return {}
    try:
        content = base64.b64decode(verdict.heatmap.base64, validate=True)
    except (binascii.Error, ValueError):
        return {}
    return {f"overlay{_SUFFIXES[verdict.heatmap.media_type]}": content}


def _document(camera: str, captured_at: datetime, verdict: VisionVerdict) -> bytes:
    document = {
        "camera": camera,
        "captured_at": captured_at.isoformat(),
        "verdict": verdict.model_dump(mode="json", exclude={"heatmap"}),
    }
    return json.dumps(document, indent=2, ensure_ascii=False).encode()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Has a folder's own entries, new and renamed, on the disk; without it a power cut takes the files with them."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
