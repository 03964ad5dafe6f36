"""The simulator: reproducible, one machine stays itself, faults at the asked level."""

from __future__ import annotations

import numpy as np
import pytest

from almenara.errors import InputError
from almenara.vibration.simulate import (
    CONDITIONS,
    SEVERITIES,
    Condition,
    demo_baseline,
    demo_recordings,
    machine_signal,
    simulate,
)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_same_seeds_give_the_same_signal(condition: Condition) -> None:
    one, again, other = (
        simulate(condition, seconds=0.5, shaft_rpm=1700, bearing="6205-2RS", seed=seed) for seed in (1, 1, 2)
    )
    assert one.dtype == np.float32
    assert one.shape == (6000,)
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)


def test_records_of_one_machine_resemble_each_other_more_than_another_machine() -> None:
    def bands(machine: int, seed: int) -> np.ndarray:
        signal = machine_signal("normal", machine_seed=machine, seed=seed, seconds=2.0)
        spectrum = np.abs(np.fft.rfft(signal)) ** 2
        return np.asarray(np.log10(spectrum[1:].reshape(60, -1).mean(axis=1)))

    same = np.abs(bands(1, 0) - bands(1, 1)).mean()
    different = np.abs(bands(1, 0) - bands(2, 0)).mean()
    assert same < different / 3


def test_signal_to_noise_ratio_sets_the_power_of_the_fault() -> None:
    healthy, faulty = (
        machine_signal(condition, machine_seed=4, seed=0, seconds=2, snr_db=10.0)
        for condition in ("normal", "outer_race")
    )
    assert 10 * np.log10(faulty.var() / healthy.var() - 1) == pytest.approx(10, abs=2)


def test_rate_and_length_are_what_was_asked() -> None:
    assert machine_signal("ball", machine_seed=0, seed=0, seconds=0.25, sampling_rate_hz=25_600).shape == (6400,)


def test_demo_fleet_has_every_condition_and_severity() -> None:
    fleet = demo_recordings(records=1, seconds=0.2)
    assert {item.fault for item in fleet} == set(CONDITIONS)
    for fault in CONDITIONS[1:]:
        assert {item.severity for item in fleet if item.fault == fault} == set(SEVERITIES)
    assert len({item.record for item in fleet}) == len(fleet)


def test_demo_baseline_suffices_to_promise_five_per_cent() -> None:
    baseline = demo_baseline("pump", records=40, seconds=0.2)
    assert len({item.record for item in baseline}) >= 2 * 19
    assert {(item.asset, item.fault) for item in baseline} == {("pump", "normal")}


def test_unknown_condition_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        simulate("rust", seconds=1, shaft_rpm=1700, bearing="6205-2RS", seed=0)  # type: ignore[arg-type]
    assert caught.value.code == "unknown-condition"
