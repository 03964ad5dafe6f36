"""Evidence of false alarms: a picture, or a window of vibration with its verdict."""

from __future__ import annotations

import numpy as np

from almenara.alarms.records import EvidenceFile
from almenara.contracts import ModelRef, VibrationVerdict
from almenara.evidence import LocalEvidence
from almenara.vision import images
from almenara_api.evidence import Window, save_evidence

ASSET = "line-2/pump-1"
VERDICT = VibrationVerdict(
    model=ModelRef(name="bearing", version="1"),
    label="inner_race",
    probabilities={"inner_race": 1},
    abstained=False,
    windows=1,
    rms=0.1,
    reason="envelope shows BPFI",
)
TOLD: dict[str, str | float] = {"shaft_rpm": 1772.0, "bearing": "6205-2RS", "unit": "g", "asset": ASSET}


def frame(store: LocalEvidence, grey: int) -> tuple[EvidenceFile, ...]:
    jpeg = images.encode_jpeg(np.full((48, 64, 3), grey, np.uint8))
    return store.save(f"outflow/{grey}", {"frame.jpg": jpeg, "verdict.json": b"{}"})


def window(store: LocalEvidence, seed: int, told: dict[str, str | float] | None = None) -> tuple[EvidenceFile, ...]:
    signal = np.random.default_rng(seed).normal(size=12_000).astype(np.float32)
    return save_evidence(store, ASSET, Window(signal, 12_000, TOLD if told is None else told), VERDICT)
