"""Says in the words of the file's reader what the models found wrong with a value."""

from __future__ import annotations

import difflib
from typing import get_args

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from almenara.configuration.values import DURATION_PARSERS, Part
from almenara.configuration.yaml_lines import Location

WITHIN = "within"
"""Key of an error's context: where its place goes on, inside the list that was found wrong as a whole."""

_LIST = "write a list, an entry a line, each after a dash"
_SETTINGS = "write settings, one a line, as 'name: value'"
_NUMBER = "write a number"
_FLAG = "write true or false"
_WORDS = {
    "tuple_type": _LIST,
    "model_type": _SETTINGS,
    "model_attributes_type": _SETTINGS,
    "string_type": "write text; put a number or a date in quotes",
    "bool_type": _FLAG,
    "bool_parsing": _FLAG,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "int_type": _NUMBER,
    "int_parsing": _NUMBER,
    "int_from_float": "write a whole number",
}
_BOUNDS = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}


def place_of(detail: ErrorDetails) -> Location:
    """Keys and indices from the root to the value that is wrong."""
    return (*detail["loc"], *detail.get("ctx", {}).get(WITHIN, ()))


def sentence(detail: ErrorDetails, file: type[Part]) -> str:
    """What is wrong at the place of `detail` in a file of that kind."""
    place = place_of(detail)
    key, last = _called(place), str(place[-1]) if place else ""
    match detail["type"]:
        case "extra_forbidden":
            return f"'{last}' is no setting here{_meant(last, place, file)}"
        case "missing":
            return f"'{last}' is missing."
        case "too_short":
            return f"{key}: too few entries; at least {detail['ctx']['min_length']} needed."
        case "too_long":
            return f"{key}: too many entries; at most {detail['ctx']['max_length']} allowed."
        case kind if kind in _WORDS:
            return f"{key}: {_WORDS[kind]}."
        case kind if kind in _BOUNDS and (bounds := _bounds(place, file)):
            return f"{key}: it must be {bounds}."
        case _:
            message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "it must be")
            return f"{key}: {message}{'' if message.endswith(('.', '?')) else '.'}"


def _called(place: Location) -> str:
    """`active, entry 2` for the second entry of the list `active`."""
    position = max((index for index, part in enumerate(place) if isinstance(part, str)), default=-1)
    name = place[position] if position >= 0 else "the file"
    return f"{name}{''.join(f', entry {int(part) + 1}' for part in place[position + 1 :])}"


def _meant(name: str, place: Location, file: type[Part]) -> str:
    """The setting whose name is nearly `name`, as the end of a sentence; none where only another alternative has it."""
    field = _field(place[:-1], file)
    part = _part(field.annotation) if field else file
    near = difflib.get_close_matches(name, part.model_fields if part else (), n=1)
    return f"; did you mean '{near[0]}'?" if near and near[0] != name else "."


def _bounds(place: Location, file: type[Part]) -> str:
    """The range of the setting at `place`, with its unit; empty for an entry of a list, whose setting has none."""
    field = _field(place, file)
    limits = field.metadata if field else []
    unit = "s" if any(isinstance(limit, BeforeValidator) and limit.func in DURATION_PARSERS for limit in limits) else ""
    low, high = "", ""
    for limit in limits:
        match limit:
            case Gt(gt=number):
                low = f"more than {number}{unit}"
            case Ge(ge=number):
                low = f"at least {number}{unit}"
            case Lt(lt=number):
                high = f"less than {number}{unit}"
            case Le(le=number):
                high = f"at most {number}{unit}"
    return " and ".join(filter(None, (low, high)))


def _field(place: Location, file: type[Part]) -> FieldInfo | None:
    """The setting at a place; None when there is none of that name, and for the whole file."""
    part: type[Part] | None = file
    field = None
    for key in place:
        if isinstance(key, str):
            field = part.model_fields.get(key) if part else None
            part = _part(field.annotation) if field else None
    return field


def _part(annotation: object) -> type[Part] | None:
    """The model that an annotation is of, or a list or an alternative of."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return annotation
    return next((part for part in map(_part, get_args(annotation)) if part), None)
