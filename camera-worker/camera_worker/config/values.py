"""Values that people write in the configuration: durations with their unit, strict parts."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


def parse_duration(value: object) -> float:
    """Seconds of a duration such as ``500ms``, ``3s``, ``2m``, ``1.5h``; ValueError for anything else."""
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is no duration: write a number with its unit, such as 500ms, 3s or 2m")
    return float(match[1]) * _UNITS[match[2]]


def _parse_optional_duration(value: object) -> float | None:
    return None if value is False or value == "off" else parse_duration(value)  # YAML reads off as false


Duration = Annotated[float, BeforeValidator(parse_duration)]
PositiveDuration = Annotated[Duration, Field(gt=0)]
OptionalDuration = Annotated[float | None, BeforeValidator(_parse_optional_duration)]


class Part(BaseModel):
    """A part of the configuration: immutable, and strict about what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)
