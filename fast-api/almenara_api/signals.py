"""What a client may post as vibration: raw samples with query parameters, a file, or JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from almenara.contracts import Machine
from almenara.errors import InputError
from almenara.vibration.signals import agreed_rate, parse_signal
from almenara_api.problems import sentence, shown

JSON = "application/json"
RAW = "application/octet-stream"
FILES = ("application/x-npy", "audio/wav", "text/csv")

Signal = NDArray[np.float32]

_TEXT = r"^[^\x00-\x1f\x7f]+$"
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_AHEAD = timedelta(minutes=5)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _moment(value: object) -> datetime:
    """A moment of the past, as RFC 3339 writes it; the clock that it was read from may be a little ahead."""
    if isinstance(value, str) and _RFC3339.fullmatch(value):
        try:
            value = datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            value = None
    if not isinstance(value, datetime):
        raise PydanticCustomError(
            "moment", "write it as RFC 3339 with an offset: 2026-11-22T14:05:00Z; a + in an address is %2B"
        )
    if not _EPOCH <= value <= datetime.now(UTC) + _AHEAD:
        raise PydanticCustomError("moment", "it is before 1970 or over 5 minutes in the future: correct the clock")
    return value


Moment = Annotated[
    AwareDatetime,
    Field(strict=False),
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class VibrationParameters(BaseModel):
    """What has to be known beside the samples."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sampling_rate_hz: float | None = Field(
        default=None, gt=0, le=1e7, description="samples a second; never assumed, only a WAV file brings its own"
    )
    shaft_rpm: float | None = Field(default=None, gt=0, le=1e6, description="revolutions a minute")
    bearing: str | None = Field(default=None, max_length=80, pattern=_TEXT, description="designation, such as 6205-2RS")
    unit: str | None = Field(
        default=None, max_length=20, pattern=_TEXT, description="of the samples, such as g or m/s²"
    )
    machine: Machine | None = Field(
        default=None, description="its group and support in ISO 20816-3, for the zone of its severity"
    )
    asset: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        pattern=_TEXT,
        description="the machine; its baseline then decides its alarm, and its trend keeps the verdict",
    )
    channel: str | None = Field(
        default=None, min_length=1, max_length=100, pattern=_TEXT, description="the sensor, such as drive end"
    )
    measured_at: Moment | None = Field(
        default=None, description="end of the window, RFC 3339 with an offset; else it ended when it arrived"
    )
    record_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        pattern=_TEXT,
        description="your own id of the recording; the same again of the same asset and channel is a repeat",
    )


class VibrationQuery(VibrationParameters):
    """The query's parameters; the last two are for raw samples alone."""

    dtype: Literal["float32", "int16"] = Field(default="float32", description="of raw samples, little-endian")
    scale: float | None = Field(
        default=None,
        description="what one count of int16 is in the unit; needed with int16, as a converter's sheet has it",
    )

    @property
    def parameters(self) -> VibrationParameters:
        """Without what only says how the samples were sent."""
        return VibrationParameters.model_construct(
            **{name: getattr(self, name) for name in VibrationParameters.model_fields}
        )


