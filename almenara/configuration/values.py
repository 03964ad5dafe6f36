"""Values that people write in the configuration: durations with their unit, secrets from files, strict parts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

MOST_SECRET_BYTES = 4096

_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


def parse_duration(value: object) -> float:
    """Seconds of a duration such as ``500ms``, ``3s``, ``2m``, ``1.5h``; ValueError for anything else."""
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is no duration: write a number with its unit, such as 500ms, 3s or 2m")
    return float(match[1]) * _UNITS[match[2]]


def read_secret(path: object) -> SecretStr:
    """The text of a file of at most 4096 bytes without the line's end; ValueError, without the text, when unusable."""
    if not isinstance(path, str) or not path:
        raise ValueError("write the path of a file")
    try:
        with Path(path).open("rb") as file:
            content = file.read(MOST_SECRET_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no path"
        raise ValueError(f"{path} cannot be read: {reason}") from None
    if len(content) > MOST_SECRET_BYTES:
        raise ValueError(f"{path} has more than {MOST_SECRET_BYTES} bytes: that is no secret")
    try:
        secret = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text") from None
    if not secret or "\n" in secret:
        raise ValueError(f"{path} must hold the secret as its only line")
    return SecretStr(secret)


def only_one(secret: SecretStr | None, from_file: SecretStr | None, name: str) -> SecretStr | None:
    """The secret that was given, here or in a file; ValueError when both were."""
    if secret is not None and from_file is not None:
        raise ValueError(f"drop '{name}', since '{name}_file' is given too")
    return from_file if secret is None else secret


def matching(pattern: str, words: str) -> AfterValidator:
    """Refuses text that does not match the whole of `pattern`; `words` say what to write."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(words)
        return text

    return AfterValidator(check)


def parse_api_url(text: str) -> str:
    """An http:// or https:// address of a host, as it is; ValueError for anything else."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or re.search(r"\s", text):
        raise ValueError("write an address such as http://127.0.0.1:8000")
    return text


def _refuse_boolean(value: object) -> object:
    if not isinstance(value, bool):
        return value
    raise ValueError("write a number")


def _parse_optional_duration(value: object) -> float | None:
    return None if value is False or value == "off" else parse_duration(value)  # YAML reads off as false


DURATION_PARSERS = (parse_duration, _parse_optional_duration)

Number = Annotated[float, BeforeValidator(_refuse_boolean)]
WholeNumber = Annotated[int, BeforeValidator(_refuse_boolean)]
Duration = Annotated[float, BeforeValidator(parse_duration)]
PositiveDuration = Annotated[Duration, Field(gt=0)]
OptionalDuration = Annotated[float | None, BeforeValidator(_parse_optional_duration)]
SecretFile = Annotated[SecretStr, BeforeValidator(read_secret)]
"""The path of a file; its value is the secret in it, read when the configuration is."""


class Part(BaseModel):
    """A part of the configuration: immutable, and strict about what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)
