"""What a check found: one line of the doctor's table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "problem", "skipped"]

_CLOCK_WARNING_SECONDS = 5.0
_CLOCK_PROBLEM_SECONDS = 900.0
"""S3 refuses requests whose clock differs by more."""
_LEAST_BYTES, _LOW_BYTES, _LOW_SHARE = 500e6, 2e9, 0.10
_ROOM = "Make room: shorten evidence.keep or lower evidence.at_most in alarms.yaml, or move to a larger disk."


@dataclass(frozen=True)
class Finding:
    """One line.

    Attributes:
        subject: what was looked at.
        state: ``problem`` needs somebody, ``warning`` will, ``skipped`` cannot be seen from here.
        fact: what was seen.
        remedy: what to do; empty when nothing is.
    """

    subject: str
    state: State
    fact: str
    remedy: str = ""


def ok(subject: str, fact: str) -> Finding:
    return Finding(subject, "ok", fact)


def warning(subject: str, fact: str, remedy: str) -> Finding:
    return Finding(subject, "warning", fact, remedy)


def problem(subject: str, fact: str, remedy: str) -> Finding:
    return Finding(subject, "problem", fact, remedy)


def skipped(subject: str, fact: str, remedy: str = "") -> Finding:
    return Finding(subject, "skipped", fact, remedy)


def clock(subject: str, offset_seconds: float) -> Finding:
    """How far a clock is from ours; positive when it is ahead."""
    apart = abs(offset_seconds)
    if apart <= _CLOCK_WARNING_SECONDS:
        return ok(subject, f"within {_CLOCK_WARNING_SECONDS:.0f} s of this machine's.")
    fact = f"{apart:.0f} s {'ahead of' if offset_seconds > 0 else 'behind'} this machine's."
    remedy = "Let both machines follow a time server (timedatectl set-ntp true)."
    if apart <= _CLOCK_PROBLEM_SECONDS:
        return warning(subject, fact, remedy)
    return problem(subject, fact, f"Object storage refuses what is more than 15 min apart. {remedy}")


def disk(subject: str, free_bytes: float, size_bytes: float) -> Finding:
    """How much room a disk has."""
    fact = f"{free_bytes / 1e9:.1f} GB of {size_bytes / 1e9:.1f} GB are free."
    if free_bytes < _LEAST_BYTES:
        return problem(subject, fact, f"Alarms and evidence soon cannot be kept. {_ROOM}")
    if free_bytes < _LOW_BYTES or free_bytes < _LOW_SHARE * size_bytes:
        return warning(subject, fact, _ROOM)
    return ok(subject, fact)
