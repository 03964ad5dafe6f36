"""The table of settings that a guide has to show, made of the models that read the file."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from types import UnionType
from typing import Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from almenara.alarms.config import parse_size
from almenara.configuration.values import DURATION_PARSERS, Part

HEAD = ("| setting | default | meaning |", "| --- | --- | --- |")


def table(model: type[BaseModel], *, whole: Collection[str] = (), without: Collection[str] = ()) -> str:
    """A row a setting; of those named in `whole` not what is in them, and not those named in `without`."""
    return "\n".join([*HEAD, *_rows(model, "", whole, without)])


def part_of(annotation: object) -> type[BaseModel] | None:
    """The model that an annotation is of, or of whose a tuple or an alternative of."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return annotation
    parts = (part_of(inner) for inner in get_args(annotation))
    return next((part for part in parts if part), None)


def _rows(model: type[BaseModel], prefix: str, whole: Collection[str], without: Collection[str]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name in without:
            continue
        part = part_of(field.annotation)
        key = f"{prefix}{name}{'[]' if part and get_origin(field.annotation) is tuple else ''}"
        yield f"| `{key}` | {_default(field)} | {field.title}: {field.description}{_choices(field.annotation)} |"
        if part and name not in whole:
            yield from _rows(part, f"{key}.", whole, without)


def _default(field: FieldInfo) -> str:
    default = field.default
    if default is PydanticUndefined:
        return "" if field.default_factory else "required"
    if default is None or default == () or isinstance(default, BaseModel):
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    parsers = [each.func for each in field.metadata if isinstance(each, BeforeValidator)]
    if any(parser in DURATION_PARSERS for parser in parsers):
        return f"`{_duration(default)}`"
    if parse_size in parsers:
        return f"`{default / 1e9:g}GB`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _duration(seconds: float) -> str:
    """As people write it; up to ten minutes in seconds."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 600 and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"


def _choices(annotation: object) -> str:
    """The values of a choice, in words; empty for anything else."""
    if get_origin(annotation) is Literal:
        return "; " + ", ".join(f"`{choice}`" for choice in get_args(annotation))
    if get_origin(annotation) in {Union, UnionType}:
        return "".join(map(_choices, get_args(annotation)))
    return ""
