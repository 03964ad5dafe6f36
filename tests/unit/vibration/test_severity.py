"""Severity: velocity of known signals, edges of the band, zones, and why there is none."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from almenara.contracts import Machine, Severity
from almenara.errors import InputError
from almenara.vibration.recordings import load_folder
from almenara.vibration.severity import severity, velocity_rms
from almenara.vibration.units import STANDARD_GRAVITY, Quantity
from tests.support.data import require_data

SI: tuple[Quantity, float] = ("acceleration", 1.0)
RPM = 1772.0
GROUP: Machine = "group2-rigid"


def sine(hz: float, amplitude: float, rate: float = 12_000, seconds: float = 1.0, phase: float = 0.3) -> np.ndarray:
    time = np.arange(round(rate * seconds)) / rate
    return (amplitude * np.sin(2 * np.pi * hz * time + phase)).astype(np.float32)


def velocity_of(hz: float, acceleration: float) -> float:
    """Of a sine of this peak acceleration in m/s²: mm/s r.m.s."""
    return float(acceleration / (2 * np.pi * hz) / np.sqrt(2) * 1e3)


def graded(signal: np.ndarray, rate: float = 12_000, rpm: float | None = RPM, unit: str | None = "g") -> Severity:
    found, _ = severity(signal, rate, rpm, unit, GROUP)
    assert found is not None
    return found


def why_none(signal: np.ndarray, rate: float = 12_000, rpm: float | None = RPM, unit: str | None = "g") -> str:
    found, reason = severity(signal, rate, rpm, unit, GROUP)
    assert found is None
    assert reason is not None
    return reason


@pytest.mark.parametrize("rate", [2000, 12_000, 48_000])
@pytest.mark.parametrize("hz", [29.53, 100.0, 387.6, 900.1])
def test_a_sine_has_the_velocity_of_the_formula(hz: float, rate: float) -> None:
    signal = sine(hz, 3.0, rate)
    assert graded(signal, rate, unit="m/s²").velocity_rms_mm_s == pytest.approx(velocity_of(hz, 3.0), rel=2e-3)
    in_g = velocity_of(hz, 3.0 * STANDARD_GRAVITY)
    assert graded(signal, rate, unit="g").velocity_rms_mm_s == pytest.approx(in_g, rel=2e-3)


@settings(max_examples=60)
@given(hz=st.floats(11, 995), phase=st.floats(0, 6.3), size=st.floats(1e-6, 1e6), samples=st.integers(12_000, 40_000))
def test_any_sine_within_the_band_is_found(hz: float, phase: float, size: float, samples: int) -> None:
    signal = sine(hz, size, seconds=samples / 12_000, phase=phase)
    assert velocity_rms(signal, 12_000, SI) == pytest.approx(velocity_of(hz, size), rel=6e-3)


@settings(max_examples=40)
@given(hz=st.floats(11, 990), phase=st.floats(0, 6.3), rate=st.sampled_from([12_000, 25_600, 44_100, 48_000]))
def test_half_a_second_is_enough_for_two_percent(hz: float, phase: float, rate: int) -> None:
    signal = sine(hz, 1.0, rate, 0.5, phase)
    assert velocity_rms(signal, rate, SI) == pytest.approx(velocity_of(hz, 1.0), rel=0.02)


@settings(max_examples=40)
@given(st.dictionaries(st.integers(5, 98), st.floats(0.1, 10), min_size=2, max_size=6))
def test_the_power_of_sines_adds_up(tones: dict[int, float]) -> None:
    signal = np.sum([sine(10 * tens + 0.4, peak, phase=tens) for tens, peak in tones.items()], axis=0)
    expected = np.linalg.norm([velocity_of(10 * tens + 0.4, peak) for tens, peak in tones.items()])
    assert velocity_rms(signal, 12_000, SI) == pytest.approx(expected, rel=5e-3)


def test_a_signal_in_mm_per_second_is_taken_as_it_is() -> None:
    signal = sine(50.3, 4.0) + sine(320.7, 1.0)
    assert graded(signal, unit="mm/s").velocity_rms_mm_s == pytest.approx(np.sqrt(8.5), rel=2e-3)
    assert graded(signal / 1000, unit=" M/S ").velocity_rms_mm_s == pytest.approx(np.sqrt(8.5), rel=2e-3)


@pytest.mark.parametrize("seconds", [0.5, 0.77, 1.0, 3.3])
@pytest.mark.parametrize("hz", [10.0, 10.4, 990.0, 1000.0])
def test_the_edges_belong_to_the_band(hz: float, seconds: float) -> None:
    found = velocity_rms(sine(hz, 1.0, seconds=seconds), 12_000, SI)
    assert 0.88 <= found / velocity_of(hz, 1.0) <= 1.02


@pytest.mark.parametrize("hz", [0.4, 2.3, 5.2, 7.3, 1005.3, 2000.3, 5500.7])
def test_what_is_outside_the_band_does_not_count(hz: float) -> None:
    assert velocity_rms(sine(hz, 1.0), 12_000, SI) < 0.03 * velocity_of(hz, 1.0)


@settings(max_examples=40)
@given(offset=st.floats(-50, 50), drift=st.floats(-5, 5), noise=st.integers(0, 5))
def test_neither_offset_nor_drift_becomes_velocity(offset: float, drift: float, noise: int) -> None:
    plain = np.random.default_rng(noise).normal(size=12_000).astype(np.float32)
    moved = plain + np.float32(offset) + np.linspace(0, drift, 12_000, dtype=np.float32)
    assert velocity_rms(moved, 12_000, SI) == pytest.approx(velocity_rms(plain, 12_000, SI), rel=1e-3)


def test_a_strong_resonance_above_the_band_leaks_little_into_it() -> None:
    running, ringing = sine(29.53, 1.0), sine(3417.3, 50.0)
    assert velocity_rms(running + ringing, 12_000, SI) == pytest.approx(velocity_of(29.53, 1.0), rel=5e-3)


def test_integers_and_float64_are_measured_like_float32() -> None:
    counts = np.round(sine(80.2, 1000)).astype(np.int16)
    expected = velocity_rms(counts.astype(np.float32), 12_000, SI)
    assert velocity_rms(counts, 12_000, SI) == velocity_rms(counts.astype(np.float64), 12_000, SI) == expected


def test_a_slow_machine_is_measured_from_2_hz_on() -> None:
    signal = sine(4.1, 1.0, 4000, 3.0)
    slow, fast = graded(signal, 4000, 250, "m/s2"), graded(signal, 4000, 600, "m/s2")
    assert (slow.from_hz, fast.from_hz, slow.to_hz) == (2, 10, 1000)
    assert slow.velocity_rms_mm_s == pytest.approx(velocity_of(4.1, 1.0), rel=0.01)
    assert fast.velocity_rms_mm_s < 1
    assert "from 2 Hz on needs 2.5 s" in why_none(signal[:8000], 4000, 250)


@pytest.mark.parametrize("unit", [None, "", "  "])
def test_without_a_unit_there_is_none_and_g_is_not_assumed(unit: str | None) -> None:
    reason = why_none(sine(50, 1.0), unit=unit)
    assert "none is assumed" in reason
    assert "unit=g" in reason


@pytest.mark.parametrize("unit", ["V", "mm", "µm", "rpm"])
def test_a_unit_of_something_else_is_named(unit: str) -> None:
    assert why_none(sine(50, 1.0), unit=unit).startswith(f"{unit} is no unit of acceleration or velocity")


def test_a_signal_that_is_too_short_or_sampled_too_slowly_says_so() -> None:
    assert "lasts 0.171 s" in why_none(sine(50, 1.0)[:2048])
    assert "needs 0.5 s" in why_none(sine(50, 1.0)[:2048])
    assert "does not reach 1000 Hz" in why_none(sine(50, 1.0, 1600), 1600)
    assert graded(sine(50, 1.0)[:6000]).velocity_rms_mm_s > 0


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_a_tail_that_no_window_covers_may_be_broken(value: float) -> None:
    signal = np.concatenate([sine(50, 1.0), np.full(150, value, np.float32)])
    assert "not finite or far too large" in why_none(signal)


@pytest.mark.parametrize(
    ("machine", "limits"),
    [
        ("group1-rigid", (2.3, 4.5, 7.1)),
        ("group1-flexible", (3.5, 7.1, 11.0)),
        ("group2-rigid", (1.4, 2.8, 4.5)),
        ("group2-flexible", (2.3, 4.5, 7.1)),
    ],
)
def test_zones_are_those_of_the_standard(machine: Machine, limits: tuple[float, ...]) -> None:
    below = [severity(sine(100.2, limit * 1.405), 12_000, RPM, "mm/s", machine)[0] for limit in limits]
    above = [severity(sine(100.2, limit * 1.424), 12_000, RPM, "mm/s", machine)[0] for limit in limits]
    assert [each and each.zone for each in below] == ["A", "B", "C"]
    assert [each and each.zone for each in above] == ["B", "C", "D"]


def test_every_machine_has_zones() -> None:
    for machine in get_args(Machine):
        found, reason = severity(sine(50, 0.1), 12_000, RPM, "mm/s", machine)
        assert found is not None
        assert (found.zone, found.machine, reason) == ("A", machine, None)


@pytest.mark.parametrize(
    ("rpm", "machine", "part"),
    [
        (RPM, None, "send machine, one of group1-rigid"),
        (None, GROUP, "send shaft_rpm"),
        (100, GROUP, "at 100 rpm"),
        (40_000, GROUP, "120 to 30000"),
    ],
)
def test_no_zone_is_assumed(rpm: float | None, machine: Machine | None, part: str) -> None:
    found, reason = severity(sine(50, 1.0, seconds=3), 12_000, rpm, "g", machine)
    assert found is not None
    assert found.velocity_rms_mm_s > 0
    assert found.zone is None
    assert reason is not None
    assert part in reason


def test_a_machine_that_is_not_known_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        severity(sine(50, 1.0), 12_000, RPM, "g", "group3")  # type: ignore[arg-type]
    assert caught.value.code == "machine-unknown"


@pytest.mark.slow
def test_no_bearing_fault_of_a_small_real_motor_leaves_zone_a() -> None:
    records = load_folder(require_data("vibration", "cwru"))
    found = {each.record: graded(each.signal, each.sampling_rate_hz, each.shaft_rpm, each.unit) for each in records}
    assert {each.zone for each in found.values()} == {"A"}
    assert 0.1 < found["97"].velocity_rms_mm_s < 0.2
    assert found["3004"].velocity_rms_mm_s == max(each.velocity_rms_mm_s for each in found.values())
