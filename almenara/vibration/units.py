"""Units of vibration signals: which spellings mean the same, and the factor from one unit to another."""

from __future__ import annotations

from typing import Literal

from almenara.errors import InputError

STANDARD_GRAVITY = 9.80665
"""m/s² in one g (3rd General Conference on Weights and Measures, 1901)."""

_ACCELERATION = {"g": STANDARD_GRAVITY, "m/s2": 1.0}
_VELOCITY = {"mm/s": 1e-3, "m/s": 1.0}
_SPELLINGS = {
    **{unit: unit for unit in (*_ACCELERATION, *_VELOCITY)},
    **dict.fromkeys(("m/s²", "m/s^2", "m/s**2", "ms-2"), "m/s2"),
}

Quantity = Literal["acceleration", "velocity"]


def canonical(unit: str) -> str:
    """One spelling of each unit: `g`, `m/s2`, `mm/s`, `m/s`, and any other as it was written."""
    text = unit.strip()
    return _SPELLINGS.get(text.lower(), text)


def quantity(unit: str) -> tuple[Quantity, float] | None:
    """What a unit measures, and what one of it is in m/s² or m/s; None of a unit that is not known."""
    name = canonical(unit)
    if name in _ACCELERATION:
        return "acceleration", _ACCELERATION[name]
    if name in _VELOCITY:
        return "velocity", _VELOCITY[name]
    return None


def factor(given: str, wanted: str) -> float:
    """What samples in one unit must be multiplied by to be in another.

    Raises:
        InputError: `unit-mismatch`, the units differ and are not both accelerations (g, m/s²).
    """
    here, there = canonical(given), canonical(wanted)
    if here == there:
        return 1.0
    if here not in _ACCELERATION or there not in _ACCELERATION:
        raise InputError(
            "unit-mismatch",
            f"The signal is in {given} and the baseline was learned in {wanted}.",
            f"Send the signal in {wanted}; only g and m/s² are converted into each other.",
        )
    return _ACCELERATION[here] / _ACCELERATION[there]
