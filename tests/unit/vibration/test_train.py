"""Training: candidates that pass the export gates, and a baseline that keeps its promise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from almenara import gates, servable
from almenara.contracts import Candidate, ModelRef
from almenara.errors import InputError
from almenara.vibration.simulate import (
    CONDITIONS,
    DEMO_BEARING,
    DEMO_RPM,
    Condition,
    demo_baseline,
    demo_recordings,
    machine_signal,
)
from almenara.vibration.train import train_classifier, train_novelty

pytestmark = pytest.mark.slow

MACHINE = 7
PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def classifier() -> Candidate:
    return train_classifier(demo_recordings(records=3, seconds=2.0), name="bearing")


@pytest.fixture(scope="module")
def baseline() -> Candidate:
    recordings = demo_baseline("pump-1", MACHINE, records=60, seconds=2.0)
    return train_novelty(recordings, name="bearing-baseline-pump-1", asset="pump-1")


def load(candidate: Candidate, folder: Path) -> servable.Package:
    return servable.load(servable.write(candidate, folder))


def window(condition: Condition, seed: int) -> np.ndarray:
    return machine_signal(condition, machine_seed=MACHINE, seed=10_000 + seed, seconds=1.0)


def test_candidates_pass_the_export_gates(classifier: Candidate, baseline: Candidate, tmp_path: Path) -> None:
    for candidate in (classifier, baseline):
        directory = servable.write(candidate, tmp_path / candidate.card.name)
        assert gates.check(candidate, directory)["max_error"] < 1


def test_card_holds_the_honest_figure_beside_the_leaking_one(classifier: Candidate) -> None:
    honest, leaking = classifier.card.metrics.values()
    assert list(classifier.card.metrics) == ["leave-one-fault-size-out", "random-window (leaking)"]
    assert 0.5 < honest["macro_f1"] <= leaking["macro_f1"]
    assert classifier.card.labels == ("ball", "inner_race", "normal", "outer_race")


def test_probes_are_distinct_rows(classifier: Candidate, baseline: Candidate) -> None:
    for candidate in (classifier, baseline):
        assert len(np.unique(candidate.probes, axis=0)) == len(candidate.probes) >= 64
        assert candidate.probes.dtype == np.float32


def test_figures_are_pictures(classifier: Candidate, baseline: Candidate) -> None:
    assert {"confusion-matrix.png", "protocols.png"} < set(classifier.figures)
    assert all(figure.startswith(PNG) for figure in (*classifier.figures.values(), *baseline.figures.values()))


def test_baseline_keeps_its_promise_on_new_windows_and_sees_the_fault(
    classifier: Candidate, baseline: Candidate, tmp_path: Path
) -> None:
    ref = ModelRef(name="m", version="1")
    judge = servable.VibrationModel(load(classifier, tmp_path / "c"), ref)
    novelty = servable.NoveltyModel(load(baseline, tmp_path / "n"), ref)
    healthy, faulty = (
        [
            judge.predict(window(condition, seed), 12_000, shaft_rpm=DEMO_RPM, bearing=DEMO_BEARING, novelty=novelty)
            for seed in range(60)
        ]
        for condition in CONDITIONS[:2]
    )
    assert np.mean([v.novelty.label == "anomaly" for v in healthy if v.novelty]) <= 0.10
    assert all(v.novelty.label == "anomaly" for v in faulty if v.novelty)
    assert np.mean([v.label == "inner_race" for v in faulty]) >= 0.9


def test_promise_is_held_with_enough_records_and_says_so(baseline: Candidate) -> None:
    threshold = baseline.card.threshold
    assert threshold is not None
    assert (threshold.promise, threshold.groups) == ("held", 30)
    assert baseline.card.metrics["group cross-validation"]["false_alarm_rate"] <= 0.08


def test_one_record_gives_a_baseline_that_promises_nothing() -> None:
    recordings = demo_baseline("pump-1", MACHINE, records=1, seconds=8.0)
    threshold = train_novelty(recordings, name="n", asset="pump-1").card.threshold
    assert threshold is not None
    assert (threshold.promise, threshold.groups) == ("unverified", 1)
    with pytest.raises(InputError) as caught:
        train_novelty(recordings, name="n", asset="pump-1", strict=True)
    assert caught.value.code == "calibration-groups"


def test_faulty_record_is_no_baseline() -> None:
    recordings = demo_baseline("pump-1", MACHINE, records=3, seconds=0.5)
    with pytest.raises(InputError) as caught:
        train_novelty([*recordings, replace(recordings[0], fault="ball", record="x")], name="n", asset="pump-1")
    assert caught.value.code == "baseline-not-healthy"


def test_unknown_speed_leaves_the_orders_out() -> None:
    fleet = [replace(item, shaft_rpm=None) for item in demo_recordings(records=1, seconds=1.0)]
    spec = train_classifier(fleet, name="bearing", method="logistic-regression").card.input
    assert spec.kind == "bearing-features"
    assert (spec.groups, spec.needs_rpm) == (("time", "spectrum"), False)


def test_training_is_reproducible() -> None:
    fleet = demo_recordings(records=1, seconds=1.0)
    one, two = (train_classifier(fleet, name="b", method="random-forest", seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.probes, two.probes)
    np.testing.assert_allclose(one.reference["probabilities"], two.reference["probabilities"], atol=1e-12)


def test_without_shared_severities_only_the_leaking_figure_is_left() -> None:
    fleet = [replace(item, severity=None) for item in demo_recordings(records=1, seconds=1.0)]
    card = train_classifier(fleet, name="b", method="logistic-regression").card
    assert list(card.metrics) == ["random-window (leaking)"]
