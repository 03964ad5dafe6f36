"""Thresholds that keep a promised false-alarm rate, and the scales that make raw scores readable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import ArrayLike, NDArray

from almenara.contracts import Card, Threshold
from almenara.errors import InputError


def groups_needed(false_alarm_rate: float) -> int:
    """Least number of calibration groups for which a rate can be promised: 1/rate - 1.

    >>> groups_needed(0.05), groups_needed(0.01)
    (19, 99)
    """
    return max(1, math.ceil(1 / false_alarm_rate - 1 - 1e-9))


def conformal_threshold(
    scores: ArrayLike, groups: Sequence[str], false_alarm_rate: float, *, strict: bool = False, seed: int = 0
) -> Threshold:
    """Threshold on held-out normal scores that a frame of a new group exceeds with at most the given rate.

    With enough groups this is hierarchical conformal prediction: each of the G groups weighs 1/(G+1), split evenly
    over its members, and the remaining 1/(G+1) sits at infinity (Lee, Barber and Willett, "Distribution-free
    inference with hierarchical data", 2023, arXiv:2306.06342). With fewer, it is the split-conformal quantile over
    frames, which holds only if frames are exchangeable, and the promise is marked `unverified`.

    Args:
        scores: shape (n,), raw scores of normal frames or windows that the model was not fitted on.
        groups: n group names (a tile, a shift, a day, a record).
        false_alarm_rate: promised rate in (0, 1).
        strict: refuse instead of marking the promise unverified.
        seed: of the group bootstrap.

    Raises:
        InputError: no scores, a non-finite one, lengths that differ, or `strict` and too few groups.
    """
    values = np.asarray(scores, dtype=np.float64)
    names = np.asarray(groups, dtype=str)
    if values.ndim != 1 or values.size == 0 or values.shape != names.shape or not np.isfinite(values).all():
        raise InputError(
            "calibration-scores",
            f"Calibration needs finite scores with one group each; {values.size} scores and {names.size} groups came.",
            "Give at least one held-out normal group.",
        )
    unique, member = np.unique(names, return_inverse=True)
    needed = groups_needed(false_alarm_rate)
    promised = unique.size >= needed
    if strict and not promised:
        raise InputError(
            "calibration-groups",
            f"A false-alarm rate of {false_alarm_rate:g} needs {needed} calibration groups; there are {unique.size}.",
            "Record more normal groups, promise a higher rate, or drop --strict.",
        )
    weights = _frame_weights(member, unique.size) if promised else np.full(values.size, 1 / (values.size + 1))
    value = _weighted_quantile(values, weights, 1 - false_alarm_rate)
    return Threshold(
        value=value,
        false_alarm_rate=false_alarm_rate,
        promise="held" if promised else "unverified",
        calibration_size=int(values.size),
        groups=int(unique.size),
        groups_needed=needed,
        interval=_bootstrap_rate(values, member, unique.size, value, seed),
        assumption="groups are exchangeable" if promised else "frames are exchangeable (too few groups to promise)",
        calibrated_at=datetime.now(UTC),
    )


def anomaly_scale(score: ArrayLike, card: Card) -> NDArray[np.float64]:
    """Map raw scores to 0-1, monotone: .5 at the card's threshold, .1 at the median calibration score.

    Args:
        score: any shape, raw scores.

    Returns:
        float64 of the same shape (a logistic curve).
    """
    threshold, scores = _calibrated(card)
    half_way = max(threshold.value - float(np.median(scores)), 1e-6 * max(1.0, abs(threshold.value)))
    steps = math.log(9) * (np.asarray(score, dtype=np.float64) - threshold.value) / half_way
    return np.asarray(1 / (1 + np.exp(-np.clip(steps, -50, 50))))


def p_value(score: float, card: Card) -> float:
    """Conformal p-value, (1 + #{calibration >= score}) / (n + 1): small for scores that normals rarely reach."""
    _, scores = _calibrated(card)
    return float((1 + np.count_nonzero(scores >= score)) / (scores.size + 1))


def interquartile_range(scores: ArrayLike) -> float:
    """Spread of calibration scores, the floor s0 of the export gates' tolerance."""
    low, high = np.quantile(np.asarray(scores, dtype=np.float64), [0.25, 0.75])
    return float(high - low)


def _calibrated(card: Card) -> tuple[Threshold, NDArray[np.float64]]:
    if card.threshold is None or not card.calibration_scores:
        raise InputError("card-uncalibrated", f"The card of {card.name} has no threshold or no calibration scores.")
    return card.threshold, np.asarray(card.calibration_scores, dtype=np.float64)


def _frame_weights(member: NDArray[np.intp], groups: int) -> NDArray[np.float64]:
    sizes = np.bincount(member, minlength=groups)
    return np.asarray(1 / ((groups + 1) * sizes[member]), dtype=np.float64)


def _weighted_quantile(values: NDArray[np.float64], weights: NDArray[np.float64], level: float) -> float:
    """Least value whose cumulated weight reaches the level; the greatest when the missing mass holds the rest."""
    order = np.argsort(values, kind="stable")
    reached = np.searchsorted(np.cumsum(weights[order]), level - 1e-12)
    return float(values[order][min(int(reached), values.size - 1)])


def _bootstrap_rate(
    values: NDArray[np.float64],
    member: NDArray[np.intp],
    groups: int,
    threshold: float,
    seed: int,
    rounds: int = 1000,
) -> tuple[float, float]:
    """95 % interval of the share above the threshold when whole groups are drawn again."""
    above = np.bincount(member, weights=values > threshold, minlength=groups)
    sizes = np.bincount(member, minlength=groups)
    drawn = np.random.default_rng(seed).integers(0, groups, size=(rounds, groups))
    rates = above[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(rates, [0.025, 0.975])
    return float(low), float(high)
