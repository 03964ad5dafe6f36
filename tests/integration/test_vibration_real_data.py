"""Vibration on real recordings: CWRU bearing faults and IMS healthy snapshots."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from almenara import gates, servable
from almenara.contracts import ModelRef
from almenara.vibration.bearings import bearing
from almenara.vibration.cwru import import_cwru
from almenara.vibration.evaluate import VibrationReport, evaluate
from almenara.vibration.features import BearingFeatures, envelope_peaks
from almenara.vibration.recordings import Recording, load_folder
from almenara.vibration.train import train_classifier, train_novelty
from tests.support.data import require_data


@pytest.fixture(scope="module")
def cwru() -> list[Recording]:
    return load_folder(require_data("vibration", "cwru"))


@pytest.fixture(scope="module")
def honest(cwru: list[Recording]) -> VibrationReport:
    return evaluate(cwru, protocol="leave-one-fault-size-out")


@pytest.mark.slow
def test_unseen_fault_sizes_are_named(honest: VibrationReport) -> None:
    assert honest.macro_f1 >= 0.90
    assert honest.record_macro_f1 >= 0.90
    assert honest.false_alarm_rate == 0
    assert honest.notes == ("healthy: one record, time-split",)


@pytest.mark.slow
def test_the_random_split_flatters(cwru: list[Recording], honest: VibrationReport) -> None:
    leaking = evaluate(cwru, protocol="random-window")
    assert leaking.macro_f1 > 0.99 > honest.macro_f1
    assert any("leaking" in note for note in leaking.notes)


def test_original_files_are_imported_as_the_manifest_has_them(cwru: list[Recording], tmp_path: Path) -> None:
    report = import_cwru(require_data("vibration", "cwru", "original"), tmp_path)
    assert report.skipped == ()
    expected = {item.record: item for item in cwru}
    imported = load_folder(tmp_path)
    assert [item.record for item in imported] == ["97", "105", "118", "130", "197", "234", "3001"]
    for item in imported:
        same = replace(item, signal=expected[item.record].signal, file=expected[item.record].file)
        assert vars(same) == vars(expected[item.record])
        np.testing.assert_allclose(item.signal, expected[item.record].signal, rtol=1e-6)


def test_the_healthy_record_is_brought_down_from_48_khz(cwru: list[Recording]) -> None:
    healthy = next(item for item in cwru if item.fault == "normal")
    assert healthy.sampling_rate_hz == 48_000
    window = healthy.signal[None, :48_000]
    right = BearingFeatures().transform(window, 48_000, healthy.shaft_rpm, healthy.bearing)
    decimated = BearingFeatures().transform(window[:, :12_000], 12_000, healthy.shaft_rpm, healthy.bearing)
    centroid = BearingFeatures().names.index("spectrum_centroid")
    assert abs(right[0, centroid] - decimated[0, centroid]) > 0.3


@pytest.mark.parametrize(
    ("record", "name"), [("105", "BPFI"), ("130", "BPFO"), ("209", "BPFI"), ("234", "BPFO"), ("258", "BPFO")]
)
def test_evidence_shows_the_fault_frequency_of_real_records(cwru: list[Recording], record: str, name: str) -> None:
    item = next(item for item in cwru if item.record == record)
    assert item.shaft_rpm is not None
    evidence = envelope_peaks(item.signal[:12_000], 12_000, item.shaft_rpm, bearing("6205-2RS"))
    peak = next(peak for peak in evidence if peak.name == name and peak.harmonic == 1)
    assert peak.matched


@pytest.mark.slow
def test_classifier_of_real_records_passes_the_gates_and_serves(cwru: list[Recording], tmp_path: Path) -> None:
    candidate = train_classifier(cwru, name="cwru")
    directory = servable.write(candidate, tmp_path / "package")
    assert gates.check(candidate, directory)["max_error"] < 1
    model = servable.VibrationModel(servable.load(directory), ModelRef(name="cwru", version="1"))
    for record in ("97", "105", "130"):
        item = next(item for item in cwru if item.record == record)
        made = model.predict(item.signal, item.sampling_rate_hz, shaft_rpm=item.shaft_rpm, bearing="6205-2RS")
        assert made.label == item.fault


@pytest.mark.slow
def test_baseline_of_another_rig_is_calibrated_on_snapshots() -> None:
    recordings = load_folder(require_data("vibration", "ims"))
    rates = []
    for item in recordings:
        card = train_novelty([item], name="ims", asset=item.asset).card
        assert card.threshold is not None
        assert card.threshold.promise == "held"
        rates.append(card.metrics["group cross-validation"]["false_alarm_rate"])
    assert np.mean(rates) <= 0.10
