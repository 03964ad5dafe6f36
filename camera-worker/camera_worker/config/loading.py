"""Reads a configuration file; every mistake in it is named with its line, and none with a secret."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from almenara.errors import InputError
from camera_worker.config.models import WorkerConfig
from camera_worker.config.yaml_lines import Location, parse_yaml
from camera_worker.redaction import redact

_Report = Callable[[Location, str], None]
_VARIABLE = re.compile(r"\$(?:\$|\{(\w+)\})")


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
