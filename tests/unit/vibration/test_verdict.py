"""Verdicts: pooling, abstention, novelty and the sentence for a person."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from almenara.calibration import conformal_threshold
from almenara.contracts import Card, ModelRef, Novelty, Role
from almenara.errors import InputError
from almenara.vibration.bearings import bearing
from almenara.vibration.features import BearingFeatures, Group
from almenara.vibration.simulate import machine_signal
from almenara.vibration.verdict import UNKNOWN, novelty, pool, prepare, verdict

RPM, RATE = 1772.0, 12_000.0
BEARING = bearing("6205-2RS")
LABELS = ("ball", "inner_race", "normal", "outer_race")
REF = ModelRef(name="bearing", version="3")
SPEC = BearingFeatures().to_input()


def card(role: Role, abstain_below: float | None = 0.5) -> Card:
    scores = np.linspace(0.5, 1.5, 100)
    return Card(
        name="bearing",
        task="vibration",
        role=role,
        method="ensemble",
        input=SPEC,
        labels=LABELS if role == "classifier" else ("normal", "anomaly"),
        abstain_below=abstain_below if role == "classifier" else None,
        threshold=conformal_threshold(scores, [str(index % 25) for index in range(100)], 0.05),
        calibration_scores=tuple(scores),
        training_data={},
        created_at=datetime.now(UTC),
    )


def faulty(seconds: float = 2.0, rate: float = RATE) -> np.ndarray:
    return machine_signal("inner_race", machine_seed=3, seed=0, seconds=seconds, sampling_rate_hz=rate)


def certain(label: str, windows: int, probability: float = 0.91) -> np.ndarray:
    rest = (1 - probability) / 3
    return np.tile([probability if name == label else rest for name in LABELS], (windows, 1))


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=20))
def test_pooled_probabilities_add_up_to_one(rows: list[list[float]]) -> None:
    pooled = pool(np.array(rows))
    assert pooled.sum() == pytest.approx(1)
    assert (pooled >= 0).all()


def test_pooling_keeps_what_windows_agree_on() -> None:
    np.testing.assert_allclose(pool(np.array([[0.7, 0.2, 0.1]] * 5)), [0.7, 0.2, 0.1])


def test_one_window_that_is_wrongly_certain_does_not_decide() -> None:
    rows = np.array([[0.9, 0.1]] * 6 + [[0.0, 1.0]])
    assert pool(rows).argmax() == 0


def test_long_signal_is_cut_and_short_one_marked() -> None:
    assert prepare(faulty(3.0), RATE, RPM, BEARING, SPEC).windows == 5
    short = prepare(faulty(0.3), RATE, RPM, BEARING, SPEC)
    assert (short.windows, short.quality) == (1, ("low_resolution",))


def test_rate_below_the_canonical_one_is_marked() -> None:
    assert prepare(faulty(1.0, 8000), 8000, RPM, BEARING, SPEC).quality == ("narrow_band",)


def test_model_without_orders_says_that_the_speed_is_missing() -> None:
    groups: tuple[Group, ...] = ("time", "spectrum")
    prepared = prepare(faulty(), RATE, None, None, BearingFeatures(groups=groups).to_input())
    assert prepared.quality == ("no_rpm",)
    assert prepared.peaks == ()


def test_rms_is_of_the_vibration_and_not_of_the_offset() -> None:
    signal = np.sqrt(2) * 3 * np.sin(2 * np.pi * 100 * np.arange(12_000) / RATE) + 40
    assert prepare(signal, RATE, RPM, BEARING, SPEC).rms == pytest.approx(3, rel=1e-3)


def test_integers_are_judged_like_floats() -> None:
    counts = np.round(faulty() * 1000).astype(np.int16)
    exact = prepare(counts.astype(np.float64), RATE, RPM, BEARING, SPEC).features
    np.testing.assert_array_equal(prepare(counts, RATE, RPM, BEARING, SPEC).features, exact)


@pytest.mark.parametrize("signal", [np.zeros((2, 12_000)), np.array(["a"] * 12_000), np.zeros(12_000, complex)])
def test_what_is_no_signal_is_refused(signal: np.ndarray) -> None:
    with pytest.raises(InputError) as caught:
        prepare(signal, RATE, RPM, BEARING, SPEC)
    assert caught.value.code == "recording-shape"


def test_signal_beyond_float32_is_refused_as_not_finite() -> None:
    with pytest.raises(InputError) as caught:
        prepare(faulty().astype(np.float64) * 1e300, RATE, RPM, BEARING, SPEC)
    assert caught.value.code == "window-not-finite"


def test_verdict_names_the_fault_and_shows_its_line() -> None:
    prepared = prepare(faulty(), RATE, RPM, BEARING, SPEC)
    made = verdict(prepared, certain("inner_race", prepared.windows), card("classifier"), REF, None, "g")
    assert (made.label, made.abstained, made.unit, made.model) == ("inner_race", False, "g", REF)
    assert made.probabilities["inner_race"] == pytest.approx(0.91)
    assert any(peak.name == "BPFI" and peak.matched for peak in made.evidence)
    assert made.reason.startswith("inner_race (0.91): envelope ")
    assert "shows BPFI 1" in made.reason
    assert "dB above background" in made.reason


def test_verdict_admits_that_the_spectrum_shows_nothing() -> None:
    healthy = machine_signal("normal", machine_seed=3, seed=0, seconds=2.0)
    prepared = prepare(healthy, RATE, RPM, BEARING, SPEC)
    made = verdict(prepared, certain("outer_race", prepared.windows), card("classifier"), REF, None, None)
    assert "no line at BPFO" in made.reason


def test_unsure_classifier_abstains_and_says_what_comes_closest() -> None:
    prepared = prepare(faulty(), RATE, RPM, BEARING, SPEC)
    made = verdict(prepared, certain("ball", prepared.windows, 0.4), card("classifier"), REF, None, None)
    assert (made.label, made.abstained) == (UNKNOWN, True)
    assert "ball (0.40) comes closest" in made.reason


def test_novelty_goes_by_the_median_window() -> None:
    rule = card("novelty")
    high, low = novelty(np.array([9, 9, 0.8]), rule, REF), novelty(np.array([9, 0.8, 0.8]), rule, REF)
    assert (high.label, low.label) == ("anomaly", "normal")
    assert high.anomaly > 0.5 > low.anomaly
    assert high.p_value < 0.05 < low.p_value
    assert high.score == 9


def test_reason_begins_with_what_the_baseline_says() -> None:
    prepared = prepare(faulty(), RATE, RPM, BEARING, SPEC)
    judged: Novelty = novelty(np.array([9.0]), card("novelty"), REF)
    made = verdict(prepared, certain("inner_race", prepared.windows), card("classifier"), REF, judged, None)
    assert made.novelty == judged
    assert made.reason.startswith("unlike its baseline (score 9 over ")
