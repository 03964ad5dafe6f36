"""Simulated bearing vibration: the embedded demo's data, and signals with a known answer for tests.

A spall strikes once a pass with a little slip, each strike makes the housing's resonances ring, and the load zone
modulates the strikes (McFadden and Smith, "Model for the vibration produced by a single point defect in a rolling
element bearing", J. Sound and Vibration 96, 1984). Around it lie shaft harmonics, mains hum, tones and noise. Good
for inner and outer race; real ball faults are less regular.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import signal as dsp

from almenara.contracts import Progress
from almenara.errors import InputError
from almenara.vibration.bearings import Bearing
from almenara.vibration.bearings import bearing as by_designation
from almenara.vibration.recordings import Recording

Condition = Literal["normal", "inner_race", "outer_race", "ball"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)

DEMO_BEARING = "6205-2RS"
DEMO_RPM = 1772.0
SEVERITIES = (7.0, 14.0, 21.0)

_OVERSAMPLED_HZ = 48_000
_DEFAULT_SNR_DB = 8.0
_SNR_DB = dict(zip(SEVERITIES, (-12.0, -6.0, 0.0), strict=True))
_MAINS_HZ = 50.0


@dataclass(frozen=True, eq=False)
class Machine:
    """What one machine keeps from record to record.

    Attributes:
        resonances_hz: shape (k,), of housing and path.
        damping: shape (k,), relative.
        gains: shape (k,).
        shaft_harmonics: amplitudes of 1x, 2x, ...
        tones: shape (t, 2), Hz at nominal speed and amplitude: gears, pumps, the drive.
        noise: standard deviation of the white and of the resonant noise.
        gain: of the sensor and its mounting.
    """

    resonances_hz: NDArray[np.float64]
    damping: NDArray[np.float64]
    gains: NDArray[np.float64]
    shaft_harmonics: NDArray[np.float64]
    tones: NDArray[np.float64]
    noise: tuple[float, float]
    gain: float

    @classmethod
    def draw(cls, seed: int) -> Machine:
        """The machine of that seed, always the same."""
        random = np.random.default_rng([seed, 0])
        modes, tones = int(random.integers(2, 5)), int(random.integers(6, 16))
        return cls(
            resonances_hz=np.sort(random.uniform(900, 5400, modes)),
            damping=random.uniform(0.02, 0.08, modes),
            gains=random.lognormal(0, 0.5, modes),
            shaft_harmonics=0.05 * random.lognormal(-1.0, 0.6, int(random.integers(3, 8))),
            tones=np.column_stack([random.uniform(200, 2500, tones), random.lognormal(-4.0, 0.7, tones)]),
            noise=(0.03 * random.lognormal(0, 0.3), 0.06 * random.lognormal(0, 0.3)),
            gain=random.lognormal(0, 0.5),
        )


def simulate(
    condition: Condition,
    *,
    seconds: float,
    shaft_rpm: float,
    bearing: Bearing | str,
    seed: int,
    sampling_rate_hz: float = 12_000.0,
    snr_db: float | None = None,
) -> NDArray[np.float32]:
    """One recording of a machine of its own; see `machine_signal`."""
    return machine_signal(
        condition,
        machine_seed=seed,
        seed=seed,
        seconds=seconds,
        shaft_rpm=shaft_rpm,
        bearing=bearing,
        sampling_rate_hz=sampling_rate_hz,
        snr_db=snr_db,
    )


def machine_signal(
    condition: Condition,
    *,
    machine_seed: int,
    seed: int,
    seconds: float,
    shaft_rpm: float = DEMO_RPM,
    bearing: Bearing | str = DEMO_BEARING,
    sampling_rate_hz: float = 12_000.0,
    snr_db: float | None = None,
) -> NDArray[np.float32]:
    """Vibration of one machine: the machine comes from `machine_seed`, the record's chance from `seed`.

    Args:
        condition: healthy, or which part has a spall.
        machine_seed: which machine.
        seed: of this recording: phases, slip, noise, a few per cent of level.
        seconds: length.
        shaft_rpm: revolutions a minute.
        bearing: gives the fault orders; a designation or a geometry.
        sampling_rate_hz: of the result.
        snr_db: power of the fault over the power of everything else, in dB; 8 when left out.

    Returns:
        float32, shape (samples,), in g.

    Raises:
        InputError: `unknown-condition`, or a length, rate or speed that is not positive.
    """
    if condition not in CONDITIONS:
        raise InputError(
            "unknown-condition", f"There is no condition {condition!r}.", f"Known: {', '.join(CONDITIONS)}."
        )
    if not (seconds > 0 and shaft_rpm > 0 and sampling_rate_hz > 0):
        raise InputError(
            "simulation", f"{seconds:g} s at {sampling_rate_hz:g} Hz and {shaft_rpm:g} rpm cannot be simulated."
        )
    geometry = by_designation(bearing) if isinstance(bearing, str) else bearing
    random = np.random.default_rng([machine_seed, 1, seed])
    plant = Machine.draw(machine_seed)
    factor = math.ceil(_OVERSAMPLED_HZ / sampling_rate_hz)
    rate = factor * sampling_rate_hz
    times = np.arange(math.ceil(seconds * rate)) / rate
    healthy = _background(plant, times, rate, shaft_rpm / 60, random)
    if condition != "normal":
        strikes = _strikes(condition, times, rate, shaft_rpm / 60, geometry, random)
        ringing = _ring(plant, strikes, rate)
        decibels = (_DEFAULT_SNR_DB if snr_db is None else snr_db) + random.normal(0, 0.5)
        healthy += ringing * (healthy.std() / (ringing.std() + 1e-12) * 10 ** (decibels / 20))
    sampled = dsp.resample_poly(healthy, 1, factor) if factor > 1 else healthy
    level = plant.gain * random.lognormal(0, 0.03)
    return np.asarray(level * sampled[: round(seconds * sampling_rate_hz)], dtype=np.float32)


def demo_recordings(
    seed: int = 0, *, records: int = 4, seconds: float = 3.0, progress: Progress | None = None
) -> list[Recording]:
    """A fleet to train a classifier on: every condition and severity on machines and at speeds of their own.

    Args:
        seed: of everything.
        records: of each severity of each fault; healthy ones are three times as many.
        seconds: length of each.
        progress: told of every recording.
    """
    plan: list[tuple[Condition, float]] = [("normal", 0.0)] * (len(SEVERITIES) * records)
    plan += [(fault, severity) for fault in CONDITIONS[1:] for severity in SEVERITIES for _ in range(records)]
    random = np.random.default_rng([seed, 2])
    made: list[Recording] = []
    for index, (condition, severity) in enumerate(plan):
        machine_seed, rpm = 1000 * (seed + 1) + index, float(np.round(random.uniform(1500, 2000)))
        signal = machine_signal(
            condition,
            machine_seed=machine_seed,
            seed=index,
            seconds=seconds,
            shaft_rpm=rpm,
            snr_db=_SNR_DB.get(severity),
        )
        made.append(_recording(signal, f"{condition}-{severity:g}-{index}", f"fleet-{index}", condition, severity, rpm))
        if progress:
            progress("simulation", index + 1, len(plan))
    return made


def demo_baseline(
    asset: str, machine_seed: int = 7, *, records: int = 60, seconds: float = 3.0, progress: Progress | None = None
) -> list[Recording]:
    """Healthy recordings of one simulated machine, to commission its baseline from.

    Args:
        asset: name of the machine.
        machine_seed: which machine, as for `machine_signal`.
        records: enough to promise 5 % false alarms with a part held out for calibration.
        seconds: length of each.
        progress: told of every recording.
    """
    made: list[Recording] = []
    for index in range(records):
        signal = machine_signal("normal", machine_seed=machine_seed, seed=index, seconds=seconds)
        made.append(_recording(signal, f"{asset}-healthy-{index}", asset, "normal", 0.0, DEMO_RPM))
        if progress:
            progress("simulation", index + 1, records)
    return made


def _recording(
    signal: NDArray[np.float32], record: str, asset: str, fault: str, severity: float, rpm: float
) -> Recording:
    return Recording(
        signal=signal,
        sampling_rate_hz=12_000.0,
        shaft_rpm=rpm,
        unit="g",
        record=record,
        asset=asset,
        bearing=by_designation(DEMO_BEARING),
        fault=fault,
        severity=severity,
    )


def _background(
    plant: Machine, times: NDArray[np.float64], rate: float, shaft_hz: float, random: Generator
) -> NDArray[np.float64]:
    """Everything but the fault: shaft harmonics, mains, tones that the shaft modulates, white and resonant noise."""
    made = np.zeros_like(times)
    for harmonic, amplitude in enumerate(plant.shaft_harmonics, start=1):
        made += _vary(amplitude, random) * np.cos(2 * np.pi * harmonic * shaft_hz * times + _phase(random))
    for harmonic in (1, 2):
        made += 0.01 * np.cos(2 * np.pi * harmonic * _MAINS_HZ * times + _phase(random))
    for frequency, amplitude in plant.tones:
        modulation = 1 + 0.2 * np.cos(2 * np.pi * shaft_hz * times + _phase(random))
        made += _vary(amplitude, random) * modulation * np.cos(2 * np.pi * frequency * times + _phase(random))
    white = random.normal(size=times.size)
    resonant = _ring(plant, white, rate)
    return np.asarray(made + plant.noise[0] * white + plant.noise[1] * resonant / resonant.std())


def _strikes(
    condition: Condition, times: NDArray[np.float64], rate: float, shaft_hz: float, geometry: Bearing, random: Generator
) -> NDArray[np.float64]:
    """Impulses of the spall: where and how hard the rolling elements strike."""
    order, modulation = {
        "inner_race": (geometry.bpfi, 1.0),
        "outer_race": (geometry.bpfo, 0.0),
        "ball": (2 * geometry.bsf, geometry.ftf),
    }[condition]
    slip = random.uniform(0.003, 0.015)
    period = 1 / (order * shaft_hz)
    passes = math.ceil(times[-1] / period * 1.1) + 10
    moments = random.uniform(0, period) + np.cumsum(period * (1 + slip * random.normal(size=passes)))
    depth, phase = (random.uniform(0.4, 1.0), _phase(random)) if modulation else (0.0, 0.0)
    loads = (1 + depth * np.cos(2 * np.pi * modulation * shaft_hz * moments + phase)) / (1 + depth)
    forces = np.maximum(loads, 0.02) * random.lognormal(0, random.uniform(0.1, 0.4), size=passes)
    if condition == "ball":  # one race is struck harder than the other, and sometimes the spall strikes neither
        forces[1::2] *= random.uniform(0.4, 1.0)
        forces *= random.random(passes) > random.uniform(0, 0.3)
    at = np.round(moments * rate).astype(np.intp)
    within = at < times.size
    made = np.zeros_like(times)
    np.add.at(made, at[within], forces[within])
    return made


def _ring(plant: Machine, force: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    """Response of the resonances to a force: one damped mode each."""
    made = np.zeros_like(force)
    for frequency, damping, gain in zip(plant.resonances_hz, plant.damping, plant.gains, strict=True):
        angle = 2 * np.pi * frequency / rate
        radius = np.exp(-damping * angle)
        made += gain * dsp.lfilter([np.sin(angle)], [1, -2 * radius * np.cos(angle), radius**2], force)
    return made


def _vary(amplitude: float, random: Generator) -> float:
    return float(amplitude * random.lognormal(0, 0.05))


def _phase(random: Generator) -> float:
    return float(random.uniform(0, 2 * np.pi))
