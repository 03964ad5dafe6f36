"""PaDiM on photographs of magnetic tiles, split so that the exposures of one tile stay together."""

from __future__ import annotations

from datetime import UTC, datetime

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from almenara import servable
from almenara.contracts import ModelRef
from almenara.vision import images
from almenara.vision.evaluate import VisionReport, evaluate
from almenara.vision.images import MAX_PIXELS, Sample, groups_given, load_folder
from almenara.vision.shortcuts import compare
from almenara.vision.train import train
from camera_worker.picture import Preparer
from camera_worker.slot import Frame
from camera_worker.view import View
from tests.support.data import require_data

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return load_folder(require_data("vision", "magnetic_tile"))


@pytest.fixture(scope="module")
def report(samples: list[Sample]) -> VisionReport:
    return evaluate(samples, seeds=(0, 1, 2))


def test_the_tiles_have_groups_and_masks(samples: list[Sample]) -> None:
    assert groups_given(samples)
    assert all((sample.mask is None) == sample.normal for sample in samples)


def test_unseen_tiles_are_told_apart(report: VisionReport) -> None:
    assert len(report.image_auroc_per_seed) == 3
    assert report.image_auroc >= 0.78
    assert report.image_auroc == pytest.approx(sum(report.image_auroc_per_seed) / 3)


def test_defects_are_located(report: VisionReport) -> None:
    assert report.pixel_auroc is not None
    assert report.pixel_auroc > 0.7
    assert report.pro is not None
    assert report.pro > 0.65
    assert set(report.per_defect) == {"blowhole", "break", "crack", "fray", "uneven"}


def test_the_promise_is_marked_unverified(report: VisionReport) -> None:
    assert 0 < report.false_alarm_realised < 0.15
    assert any("promise unverified" in note for note in report.notes)


# --- cheaper ways to a score ------------------------------------------------------------------------------


def tank_samples() -> list[Sample]:
    """Frames in the order they were taken, eight neighbours a group."""
    found = []
    for weather in ("daylight", "rain"):
        folder = require_data("vision", "sludge_tank", weather)
        frames = sorted(folder.glob("*.jpg"), key=lambda path: int(path.stem.split("(")[1].rstrip(")")))
        found += [Sample(file, "good", None, f"{weather}-{index // 8}") for index, file in enumerate(frames)]
    return found


def trained(samples: list[Sample]) -> servable.VisionModel:
    candidate = train(samples, name="real", size=128)
    return servable.VisionModel(servable.Package(candidate.card, candidate.graph), ModelRef(name="real", version="1"))


def score(model: servable.VisionModel, body: bytes, enough: tuple[int, int] | None = None) -> float:
    return model.predict(images.decode(body, max_pixels=MAX_PIXELS, enough=enough)).verdict.score


def as_worker_sends(body: bytes, quality: int) -> bytes:
    bgr: NDArray[np.uint8] = cv2.cvtColor(images.decode(body, max_pixels=MAX_PIXELS), cv2.COLOR_RGB2BGR)  # type: ignore[assignment]
    frame = Frame(bgr, 0.0, datetime.now(UTC), 1, 1)
    return Preparer(View(), frozen_after=None).prepare(frame, quality).jpeg


@pytest.mark.parametrize("data", ["tank", "tiles"])
def test_every_frame_keeps_its_verdict_on_the_way_that_its_model_allows(data: str, samples: list[Sample]) -> None:
    """Reduced decoding and the worker's encoding, at the quality that the API asks the worker for."""
    taken = samples if data == "tiles" else tank_samples()
    model = trained(taken)
    threshold, measured = model.package.card.threshold, model.input.reencoding
    assert threshold is not None
    assert measured is not None
    assert measured.pictures >= 20
    assert (model.jpeg_quality == 95) == measured.allowed
    files = [sample.file.read_bytes() for sample in taken]
    whole = np.array([score(model, file) for file in files])
    sent = [as_worker_sends(file, model.jpeg_quality) for file in files]
    ways = {
        "reduced": np.array([score(model, file, images.enough_for(model.input)) for file in files]),
        "sent": np.array([score(model, file, model.enough) for file in sent]),
    }
    for way, scores in ways.items():
        found = compare(whole, scores, threshold.value)
        assert found.allowed, f"{way}: {found.reason}"
