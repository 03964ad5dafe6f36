"""Evidence of a camera's alarm: which files there are and what is in them."""

from __future__ import annotations

import base64
import errno
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from almenara.contracts import ModelRef, Picture, VisionVerdict
from almenara.errors import NoEvidenceError
from almenara.evidence import LocalEvidence
from camera_worker.evidence import save_evidence

MOMENT = datetime(2026, 3, 4, 5, 6, 7, 890000, tzinfo=UTC)
VERDICT = VisionVerdict(
    model=ModelRef(name="wall", version="3"), label="anomaly", score=9, anomaly=0.9, p_value=0.01, threshold=5
)


@pytest.fixture
def store(tmp_path: Path) -> LocalEvidence:
    return LocalEvidence(tmp_path / "evidence", leave_free=0)


def test_frame_overlay_strip_and_verdict_are_saved(store: LocalEvidence) -> None:
    overlay = Picture(media_type="image/png", base64=base64.b64encode(b"overlay").decode())
    verdict = VERDICT.model_copy(update={"heatmap": overlay})
    files = save_evidence(store, "outflow", MOMENT, b"jpeg", verdict, strip=b"strip")
    assert [file.name for file in files] == ["frame.jpg", "overlay.png", "strip.jpg", "verdict.json"]
    assert [store.read(file) for file in files[:3]] == [b"jpeg", b"overlay", b"strip"]
    assert files[0].uri == str(store.folder / "20260304T050607.890Z-outflow" / "frame.jpg")
    document = json.loads(store.read(files[3]))
    assert document["verdict"]["model"]["version"] == "3"
    assert "heatmap" not in document["verdict"]
    assert document["captured_at"] == "2026-03-04T05:06:07.890000+00:00"


def test_without_an_overlay_there_is_no_overlay_file(store: LocalEvidence) -> None:
    files = save_evidence(store, "outflow", MOMENT, b"jpeg", VERDICT)
    assert [file.name for file in files] == ["frame.jpg", "verdict.json"]


def test_an_overlay_that_cannot_be_read_does_not_cost_the_frame(store: LocalEvidence) -> None:
    verdict = VERDICT.model_copy(update={"heatmap": Picture(media_type="image/png", base64="no base64!")})
    files = save_evidence(store, "outflow", MOMENT, b"jpeg", verdict)
    assert [file.name for file in files] == ["frame.jpg", "verdict.json"]


def test_evidence_of_the_same_moment_stays_when_a_video_is_played_again(store: LocalEvidence) -> None:
    saved = [save_evidence(store, "outflow", MOMENT, content, VERDICT)[0] for content in (b"one", b"two", b"three")]
    assert [store.read(file) for file in saved] == [b"one", b"two", b"three"]


def test_a_folder_that_cannot_be_written_is_told_and_leaves_nothing(store: LocalEvidence) -> None:
    store.folder.write_text("in the way")
    with pytest.raises(NoEvidenceError, match="no picture: not a directory") as failure:
        save_evidence(store, "outflow", MOMENT, b"jpeg", VERDICT)
    assert isinstance(failure.value, OSError)
    assert failure.value.errno == errno.ENOTDIR


def test_a_full_disk_is_told_in_plain_words(tmp_path: Path) -> None:
    with pytest.raises(NoEvidenceError, match=r"^no picture: the disk is full$"):
        save_evidence(LocalEvidence(tmp_path, leave_free=1 << 60), "outflow", MOMENT, b"jpeg", VERDICT)
