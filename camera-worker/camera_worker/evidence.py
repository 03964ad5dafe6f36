"""Evidence of a camera's alarm: the frame that was scored, its heatmap overlay, the verdict and the seconds around."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime

from almenara.alarms.records import EvidenceFile
from almenara.contracts import VisionVerdict
from almenara.errors import NoEvidenceError
from almenara.evidence import EvidenceStore, path_part

STRIP = "strip.jpg"

_SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg"}


def save_evidence(
    store: EvidenceStore,
    camera: str,
    captured_at: datetime,
    jpeg: bytes,
    verdict: VisionVerdict,
    *,
    strip: bytes | None = None,
) -> tuple[EvidenceFile, ...]:
    """Saves ``frame.jpg`` and ``verdict.json``, and if there are such an overlay and ``strip.jpg``.

    Raises NoEvidenceError when they cannot be written.
    """
    stamp = captured_at.strftime("%Y%m%dT%H%M%S.%f")[:-3] + "Z"
    files = {"frame.jpg": jpeg, **_overlay(verdict)}
    if strip is not None:
        files[STRIP] = strip
    files["verdict.json"] = _document(camera, captured_at, verdict)
    try:
        return store.save(f"{stamp}-{path_part(camera)}", files)
    except OSError as error:
        raise NoEvidenceError.because("picture", error) from error


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
