"""The evidence of an asset's alarm: the window, its spectrum and its verdict."""

from __future__ import annotations

import errno
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from almenara.contracts import ModelRef, VibrationVerdict
from almenara.errors import NoEvidenceError
from almenara.evidence import LocalEvidence
from almenara_api.evidence import Window, save_evidence

SECONDS = np.arange(12_000) / 12_000
WINDOW = Window((0.5 * np.sin(2 * np.pi * 300 * SECONDS)).astype(np.float32), 12_000, {"shaft_rpm": 1772.0})
VERDICT = VibrationVerdict(
    model=ModelRef(name="bearing", version="1"),
    label="unknown",
    probabilities={"normal": 1},
    abstained=True,
    windows=1,
    rms=0.35,
    reason="unlike the baseline",
)


def test_the_window_its_spectrum_and_its_verdict_are_saved(tmp_path: Path) -> None:
    store = LocalEvidence(tmp_path, leave_free=0)
    window, verdict = save_evidence(store, "pump-1", WINDOW, VERDICT)
    assert (window.name, verdict.name) == ("window.npz", "verdict.json")
    assert Path(window.uri).is_relative_to(tmp_path / "vibration" / "pump-1")
    assert json.loads(store.read(verdict))["reason"] == "unlike the baseline"
    with np.load(BytesIO(store.read(window)), allow_pickle=False) as kept:
        np.testing.assert_array_equal(kept["signal"], WINDOW.signal)
        assert (kept["sampling_rate_hz"], kept["posted_shaft_rpm"]) == (12_000, 1772)
        loudest = kept["amplitude"].argmax()
        assert kept["frequency_hz"][loudest] == 300
        assert kept["amplitude"][loudest] == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("asset", ["../../etc", "a/b", "..", "pump 1; rm", "x" * 200])
def test_it_stays_in_its_folder_whatever_the_asset_is_called(tmp_path: Path, asset: str) -> None:
    for file in save_evidence(LocalEvidence(tmp_path, leave_free=0), asset, WINDOW, VERDICT):
        assert Path(file.uri).resolve().is_relative_to(tmp_path / "vibration")


def test_a_full_disk_is_told_in_plain_words(tmp_path: Path) -> None:
    with pytest.raises(NoEvidenceError, match=r"^no window: the disk is full$") as failure:
        save_evidence(LocalEvidence(tmp_path, leave_free=1 << 60), "pump-1", WINDOW, VERDICT)
    assert failure.value.errno == errno.ENOSPC
