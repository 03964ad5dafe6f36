"""Cutting, checking and resampling windows."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

from almenara.errors import InputError
from almenara.vibration.windowing import check_windows, resample, windows

RATE = 12_000.0


def tone(frequency_hz: float, rate: float, seconds: float = 1.0) -> np.ndarray:
    times = np.arange(round(seconds * rate))[None] / rate
    return np.asarray(np.sin(2 * np.pi * frequency_hz * times))


def noise(rows: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, 2400)).astype(np.float32)


def test_windows_overlap_by_the_hop_and_leave_out_the_rest() -> None:
    cut = windows(np.arange(100), 10, 4, 2)
    assert cut.shape == (4, 40)
    assert cut[:, 0].tolist() == [0, 20, 40, 60]


def test_windows_never_cross_snapshots() -> None:
    cut = windows(np.repeat([[1.0], [2.0]], 100, axis=1), 10, 4, 2)
    assert len(cut) == 8
    assert all(np.unique(window).size == 1 for window in cut)


@given(st.integers(1, 300), st.integers(1, 120), st.integers(1, 80))
def test_every_window_is_a_piece_of_the_signal(samples: int, length: int, hop: int) -> None:
    cut = windows(np.arange(samples), 1.0, length, hop)
    assert cut.shape[1] == min(length, samples)
    assert len(cut) == 1 + (samples - cut.shape[1]) // hop
    np.testing.assert_array_equal(np.diff(cut, axis=1), 1)


def test_rate_is_never_assumed() -> None:
    with pytest.raises(InputError) as caught:
        check_windows(noise(), None)  # type: ignore[arg-type]
    assert caught.value.code == "sampling-rate-missing"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_window_that_is_not_finite_is_named(bad: float) -> None:
    batch = noise()
    batch[1, 17] = bad
    with pytest.raises(InputError, match=r"Window 1 has .* at sample 17") as caught:
        check_windows(batch, RATE)
    assert caught.value.code == "window-not-finite"


def test_window_of_impossible_values_is_named() -> None:
    batch = noise()
    batch[1, 17] = -1e13
    with pytest.raises(InputError, match=r"Window 1 reaches 1e\+13") as caught:
        check_windows(batch, RATE)
    assert caught.value.code == "window-too-large"


def test_window_too_quiet_to_square_is_constant() -> None:
    with pytest.raises(InputError) as caught:
        check_windows(noise() * np.float32(1e-20), RATE)
    assert caught.value.code == "window-constant"


@pytest.mark.parametrize("level", [0.0, 1.0, -3e5])
def test_constant_window_is_named(level: float) -> None:
    batch = noise()
    batch[2] = level
    with pytest.raises(InputError, match="Window 2") as caught:
        check_windows(batch, RATE)
    assert caught.value.code == "window-constant"


def test_short_window_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        check_windows(noise()[:, :1100], RATE)
    assert caught.value.code == "window-too-short"


def test_clipped_window_is_flagged_and_a_clean_one_is_not() -> None:
    assert check_windows(noise(), RATE) == ()
    assert check_windows(np.clip(noise(), -1.5, 1.5), RATE) == ("clipped",)


@pytest.mark.parametrize("rate", [48_000, 25_600, 20_480, 44_100, 12_800, 51_200.5])
def test_resampling_keeps_a_tone_within_the_band(rate: float) -> None:
    reduced, reached = resample(tone(1000, rate), rate, RATE)
    assert reached == pytest.approx(RATE, rel=1e-3)
    expected = tone(1000, reached)[:, : reduced.shape[1]]
    np.testing.assert_allclose(reduced[:, 400:-400], expected[:, 400 : reduced.shape[1] - 400], atol=3e-3)


def test_resampling_stops_what_would_alias() -> None:
    reduced, _ = resample(tone(7000, 48_000), 48_000, RATE)
    assert np.abs(reduced[:, 400:-400]).max() < 2e-3


@pytest.mark.parametrize("rate", [48_000, 25_600, 44_100, 12_800, 12_345, 97_656.25])
@pytest.mark.parametrize("seconds", [0.1, 0.377])
def test_resampling_equals_the_reference(rate: float, seconds: float) -> None:
    given = np.random.default_rng(1).normal(size=(2, int(rate * seconds)))
    given -= given.mean(axis=1, keepdims=True)
    ratio = Fraction(RATE / rate).limit_denominator(1000)
    size, beta = signal.kaiserord(60, 0.1 / ratio.denominator)
    taps = signal.firwin(size | 1, 1 / ratio.denominator, window=("kaiser", beta))
    expected = signal.resample_poly(given, ratio.numerator, ratio.denominator, axis=1, window=taps)  # type: ignore[call-overload]  # stubs omit taps
    reduced, _ = resample(given, rate, RATE)
    assert reduced.dtype == np.float32
    np.testing.assert_allclose(reduced, expected, atol=1e-5)


def test_lower_rates_are_never_raised() -> None:
    kept, rate = resample(tone(100, 8000) + 5, 8000, RATE)
    assert rate == 8000
    assert kept.shape == (1, 8000)
    assert abs(kept.mean()) < 1e-5
