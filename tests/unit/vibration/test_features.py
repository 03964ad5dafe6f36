"""Bearing features: what columns say, and that training and serving agree on them."""

from __future__ import annotations

import numpy as np
import pytest

from almenara.errors import InputError
from almenara.vibration import envelope
from almenara.vibration.bearings import bearing
from almenara.vibration.features import GROUPS, MATCH_DB, BearingFeatures, envelope_peaks
from almenara.vibration.simulate import Condition, machine_signal
from almenara.vibration.windowing import windows

BEARING = bearing("6205-2RS")
RPM = 1772.0
RATE = 12_000.0
FAULT_LINE: dict[Condition, str] = {"inner_race": "BPFI", "outer_race": "BPFO", "ball": "2xBSF"}


def signal(condition: Condition = "normal", rate: float = RATE, seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    return machine_signal(
        condition, machine_seed=3, seed=seed, seconds=seconds, shaft_rpm=RPM, sampling_rate_hz=rate, snr_db=6.0
    )


def row(batch: np.ndarray, rate: float = RATE) -> dict[str, float]:
    extractor = BearingFeatures(groups=GROUPS)
    return dict(zip(extractor.names, extractor.transform(batch, rate, RPM, BEARING)[0].tolist(), strict=True))


def test_columns_are_float32_with_distinct_names() -> None:
    extractor = BearingFeatures(groups=GROUPS)
    features = extractor.transform(signal(seconds=3).reshape(3, -1), RATE, RPM, BEARING)
    assert features.dtype == np.float32
    assert features.shape == (3, len(extractor.names))
    assert len(set(extractor.names)) == len(extractor.names)
    assert np.isfinite(features).all()


def test_a_batch_equals_its_single_windows() -> None:
    extractor = BearingFeatures(groups=GROUPS)
    batch = windows(signal("inner_race", seconds=21), RATE, 1.0, 0.5)
    speeds = np.linspace(1500, 2000, len(batch))
    together = extractor.transform(batch, RATE, speeds, BEARING)
    alone = [extractor.transform(batch[i : i + 1], RATE, speeds[i], BEARING)[0] for i in range(len(batch))]
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fault", FAULT_LINE)
def test_a_fault_raises_its_own_line_above_the_others(fault: Condition) -> None:
    healthy, faulty = row(signal()[None]), row(signal(fault)[None])
    rise = {
        name: max(faulty[f"envelope_{band}_{name.lower()}_mean"] for band in ("low", "mid", "high", "wide"))
        - max(healthy[f"envelope_{band}_{name.lower()}_mean"] for band in ("low", "mid", "high", "wide"))
        for name in FAULT_LINE.values()
    }
    assert max(rise, key=lambda name: rise[name]) == FAULT_LINE[fault]


@pytest.mark.parametrize("fault", FAULT_LINE)
def test_evidence_finds_the_line_where_the_bearing_puts_it(fault: Condition) -> None:
    evidence = envelope_peaks(signal(fault), RATE, RPM, BEARING)
    order = {"BPFI": BEARING.bpfi, "BPFO": BEARING.bpfo, "2xBSF": 2 * BEARING.bsf}[FAULT_LINE[fault]]
    peak = next(peak for peak in evidence if peak.name == FAULT_LINE[fault] and peak.harmonic == 1)
    assert peak.matched
    assert peak.snr_db > MATCH_DB
    assert peak.frequency_hz == pytest.approx(order * RPM / 60, rel=0.011)


def test_noise_alone_matches_hardly_a_line() -> None:
    random = np.random.default_rng(5)
    evidence = [peak for _ in range(20) for peak in envelope_peaks(random.normal(size=(1, 12_000)), RATE, RPM, BEARING)]
    assert np.mean([peak.matched for peak in evidence]) < 0.05


def test_the_rate_a_window_was_sampled_at_makes_little_difference() -> None:
    fast = signal("inner_race", rate=48_000)
    slow = fast.reshape(-1, 4).mean(axis=1)
    one, two = row(fast[None], 48_000), row(slow[None])
    for name in ("envelope_low_bpfi_mean", "envelope_mid_bpfi_mean", "level_rms", "spectrum_centroid"):
        assert one[name] == pytest.approx(two[name], abs=0.25), name


def test_below_the_canonical_rate_the_missing_bands_stay_at_their_floor() -> None:
    made = row(signal(rate=6000)[None], 6000)
    assert [made[f"spectrum_band_{index:02d}"] for index in range(13, 24)] == [-6.0] * 11
    assert {value for name, value in made.items() if name.startswith("envelope_high")} == {0.0}
    assert made["envelope_low_bpfi_1"] != 0


def test_the_search_stops_short_of_a_shaft_harmonic_beside_the_line() -> None:
    """6203's BPFO lies at 3.053x: a healthy machine with a strong third harmonic must not look faulty."""
    times = np.arange(24_000) / RATE
    random = np.random.default_rng(1)
    carrier = random.normal(size=times.size) * (1 + 0.8 * np.cos(2 * np.pi * 3 * RPM / 60 * times))
    made = BearingFeatures(groups=("envelope",))
    names = made.names.index("envelope_mid_bpfo_1"), made.names.index("envelope_mid_1x")
    level = made.transform(carrier[None], RATE, RPM, bearing("6203-2RS"))[0, names[0]]
    at_harmonic = made.transform(carrier[None], RATE, 3 * RPM, bearing("6203-2RS"))[0, names[1]]
    assert at_harmonic > np.log(10)
    assert level < at_harmonic - 1


def test_scale_free_groups_ignore_the_gain_and_the_offset() -> None:
    extractor = BearingFeatures()
    window = signal("outer_race")[None]
    plain = extractor.transform(window, RATE, RPM, BEARING)
    np.testing.assert_allclose(extractor.transform(9.81 * window + 2, RATE, RPM, BEARING), plain, atol=5e-3)


def test_level_is_the_decade_of_the_rms() -> None:
    made = row(np.sqrt(2) * np.sin(np.linspace(0, 2000, 12_000, endpoint=False))[None])
    assert made["level_rms"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("rpm", "geometry", "code"),
    [
        (None, BEARING, "shaft-rpm-missing"),
        (RPM, None, "bearing-missing"),
        (0.0, BEARING, "shaft-rpm-invalid"),
        (float("nan"), BEARING, "shaft-rpm-invalid"),
    ],
)
def test_orders_need_speed_and_bearing(rpm: float | None, geometry: object, code: str) -> None:
    with pytest.raises(InputError) as caught:
        BearingFeatures().transform(signal()[None], RATE, rpm, geometry)  # type: ignore[arg-type]
    assert caught.value.code == code


def test_without_the_envelope_group_neither_is_needed() -> None:
    extractor = BearingFeatures(groups=("time", "spectrum"))
    assert not extractor.needs_rpm
    assert extractor.transform(signal()[None], RATE).shape == (1, len(extractor.names))


def test_card_and_extractor_agree() -> None:
    extractor = BearingFeatures(groups=GROUPS, window_seconds=0.5, hop_seconds=0.25)
    assert BearingFeatures.from_input(extractor.to_input()) == extractor


@pytest.mark.parametrize("change", [{"schema_hash": "0" * 64}, {"groups": ("time", "cepstrum")}])
def test_a_card_that_asks_for_other_columns_is_refused(change: dict[str, object]) -> None:
    spec = BearingFeatures().to_input().model_copy(update=change)
    with pytest.raises(InputError, match="Upgrade almenara") as caught:
        BearingFeatures.from_input(spec)
    assert caught.value.code == "features-version"


def test_a_slow_cage_in_a_short_window_is_looked_for_from_zero_frequency_up() -> None:
    window = signal(seconds=0.17)
    spectrum = np.fft.rfft(window[None]).astype(np.complex64)
    found = envelope.read_lines(spectrum, 0.17, RATE / 2, np.array([5.3]), BEARING)
    cage = [at for at, line in enumerate(envelope.lines(BEARING)) if line.name == "FTF"]
    assert (found.frequencies[..., cage] >= 0).all()


def test_schema_hash_follows_every_parameter() -> None:
    variants = [
        BearingFeatures(),
        BearingFeatures(window_seconds=2.0),
        BearingFeatures(hop_seconds=0.25),
        BearingFeatures(sampling_rate_hz=6000),
        BearingFeatures(groups=GROUPS),
    ]
    assert len({variant.schema_hash for variant in variants}) == len(variants)


def test_golden_vector() -> None:
    """`bearing-features/1` as a released model was trained on it: a change here needs a new version."""
    times = np.arange(12_000) / RATE
    strikes = np.exp(-900 * np.mod(times, 60 / (BEARING.bpfi * RPM))) * np.sin(2 * np.pi * 2900 * times)
    made = row((strikes + 0.1 * np.sin(2 * np.pi * 50 * times))[None])
    expected = {
        "level_rms": -0.6533,
        "time_kurtosis": 1.9995,
        "spectrum_centroid": 2.6461,
        "envelope_mid_bpfi_1": 6.8723,
        "envelope_whitened_bpfo_mean": 1.8317,
        "envelope_low_variation": 0.9220,
    }
    assert {name: made[name] for name in expected} == pytest.approx(expected, abs=2e-3)
