"""From raw map to verdict: score, regions of interest, boxes, and pictures on a fixed range."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from almenara.calibration import conformal_threshold
from almenara.contracts import Card, ImageInput, ModelRef
from almenara.errors import InputError
from almenara.vision import images
from almenara.vision.verdict import display_range, heatmap_png, overlay, region_mask, score, smoothed, verdict

MODEL = ModelRef(name="tank", version="3")
SIDE = 32


def make_card(region: tuple[tuple[float, float], ...] | None = None) -> Card:
    calibration = np.linspace(8, 12, 41)
    threshold = conformal_threshold(calibration, [f"g{i}" for i in range(41)], 0.05)
    return Card(
        name="tank",
        task="vision",
        role="anomaly",
        method="padim",
        input=ImageInput(height=256, width=256),
        labels=("normal", "anomaly"),
        threshold=threshold,
        calibration_scores=tuple(calibration.tolist()),
        display_range=display_range(threshold.value, calibration),
        region_of_interest=region,
        training_data={},
        created_at=datetime.now(UTC),
    )


def spot(x: int, y: int, height: float = 60.0, level: float = 9.0) -> NDArray[np.float32]:
    found = np.full((SIDE, SIDE), level, dtype=np.float32)
    found[y - 1 : y + 2, x - 1 : x + 2] = height
    return found


def test_a_flat_map_scores_its_level() -> None:
    assert score(np.full((SIDE, SIDE), 9.0), make_card()) == pytest.approx(9.0)


def test_the_border_is_not_darkened_by_smoothing() -> None:
    assert np.allclose(smoothed(np.full((8, 20), 5.0), make_card()), 5.0)


def test_a_normal_map_is_normal() -> None:
    found = verdict(np.full((SIDE, SIDE), 10.0), make_card(), MODEL)
    assert (found.label, found.regions) == ("normal", ())
    assert found.anomaly == pytest.approx(0.1)  # the median normal score
    assert found.p_value > 0.4
    assert found.model == MODEL


def test_a_spot_is_an_anomaly_with_its_box() -> None:
    found = verdict(spot(24, 6), make_card(), MODEL)
    assert found.label == "anomaly"
    assert found.anomaly > 0.9
    assert found.p_value == pytest.approx(1 / 42)
    (region,) = found.regions
    assert region.x <= 24 / SIDE <= region.x + region.width
    assert region.y <= 6 / SIDE <= region.y + region.height
    assert region.width < 0.3
    assert region.score == pytest.approx(found.score)


def test_regions_are_sorted_by_strength() -> None:
    found = verdict(np.maximum(spot(6, 6, 60), spot(24, 24, 90)), make_card(), MODEL)
    assert len(found.regions) == 2
    assert found.regions[0].x > 0.5 > found.regions[1].x


def test_the_threshold_itself_is_normal_and_half() -> None:
    card = make_card()
    assert card.threshold is not None
    found = verdict(np.full((SIDE, SIDE), card.threshold.value), card, MODEL)
    assert found.anomaly == pytest.approx(0.5, abs=1e-6)


def test_outside_the_region_of_interest_nothing_counts() -> None:
    left = make_card(region=((0, 0), (0.5, 0), (0.5, 1), (0, 1)))
    assert verdict(spot(17, 16), make_card(), MODEL).label == "anomaly"
    found = verdict(spot(17, 16), left, MODEL)
    assert found.label == "normal"
    assert found.score == pytest.approx(9.0)


@given(x=st.floats(0.05, 0.5), y=st.floats(0.05, 0.5), width=st.floats(0.1, 0.4), height=st.floats(0.1, 0.4))
def test_a_rectangle_of_interest_takes_the_cells_whose_centre_it_holds(
    x: float, y: float, width: float, height: float
) -> None:
    card = make_card(region=((x, y), (x + width, y), (x + width, y + height), (x, y + height)))
    centres = (np.arange(SIDE) + 0.5) / SIDE
    expected = ((centres > y) & (centres < y + height))[:, None] & ((centres > x) & (centres < x + width))
    on_edge = np.isclose(centres, x) | np.isclose(centres, x + width)
    on_edge_y = np.isclose(centres, y) | np.isclose(centres, y + height)
    if not (on_edge.any() or on_edge_y.any()) and expected.any():
        assert np.array_equal(region_mask((SIDE, SIDE), card), expected)


def test_an_empty_region_is_refused() -> None:
    with pytest.raises(InputError, match="holds no cell"):
        score(spot(5, 5), make_card(region=((0.5, 0.5), (0.501, 0.5), (0.501, 0.501))))


def test_a_normal_overlay_stays_the_picture() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    assert np.array_equal(overlay(picture, np.full((SIDE, SIDE), 8.0), make_card()), picture)


def test_an_overlay_changes_the_anomaly_and_leaves_the_rest() -> None:
    picture = np.full((96, 128, 3), 90, dtype=np.uint8)
    shown = overlay(picture, spot(24, 6), make_card())
    assert shown.shape == picture.shape
    assert shown.dtype == np.uint8
    assert np.any(shown[18, 96] != 90)
    assert np.all(shown[60:, :64] == 90)


def test_an_overlay_mixed_in_blocks_has_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (900, 1000, 3), dtype=np.uint8)
    in_blocks = overlay(picture, spot(16, 16, 200), make_card())
    monkeypatch.setattr("almenara.vision.verdict._BLOCK_PIXELS", picture.size)
    assert np.array_equal(in_blocks, overlay(picture, spot(16, 16, 200), make_card()))


def test_an_overlay_takes_no_floats_of_the_whole_picture() -> None:
    picture = np.zeros((1500, 1000, 3), dtype=np.uint8)
    tracemalloc.start()
    overlay(picture, spot(24, 6), make_card())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * 1500 * 1000


def test_the_heatmap_is_a_png_on_a_fixed_range() -> None:
    dark = images.decode(heatmap_png(np.full((SIDE, SIDE), 8.0), make_card(), (64, 48)), max_pixels=10_000)
    hot = images.decode(heatmap_png(spot(24, 6, 400), make_card(), (64, 48)), max_pixels=10_000)
    assert dark.shape == hot.shape == (48, 64, 3)
    assert dark.max() < 20
    assert hot.max() > 200


def test_a_card_without_threshold_is_refused() -> None:
    bare = make_card().model_copy(update={"threshold": None})
    with pytest.raises(InputError, match="no threshold"):
        verdict(spot(5, 5), bare, MODEL)
