"""Units: a baseline learns levels in one unit, and judges signals in that unit or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from almenara import servable
from almenara.contracts import BearingFeaturesInput, ModelRef, Novelty
from almenara.errors import InputError
from almenara.vibration.features import SCALE_FREE, BearingFeatures
from almenara.vibration.simulate import DEMO_BEARING, DEMO_RPM, demo_baseline, machine_signal
from almenara.vibration.train import train_novelty
from almenara.vibration.units import STANDARD_GRAVITY, canonical, factor, quantity
from almenara.vibration.verdict import prepare
from tests.support.packages import classifier_candidate

MACHINE, RATE = 7, 12_000.0
UNITS = st.sampled_from(["g", "G ", "m/s2", "m/s²", "m/s^2", "m/s**2", "ms-2"])


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> servable.NoveltyModel:
    candidate = train_novelty(demo_baseline("pump-1", MACHINE, records=40, seconds=1.0), name="pump", asset="pump-1")
    package = servable.load(servable.write(candidate, tmp_path_factory.mktemp("baseline")))
    return servable.NoveltyModel(package, ModelRef(name="pump", version="1"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> servable.VibrationModel:
    package = servable.load(servable.write(classifier_candidate(), tmp_path_factory.mktemp("classifier")))
    return servable.VibrationModel(package, ModelRef(name="bearing", version="1"))


def healthy_g() -> np.ndarray:
    return machine_signal("normal", machine_seed=MACHINE, seed=99, seconds=1.0)


def judge(model: servable.NoveltyModel, signal: np.ndarray, unit: str | None) -> Novelty:
    return model.predict(signal, RATE, shaft_rpm=DEMO_RPM, bearing=DEMO_BEARING, unit=unit)


@given(UNITS, UNITS)
def test_factors_there_and_back_cancel(one: str, other: str) -> None:
    assert factor(one, other) * factor(other, one) == pytest.approx(1)
    assert (factor(one, other) == 1) == (canonical(one) == canonical(other))


def test_one_g_is_standard_gravity() -> None:
    assert factor("g", "m/s²") == STANDARD_GRAVITY == 9.80665


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("G", ("acceleration", STANDARD_GRAVITY)),
        (" MM/S", ("velocity", 1e-3)),
        ("m/s²", ("acceleration", 1)),
        ("mm", None),
    ],
)
def test_a_unit_tells_what_it_measures(unit: str, expected: tuple[str, float] | None) -> None:
    assert quantity(unit) == expected


@pytest.mark.parametrize(("given", "wanted"), [("mm/s", "g"), ("g", "V"), ("mg", "g")])
def test_units_that_cannot_be_converted_are_refused(given: str, wanted: str) -> None:
    with pytest.raises(InputError, match=f"in {given} .* in {wanted}") as caught:
        factor(given, wanted)
    assert caught.value.code == "unit-mismatch"


def test_a_unit_that_is_not_known_may_still_be_the_same() -> None:
    assert factor(" mm/s", "mm/s") == 1


def test_the_card_keeps_the_unit_and_the_schema_does_not_depend_on_it(baseline: servable.NoveltyModel) -> None:
    assert baseline.input.unit == "g"
    groups = baseline.input.groups
    assert BearingFeatures.from_input(baseline.input).to_input().schema_hash == baseline.input.schema_hash
    assert "level" in groups


def test_a_healthy_signal_is_normal_in_either_unit(baseline: servable.NoveltyModel) -> None:
    in_g, in_si = judge(baseline, healthy_g(), "g"), judge(baseline, healthy_g() * STANDARD_GRAVITY, "m/s²")
    assert (in_g.label, in_si.label) == ("normal", "normal")
    assert in_si.score == pytest.approx(in_g.score, rel=1e-3)
    assert in_g.quality == in_si.quality == ()
    wrongly = judge(baseline, healthy_g() * STANDARD_GRAVITY, "g")
    assert (wrongly.label, wrongly.score > 2 * in_g.score) == ("anomaly", True)


@pytest.mark.parametrize("unit", [None, "", " "])
def test_a_missing_unit_is_assumed_and_said(baseline: servable.NoveltyModel, unit: str | None) -> None:
    unsaid = judge(baseline, healthy_g(), unit)
    assert unsaid.quality == ("unit_assumed",)
    assert unsaid.score == judge(baseline, healthy_g(), "g").score


def test_another_quantity_is_refused(baseline: servable.NoveltyModel) -> None:
    with pytest.raises(InputError) as caught:
        judge(baseline, healthy_g(), "mm/s")
    assert caught.value.code == "unit-mismatch"


def test_a_verdict_judges_in_the_unit_of_the_baseline_and_keeps_the_posted_one(
    classifier: servable.VibrationModel, baseline: servable.NoveltyModel
) -> None:
    signal = healthy_g() * STANDARD_GRAVITY
    told = {"shaft_rpm": DEMO_RPM, "bearing": DEMO_BEARING, "novelty": baseline}
    verdict = classifier.predict(signal, RATE, unit="m/s2", **told)  # type: ignore[arg-type]
    assert verdict.novelty is not None
    assert verdict.novelty.label == "normal"
    assert (verdict.unit, verdict.quality) == ("m/s2", ())
    assert verdict.rms == pytest.approx(float(signal.std()), rel=1e-3)
    unsaid = classifier.predict(signal, RATE, **told)  # type: ignore[arg-type]
    assert unsaid.quality == ("unit_assumed",)
    assert unsaid.severity is None
    assert verdict.severity is not None


def test_features_without_levels_need_no_unit() -> None:
    spec = BearingFeatures(groups=SCALE_FREE[:2]).to_input()
    assert prepare(healthy_g(), RATE, None, None, spec).quality == ("no_rpm",)


def test_a_baseline_whose_unit_nobody_said_is_assumed_too(baseline: servable.NoveltyModel) -> None:
    spec: BearingFeaturesInput = baseline.input.model_copy(update={"unit": None, "needs_rpm": False})
    geometry = demo_baseline("x", records=1, seconds=0.2)[0].bearing
    assert prepare(healthy_g(), RATE, DEMO_RPM, geometry, spec, "g").quality == ("unit_assumed",)


@pytest.mark.parametrize("other", ["m/s2", None])
def test_recordings_of_mixed_units_make_no_baseline(other: str | None) -> None:
    first, second = demo_baseline("pump-1", records=2, seconds=0.2)
    with pytest.raises(InputError, match=f"{first.record} in g; {second.record} in") as caught:
        train_novelty([first, replace(second, unit=other)], name="pump", asset="pump-1")
    assert caught.value.code == "unit-mixed"


def test_an_older_card_without_unit_is_still_read(baseline: servable.NoveltyModel, tmp_path: Path) -> None:
    old = baseline.card.model_dump_json(exclude={"input": {"unit"}})
    assert type(baseline.card).model_validate_json(old).input.kind == "bearing-features"
