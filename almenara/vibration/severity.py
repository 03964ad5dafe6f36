"""Severity as ISO 20816 has it: broadband velocity of a housing in mm/s r.m.s., and the zone of a known machine."""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from almenara.contracts import Machine, Severity, Zone
from almenara.errors import InputError
from almenara.vibration.units import Quantity, quantity

Graded = tuple[Severity | None, str | None]
"""A severity, None where it cannot be told, and why it or its zone is None."""

PERIODS = 5
"""How many periods of the band's lowest frequency a signal must hold: 0.5 s, or 2.5 s of a slow machine."""

_FROM_HZ, _SLOW_FROM_HZ, _TO_HZ = 10.0, 2.0, 1000.0
_SLOW_RPM = 600.0
_RPM = (120.0, 30_000.0)
"""Speeds that ISO 20816-3 is for."""
_ZONES: tuple[Zone, ...] = get_args(Zone)
_LIMITS_MM_S: dict[Machine, tuple[float, float, float]] = {
    "group1-rigid": (2.3, 4.5, 7.1),
    "group1-flexible": (3.5, 7.1, 11.0),
    "group2-rigid": (1.4, 2.8, 4.5),
    "group2-flexible": (2.3, 4.5, 7.1),
}
"""ISO 20816-3:2022, upper limits of zones A, B and C, vibration velocity of non-rotating parts, mm/s r.m.s."""
_MACHINES = ", ".join(_LIMITS_MM_S)
_UNITS = "send unit=g, m/s2, mm/s or m/s"


def severity(
    signal: NDArray[Any],
    sampling_rate_hz: float,
    shaft_rpm: float | None,
    unit: str | None,
    machine: Machine | None,
) -> Graded:
    """Velocity of a signal and its zone; nothing is assumed that was not said.

    Args:
        signal: shape (samples,), any real dtype; the whole of it counts.
        sampling_rate_hz: of the signal.
        shaft_rpm: revolutions a minute; below 600 the band begins at 2 Hz, and there is no zone without it.
        unit: of the samples: an acceleration (g, m/s²) or a velocity (mm/s, m/s).
        machine: whose limits make the zones.

    Raises:
        InputError: `machine-unknown`.
    """
    if machine is not None and machine not in _LIMITS_MM_S:
        raise InputError("machine-unknown", f"There is no machine {machine!r}.", f"Give one of {_MACHINES}.")
    if unit is None or not unit.strip():
        return None, f"The unit of the samples was not said, and none is assumed: {_UNITS}."
    measured = quantity(unit)
    if measured is None:
        return None, f"{unit} is no unit of acceleration or velocity that is known here: {_UNITS}."
    from_hz = _SLOW_FROM_HZ if shaft_rpm is not None and shaft_rpm < _SLOW_RPM else _FROM_HZ
    seconds = len(signal) / sampling_rate_hz
    if sampling_rate_hz < 2 * _TO_HZ:
        return None, f"Sampled at {sampling_rate_hz:g} Hz a signal does not reach {_TO_HZ:g} Hz: twice that is needed."
    if seconds < PERIODS / from_hz * (1 - 1e-6):
        return None, (
            f"The signal lasts {seconds:.3g} s, and velocity from {from_hz:g} Hz on needs {PERIODS / from_hz:g} s: "
            "send a longer one."
        )
    velocity = velocity_rms(signal, sampling_rate_hz, measured, from_hz)
    if not math.isfinite(velocity):
        return None, "After its last whole window the signal has samples that are not finite or far too large."
    zone, reason = _zone(velocity, shaft_rpm, machine)
    return Severity(velocity_rms_mm_s=velocity, from_hz=from_hz, to_hz=_TO_HZ, machine=machine, zone=zone), reason


def velocity_rms(
    signal: NDArray[Any], sampling_rate_hz: float, measured: tuple[Quantity, float], from_hz: float = _FROM_HZ
) -> float:
    """Velocity between `from_hz` and 1000 Hz in mm/s r.m.s., of acceleration integrated in the frequency domain.

    A linear trend is taken out. The Hann window keeps offsets, drifts and strong lines far away from the lowest
    frequencies, which the integration raises most; its power is put back. A sine within the band is found within
    2 %, and within 0.5 % from 10 periods on; right at an edge of the band up to 12 % of it are lost.

    Args:
        signal: shape (samples,), at least 5 periods of `from_hz`.
        sampling_rate_hz: at least 2000.
        measured: what the samples are, and what one of their unit is in m/s² or m/s.
        from_hz: where the band begins.

    Returns:
        Not finite where a sample is not.
    """
    what, size = measured
    count = fft.prev_fast_len(len(signal), real=True)  # a length that is prime takes five times as long
    step_hz = sampling_rate_hz / count
    first, last = math.floor(from_hz / step_hz), min(math.ceil(_TO_HZ / step_hz), count // 2 - 1)
    with np.errstate(over="ignore", invalid="ignore"):
        spectrum = fft.rfft(_straightened(signal[:count]))[first - 1 : last + 2].astype(np.complex128)
        tapered = spectrum[1:-1] / 2 - (spectrum[:-2] + spectrum[2:]) / 4  # the window, as a sum of three bins
        if what == "acceleration":
            tapered /= 2 * np.pi * step_hz * np.arange(first, last + 1)
        power = np.vdot(tapered, tapered).real * 2 / (3 / 8 * count**2)
    return float(np.sqrt(power)) * size * 1e3


def _straightened(signal: NDArray[Any]) -> NDArray[np.float32]:
    """Float32 without mean and linear trend."""
    samples = np.asarray(signal, dtype=np.float32)
    samples = samples - np.float32(samples.mean(dtype=np.float64))
    count = len(samples)
    time = np.arange(count, dtype=np.float32) - np.float32((count - 1) / 2)
    slope = 12 * float(time @ samples) / (count * (count**2 - 1))
    return np.asarray(samples - np.float32(slope) * time)


def _zone(velocity_mm_s: float, shaft_rpm: float | None, machine: Machine | None) -> tuple[Zone | None, str | None]:
    """A velocity on a limit belongs to the zone below it."""
    if machine is None:
        return None, f"No zone without the machine's group and support: send machine, one of {_MACHINES}."
    if shaft_rpm is None:
        return None, "No zone without the shaft's speed, which the band depends on: send shaft_rpm."
    if not _RPM[0] <= shaft_rpm <= _RPM[1]:
        return None, f"No zone at {shaft_rpm:g} rpm: ISO 20816-3 is for {_RPM[0]:g} to {_RPM[1]:g}."
    return _ZONES[bisect_left(_LIMITS_MM_S[machine], velocity_mm_s)], None
