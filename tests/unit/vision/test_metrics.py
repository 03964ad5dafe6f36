"""Metrics against cases that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from almenara.vision import plots
from almenara.vision.images import decode
from almenara.vision.metrics import auroc, average_precision, per_region_overlap, resize_mask


def test_auroc_counts_pairs() -> None:
    assert auroc([1, 2, 3, 4], [False, True, False, True]) == 0.75
    assert auroc([1, 1], [False, True]) == 0.5


def test_average_precision_of_a_mixed_order() -> None:
    assert average_precision([4, 3, 2, 1], [True, False, True, False]) == pytest.approx((1 + 2 / 3) / 2)


def test_pro_is_one_for_the_truth_and_chance_for_a_flat_map() -> None:
    mask = np.zeros((20, 20), dtype=bool)
    mask[2:6, 2:6] = True
    assert per_region_overlap([mask.astype(float)], [mask]) == pytest.approx(1)
    noise = np.random.default_rng(0).uniform(size=(200, 200))
    wide = np.zeros((200, 200), dtype=bool)
    wide[:100] = True
    assert per_region_overlap([noise], [wide]) == pytest.approx(0.15, abs=0.01)


def test_pro_weighs_a_small_region_like_a_large_one() -> None:
    mask = np.zeros((40, 40), dtype=bool)
    mask[:20, :20] = True
    mask[30:32, 30:32] = True
    only_large = mask.astype(float)
    only_large[30:32, 30:32] = -1
    assert per_region_overlap([only_large], [mask]) == pytest.approx(0.5)


def test_a_thin_crack_survives_a_coarse_grid() -> None:
    mask = np.zeros((256, 256), dtype=bool)
    mask[100] = True
    assert resize_mask(mask, 32).sum() == 32


def test_figures_are_pngs() -> None:
    histogram = plots.score_histogram({"calibration": [1, 2, 2.5], "crack": [6.0], "none": []}, 3, "tank")
    sheet = plots.contact_sheet([np.zeros((8, 8, 3), np.uint8)] * 7, ["a"] * 7)
    for body in (histogram, sheet):
        assert decode(body, max_pixels=4_000_000).std() > 1