class VibrationJson(VibrationParameters):
    """The JSON body; exactly one of `signal` and `signals`."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "signal": [0.013, -0.021, 0.034, 0.002],
                "sampling_rate_hz": 12000,
                "shaft_rpm": 1772,
                "bearing": "6205-2RS",
                "unit": "g",
                "asset": "pump-1",
                "channel": "drive end",
            }
        }
    )

    signal: list[float] | None = Field(default=None, description="samples of one signal")
    signals: list[list[float]] | None = Field(default=None, description="several signals of one sensor, oldest first")


@dataclass(frozen=True)
class Posted:
    """A parsed request.

    Attributes:
        signals: float32, each of shape (samples,).
        several: whether the client posted a list of signals and awaits a list of verdicts.
        sampling_rate_hz: of every signal.
        parameters: the rest.
        name: of the list of signals in the request.
    """

    signals: tuple[Signal, ...]
    several: bool
    sampling_rate_hz: float
    parameters: VibrationParameters
    name: str = field(default="signals", kw_only=True)


def parse(body: bytes, media_type: str, query: VibrationQuery, max_samples: int) -> Posted:
    """Parse a body of one of the media types above.

    Args:
        body: the whole body.
        media_type: without parameters.
        query: the query's parameters; a JSON body's own win over them.
        max_samples: limit on all signals together.

    Raises:
        InputError: what is wrong with the body or its `scale`, or `sampling-rate-missing`, `sampling-rate-conflict`.
    """
    several, parameters, own_rate = False, query.parameters, None
    scale = _scale(query, media_type)
    if media_type == JSON:
        signals, several, parameters = _parse_json(body, parameters, max_samples)
    elif scale is not None:
        signals = (_counts(body, scale, max_samples),)
    else:
        signal, own_rate = parse_signal(body, media_type, max_samples)
        signals = (signal,)
    return Posted(signals, several, agreed_rate(parameters.sampling_rate_hz, own_rate, "The request"), parameters)


def _scale(query: VibrationQuery, media_type: str) -> float | None:
    """What one count is, None where the samples are no counts."""
    counts = query.dtype == "int16"
    if counts and media_type != RAW:
        raise InputError("scale-invalid", f"dtype is for raw samples, and the body is {media_type}.", "Leave it out.")
    if counts is (query.scale is None):
        fact = "Samples in int16 are counts, and scale is missing." if counts else "There is a scale, and no int16."
        raise InputError(
            "scale-invalid", fact, "Send both: ?dtype=int16&scale=0.000305 (what one count is in the unit)."
        )
    if query.scale is not None and np.float32(min(max(query.scale, -1), 1)) == 0:
        raise InputError("scale-invalid", "With a scale of 0 every sample is 0.", "Send what one count is in the unit.")
    return query.scale


def _counts(body: bytes, scale: float, max_samples: int) -> Signal:
    if not body:
        raise InputError("recording-empty", "The body is empty.", "Send int16 samples, little-endian.")
    if len(body) % 2:
        raise InputError(
            "recording-truncated", f"{len(body)} bytes are no whole int16 samples.", "Send the whole body."
        )
    _check_length(len(body) // 2, "The body", max_samples)
    with np.errstate(over="ignore", invalid="ignore"):  # as in JSON: refused as not finite
        return np.asarray(np.frombuffer(body, "<i2").astype(np.float32) * np.float32(scale))


def _parse_json(
    body: bytes, query: VibrationParameters, max_samples: int
) -> tuple[tuple[Signal, ...], bool, VibrationParameters]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InputError("json-invalid", f"The body is no JSON: {error}.", "NaN and Infinity are no JSON.") from error
    if not isinstance(content, dict):
        raise InputError("json-invalid", f"The body is a JSON {type(content).__name__}, not an object.", _SHAPE)
    given = [name for name in ("signal", "signals") if content.get(name) is not None]
    if len(given) != 1:
        raise InputError("json-signal", f"The body has {' and '.join(given) or 'neither signal nor signals'}.", _SHAPE)
    parameters = _parameters(content, query)
    if given == ["signal"]:
        return (_samples(content["signal"], "signal", max_samples),), False, parameters
    rows = content["signals"]
    if not isinstance(rows, list) or not rows:
        raise InputError("json-signal", "signals is no list of signals, or an empty one.", _SHAPE)
    total = sum(len(row) for row in rows if isinstance(row, list))
    _check_length(total, "signals", max_samples)
    return tuple(_samples(row, f"signals[{index}]", max_samples) for index, row in enumerate(rows)), True, parameters


def _parameters(content: Mapping[str, Any], query: VibrationParameters) -> VibrationParameters:
    own = {key: value for key, value in content.items() if key not in ("signal", "signals") and value is not None}
    try:
        return VibrationParameters.model_validate(query.model_dump(exclude_none=True) | own, strict=True)
    except ValidationError as error:
        fact = "; ".join(sentence(each) for each in error.errors())
        raise InputError("parameters-invalid", fact, "The fields of the body are listed under /docs.") from error


def _samples(values: object, where: str, max_samples: int) -> Signal:
    if not isinstance(values, list) or not values:
        raise InputError("recording-empty", f"{where} is no list of numbers, or an empty one.", _SHAPE)
    _check_length(len(values), where, max_samples)
    if not set(map(type, values)) <= {int, float}:  # of texts NumPy would make an array as wide as the longest
        bad = next(index for index, value in enumerate(values) if type(value) not in (int, float))
        raise InputError(
            "window-dtype",
            f"{where}[{bad}] is {shown(values[bad], 40)!r}, which is no number.",
            "Send plain numbers only.",
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as not finite
        return np.asarray(values).astype(np.float32)


def _check_length(samples: int, where: str, max_samples: int) -> None:
    if samples > max_samples:
        raise InputError(
            "recording-too-long",
            f"{where} has {samples} samples, and at most {max_samples} are accepted.",
            "Send shorter windows, or raise ALMENARA_MAX_SAMPLES.",
        )


_SHAPE = 'Send {"signal": [numbers], "sampling_rate_hz": 12000, ...}, or "signals" with a list of such lists.'
