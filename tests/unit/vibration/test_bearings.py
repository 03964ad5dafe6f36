"""Bearings: fault orders by designation and by geometry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from almenara.errors import InputError
from almenara.vibration.bearings import BEARINGS, Bearing, bearing


def test_geometry_gives_the_published_orders_of_a_6205() -> None:
    made = Bearing.from_geometry(9, 7.94, 39.04)
    published = bearing("6205-2RS")
    assert (made.bpfi, made.bpfo, made.bsf, made.ftf) == pytest.approx(
        (published.bpfi, published.bpfo, published.bsf, published.ftf), rel=1e-3
    )


@given(st.integers(6, 40), st.floats(0.05, 0.4), st.floats(0, 40))
def test_ball_passes_of_both_races_add_up_to_the_number_of_balls(balls: int, share: float, angle: float) -> None:
    made = Bearing.from_geometry(balls, share * 3.0 / balls, 1.0, angle)
    assert made.bpfi + made.bpfo == pytest.approx(balls)
    assert made.bpfo == pytest.approx(balls * made.ftf)


def test_designation_is_found_in_any_case() -> None:
    assert bearing(" za-2115 ") is BEARINGS["ZA-2115"]


def test_unknown_designation_lists_the_known_ones() -> None:
    with pytest.raises(InputError) as caught:
        bearing("6999")
    assert caught.value.code == "unknown-bearing"
    assert all(name in caught.value.remedy for name in ("6203-2RS", "6205-2RS", "ZA-2115", "NICE", "PRONOSTIA"))


@pytest.mark.parametrize(
    ("balls", "ball", "pitch", "angle"),
    [(2, 1, 10, 0), (9, 5, 10, 0), (9, 0, 10, 0), (9, 1, 10, 90), (9, 1, float("nan"), 0), (9, 1, float("inf"), 0)],
)
def test_impossible_geometry_is_refused(balls: int, ball: float, pitch: float, angle: float) -> None:
    with pytest.raises(InputError) as caught:
        Bearing.from_geometry(balls, ball, pitch, angle)
    assert caught.value.code == "bearing-geometry"


def test_impossible_orders_are_refused() -> None:
    with pytest.raises(InputError, match="no bearing with a fixed outer ring"):
        Bearing("turned round", bpfi=3.58, bpfo=5.41, bsf=2.36, ftf=0.4)
