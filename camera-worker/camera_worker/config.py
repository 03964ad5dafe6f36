"""The worker's configuration: strict YAML whose errors name the line, durations as ``3s``, secrets as ``${ENV}``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from almenara.alarms import Priority, Rule
from almenara.errors import InputError
from camera_worker.redaction import redact
from camera_worker.sources import Source
from camera_worker.yaml_lines import Location, parse_yaml

_Report = Callable[[Location, str], None]

API_URL = re.compile(r"https?://\S+")
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_VARIABLE = re.compile(r"\$(?:\$|\{(\w+)\})")


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


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


class ApiConfig(_Part):
    """Where verdicts come from."""

    url: str | None = Field(default=None, pattern=rf"^{API_URL.pattern}$", description="address of the API")
    key: SecretStr | None = Field(default=None, description="sent as X-API-Key")
    timeout: PositiveDuration = Field(default=5.0, description="of one request")


class AlarmConfig(_Part):
    """When a camera's verdicts become an alarm."""

    threshold: float = Field(default=0.5, gt=0, le=1, description="anomaly, 0-1; .5 is the model's threshold")
    deadband: float = Field(default=0.05, ge=0, lt=1)
    on_delay: Duration = 2.0
    off_delay: Duration = 5.0
    cooldown: Duration = 60.0
    priority: Priority = "high"

    @model_validator(mode="after")
    def _can_return(self) -> Self:
        self.rule()
        return self

    def rule(self) -> Rule:
        """The same, as the alarm engine takes it."""
        return Rule(
            threshold=self.threshold,
            deadband=self.deadband,
            on_delay_seconds=self.on_delay,
            off_delay_seconds=self.off_delay,
            cooldown_seconds=self.cooldown,
            priority=self.priority,
        )


class CameraConfig(_Part):
    """One camera."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$", description="source of its alarms")
    source: SecretStr = Field(description="rtsp:// URL, path of a video file, or number of a webcam")
    username: str | None = Field(default=None, description="of the camera; any characters")
    password: SecretStr | None = Field(default=None, description="of the camera; any characters")
    model: str = Field(default="sludge-outflow", pattern=r"^[a-z0-9][a-z0-9_-]{0,79}$")
    fps: float = Field(default=2.0, gt=0, le=60, description="pictures scored a second")
    frozen_after: OptionalDuration = Field(default=8.0, description="`off` for a still, noise-free scene")
    connect_timeout: PositiveDuration = 3.0
    read_timeout: PositiveDuration = 3.0
    unauthorised_retry: PositiveDuration = Field(
        default=60.0, description="pause after refused credentials, so that no camera locks the worker out"
    )
    alarm: AlarmConfig = AlarmConfig()

    @field_validator("source", mode="before")
    @classmethod
    def _webcam_number(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    def parsed_source(self) -> Source:
        """The source with its credentials; InputError as `Source.parse`."""
        password = self.password.get_secret_value() if self.password else None
        return Source.parse(self.source.get_secret_value(), username=self.username, password=password)


class WorkerConfig(_Part):
    """The whole worker."""

    api: ApiConfig = ApiConfig()
    alerts: bool = Field(default=True, description="raise alarms; otherwise verdicts are only logged")
    var_dir: Path | None = Field(default=None, description="alarm database, alarm log and evidence")
    cameras: tuple[CameraConfig, ...] = Field(min_length=1)

    @field_validator("cameras")
    @classmethod
    def _distinct(cls, cameras: tuple[CameraConfig, ...]) -> tuple[CameraConfig, ...]:
        names = [camera.name for camera in cameras]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two cameras are named {', '.join(twice)}; alarms could not be told apart")
        return cameras


def load_config(path: Path, environment: Mapping[str, str] = os.environ) -> WorkerConfig:
    """Reads and checks a configuration file.

    InputError `config-absent`, `config-syntax`, or `config-invalid` with one sentence, file and line, for every
    mistake in it. No message shows a value that came from the environment.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        remedy = "Make one: camera-worker create-config cameras.yaml"
        raise InputError("config-absent", f"{path} cannot be read: {reason}.", remedy) from None
    return parse_config(text, name=str(path), environment=environment)


def parse_config(text: str, *, name: str, environment: Mapping[str, str] = os.environ) -> WorkerConfig:
    """As `load_config`, from text; `name` is what messages call it."""
    document = parse_yaml(text, name)
    mistakes: list[tuple[int, str]] = []

    def report(location: Location, message: str) -> None:
        mistakes.append((document.line(location), redact(message)))

    data = _substitute(document.data, (), environment, report)
    if not mistakes:
        try:
            return _checked(WorkerConfig.model_validate(data), report, mistakes, name)
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_input=False):
                report(detail["loc"], _sentence(detail["loc"], detail["type"], detail["msg"]))
    raise _invalid(name, mistakes)


def _checked(config: WorkerConfig, report: _Report, mistakes: list[tuple[int, str]], name: str) -> WorkerConfig:
    for index, camera in enumerate(config.cameras):
        try:
            camera.parsed_source()
        except InputError as error:
            report(("cameras", index, "source"), str(error))
    if mistakes:
        raise _invalid(name, mistakes)
    return config


def _invalid(name: str, mistakes: list[tuple[int, str]]) -> InputError:
    lines = [f"{name}, line {line}: {message}" for line, message in sorted(mistakes)]
    return InputError("config-invalid", "\n".join(lines))


def _sentence(location: Location, kind: str, message: str) -> str:
    key = location[-1] if location else "the file"
    match kind:
        case "extra_forbidden":
            return f"'{key}' is no setting here."
        case "missing":
            return f"'{key}' is missing."
        case _:
            return f"{key}: {message.removeprefix('Value error, ')}."


def _substitute(value: Any, at: Location, environment: Mapping[str, str], report: _Report) -> Any:
    """`value` with every ``${NAME}`` in its strings replaced by the environment's; ``$$`` stands for ``$``."""
    if isinstance(value, dict):
        return {key: _substitute(item, (*at, str(key)), environment, report) for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute(item, (*at, index), environment, report) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replacement(match: re.Match[str]) -> str:
        variable = match[1]
        if variable is None:
            return "$"
        if variable not in environment:
            report(at, f"the environment has no variable {variable}.")
        return environment.get(variable, "")

    return _VARIABLE.sub(replacement, value)
