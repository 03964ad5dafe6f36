"""Evidence on disk."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from almenara.contracts import ModelRef, Picture, VisionVerdict
from camera_worker.evidence import EvidenceFolder

MOMENT = datetime(2026, 3, 4, 5, 6, 7, 890000, tzinfo=UTC)
VERDICT = VisionVerdict(
    model=ModelRef(name="wall", version="3"), label="anomaly", score=9, anomaly=0.9, p_value=0.01, threshold=5
)


def test_frame_overlay_and_verdict_are_saved(tmp_path: Path) -> None:
    overlay = Picture(media_type="image/png", base64=base64.b64encode(b"overlay").decode())
    verdict = VERDICT.model_copy(update={"heatmap": overlay})
    paths = EvidenceFolder(tmp_path / "evidence").save("outflow", MOMENT, b"jpeg", verdict)
    folder = tmp_path / "evidence" / "20260304T050607.890Z-outflow"
    assert paths == tuple(str(folder / name) for name in ("frame.jpg", "overlay.png", "verdict.json"))
    assert (folder / "frame.jpg").read_bytes() == b"jpeg"
    assert (folder / "overlay.png").read_bytes() == b"overlay"
    document = json.loads((folder / "verdict.json").read_text())
    assert document["verdict"]["model"]["version"] == "3"
    assert "heatmap" not in document["verdict"]
    assert document["captured_at"] == "2026-03-04T05:06:07.890000+00:00"


def test_without_an_overlay_there_is_no_overlay_file(tmp_path: Path) -> None:
    paths = EvidenceFolder(tmp_path).save("outflow", MOMENT, b"jpeg", VERDICT)
    assert [Path(path).name for path in paths] == ["frame.jpg", "verdict.json"]


def test_the_same_moment_again_replaces_the_evidence(tmp_path: Path) -> None:
    folder = EvidenceFolder(tmp_path)
    folder.save("outflow", MOMENT, b"one", VERDICT)
    paths = folder.save("outflow", MOMENT, b"two", VERDICT)
    assert Path(paths[0]).read_bytes() == b"two"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_an_oserror_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "evidence").write_text("in the way")
    with pytest.raises(OSError, match="evidence"):
        EvidenceFolder(tmp_path / "evidence").save("outflow", MOMENT, b"jpeg", VERDICT)
