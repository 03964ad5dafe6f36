"""Reads a configuration file; every mistake in it is named with its line, and none with a secret."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from almenara.configuration.sentences import place_of, sentence
from almenara.configuration.values import Part
from almenara.configuration.yaml_lines import Location, parse_yaml
from almenara.errors import InputError
from almenara.redaction import redact

MOST_BYTES = 1024 * 1024

_File = TypeVar("_File", bound=Part)
_Report = Callable[[Location, str], None]
_VARIABLE = re.compile(r"\$(?:\$|\{(\w+)\}|(\{))")


def load_config(path: Path, model: type[_File], *, remedy: str, environment: Mapping[str, str] = os.environ) -> _File:
    """Reads and checks a configuration file of one kind; `remedy` is what to do when there is none.

    InputError `config-absent`, `config-syntax`, or `config-invalid` with one sentence, file and line, for every
    mistake in it. No message shows a value that came from the environment.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise InputError("config-absent", f"{path} cannot be read: there is no such file.", remedy) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError("config-absent", f"{path} cannot be read: {reason}.", "Name a configuration file.") from None
    if len(content) > MOST_BYTES:
        raise InputError("config-large", f"{path} has more than {MOST_BYTES} bytes.", "Name a configuration file.")
    return parse_config(text, model, name=str(path), environment=environment)


def parse_config(text: str, model: type[_File], *, name: str, environment: Mapping[str, str] = os.environ) -> _File:
    """As `load_config`, from text; `name` is what messages call it."""
    document = parse_yaml(text, name)
    mistakes: list[tuple[Location, str]] = []
    used: dict[str, str] = {}

    def report(location: Location, message: str) -> None:
        mistakes.append((location, redact(_without_values(message, used))))

    data = _substitute(document.data, (), environment, used, report)
    unknown = {location for location, _ in mistakes}
    try:
        configuration = model.model_validate(data)
        if not mistakes:
            return configuration
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        for detail in _without_consequences(details):
            if place_of(detail) not in unknown:
                report(place_of(detail), sentence(detail, model))
    numbered = sorted((document.line(location), message) for location, message in mistakes)
    lines = [f"{name}, line {line}: {message}" for line, message in numbered]
    raise InputError("config-invalid", "\n".join(lines))


def _without_consequences(details: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Without lists that count as too short only because their entries are wrong."""
    places = [detail["loc"] for detail in details]
    return [
        detail
        for detail in details
        if detail["type"] != "too_short"
        or not any(len(place) > len(detail["loc"]) and place[: len(detail["loc"])] == detail["loc"] for place in places)
    ]


def _substitute(value: Any, at: Location, environment: Mapping[str, str], used: dict[str, str], report: _Report) -> Any:
    """`value` with every ``${NAME}`` in its strings replaced by the environment's; ``$$`` stands for ``$``.

    What the environment gave is noted in `used`; what it does not have is reported, and becomes nothing.
    """
    if isinstance(value, dict):
        return {str(key): _substitute(item, (*at, str(key)), environment, used, report) for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute(item, (*at, index), environment, used, report) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replacement(match: re.Match[str]) -> str:
        variable = match[1]
        if match[2]:
            report(at, "'${' begins a variable, which is written ${NAME} and nothing else; a dollar sign is $$.")
            return ""
        if variable is None:
            return "$"
        if variable not in environment:
            report(at, f"the environment has no variable {variable}.")
        used[variable] = environment.get(variable, "")
        return used[variable]

    return _VARIABLE.sub(replacement, value)


def _without_values(message: str, used: Mapping[str, str]) -> str:
    """`message` with the names of variables for their values; values of less than four characters hold no secret."""
    for name, value in used.items():
        if len(value) >= 4:
            message = message.replace(value, f"${{{name}}}").replace(repr(value)[1:-1], f"${{{name}}}")
    return message
