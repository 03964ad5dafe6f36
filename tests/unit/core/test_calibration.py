"""Thresholds keep the rate they promise, and say when they cannot."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from almenara import calibration
from almenara.contracts import Card, ImageInput
from almenara.errors import InputError


def card(scores: list[float], false_alarm_rate: float = 0.05) -> Card:
    threshold = calibration.conformal_threshold(scores, [str(i) for i in range(len(scores))], false_alarm_rate)
    return Card(
        name="surface",
        task="vision",
        role="anomaly",
        method="padim",
        input=ImageInput(height=64, width=64),
        labels=("normal", "anomaly"),
        threshold=threshold,
        calibration_scores=tuple(sorted(scores)),
        training_data={},
        created_at=datetime.now(UTC),
    )


@pytest.mark.parametrize(("rate", "groups"), [(0.05, 19), (0.01, 99), (0.1, 9), (0.5, 1)])
def test_groups_needed_for_a_rate(rate: float, groups: int) -> None:
    assert calibration.groups_needed(rate) == groups


@pytest.mark.parametrize("rate", [0.01, 0.05])
def test_realised_rate_on_new_groups_is_at_most_the_promised_one(rate: float) -> None:
    rng = np.random.default_rng(0)
    realised = []
    for _ in range(200):
        shifts = rng.normal(0, 1, 240)
        scores = shifts[:, None] + rng.normal(0, 0.5, (240, 4))  # frames of one group resemble each other
        names = np.repeat(np.arange(200), 4).astype(str)
        threshold = calibration.conformal_threshold(scores[:200].ravel(), list(names), rate)
        assert threshold.promise == "held"
        realised.append(np.mean(scores[200:] > threshold.value))
    assert np.mean(realised) <= rate * 1.1
    assert np.mean(realised) >= rate * 0.3


def test_with_too_few_groups_the_promise_is_unverified_and_strict_refuses() -> None:
    scores, names = np.arange(18.0), [str(i) for i in range(18)]
    threshold = calibration.conformal_threshold(scores, names, 0.05)
    assert (threshold.promise, threshold.groups, threshold.groups_needed) == ("unverified", 18, 19)
    with pytest.raises(InputError, match="needs 19 calibration groups; there are 18"):
        calibration.conformal_threshold(scores, names, 0.05, strict=True)


def test_one_more_group_holds_the_promise() -> None:
    scores, names = np.arange(19.0), [str(i) for i in range(19)]
    threshold = calibration.conformal_threshold(scores, names, 0.05, strict=True)
    assert threshold.promise == "held"
    assert threshold.value == 18.0


def test_a_large_group_does_not_outvote_the_others() -> None:
    scores = [0.0] * 980 + list(range(1, 21))
    names = ["big"] * 980 + [f"small-{i}" for i in range(20)]
    by_group = calibration.conformal_threshold(scores, names, 0.05)
    assert by_group.value >= 19.0  # over frames alone, the 95 % quantile would be 0


@pytest.mark.parametrize("scores", [[], [1.0, float("nan")], [[1.0, 2.0]]])
def test_unusable_scores_are_refused(scores: list[float]) -> None:
    with pytest.raises(InputError):
        calibration.conformal_threshold(scores, ["a"] * len(scores), 0.05)


def test_anomaly_is_one_half_at_the_threshold_and_one_tenth_at_the_median() -> None:
    made = card([float(i) for i in range(101)])
    assert made.threshold is not None
    assert calibration.anomaly_scale(made.threshold.value, made) == pytest.approx(0.5)
    assert calibration.anomaly_scale(50.0, made) == pytest.approx(0.1)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40), st.floats(-1e7, 1e7), st.floats(0, 1e6))
def test_anomaly_is_monotone_and_bounded(scores: list[float], score: float, step: float) -> None:
    made = card(scores)
    low, high = calibration.anomaly_scale([score, score + step], made)
    assert 0 <= low <= high <= 1


def test_p_value_counts_normals_at_least_as_high() -> None:
    made = card([float(i) for i in range(99)])
    assert calibration.p_value(1000.0, made) == pytest.approx(0.01)
    assert calibration.p_value(-1.0, made) == pytest.approx(1.0)
