"""PaDiM on photographs of magnetic tiles, split so that the exposures of one tile stay together."""

from __future__ import annotations

import pytest

from almenara.vision.evaluate import VisionReport, evaluate
from almenara.vision.images import Sample, groups_given, load_folder
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
