"""The guide tells the truth: its table of settings is that of the models, its commands and examples are accepted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import UnionType
from typing import Literal, Union, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.main import get_command

from almenara.configuration.values import Part, parse_duration
from camera_worker.cli import app
from camera_worker.config import WorkerConfig, parse_config
from camera_worker.states import CameraState
from tests.support.data import ROOT

GUIDE = (ROOT / "docs" / "camera-worker.md").read_text(encoding="utf-8")
DURATIONS = {"timeout", "delay", "after", "before", "cooldown", "retry"}


def part_of(annotation: object) -> type[BaseModel] | None:
    """The model that an annotation is of, or of whose a tuple or an alternative of."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return annotation
    parts = (part_of(inner) for inner in get_args(annotation))
    return next((part for part in parts if part), None)


def default_of(name: str, field: FieldInfo) -> str:
    default = field.default
    if default is PydanticUndefined:
        return "required"
    if default is None or default == () or isinstance(default, BaseModel):
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, float) and DURATIONS & set(name.split("_")):
        return f"`{default:g}s`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def choices_of(annotation: object) -> str:
    """The values of a choice, in words; empty for anything else."""
    if get_origin(annotation) is Literal:
        return "; " + ", ".join(f"`{choice}`" for choice in get_args(annotation))
    if get_origin(annotation) in {Union, UnionType}:
        return "".join(map(choices_of, get_args(annotation)))
    return ""


def rows(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        part = part_of(field.annotation)
        is_list = get_origin(field.annotation) is tuple
        key = f"{prefix}{name}{'[]' if part and is_list else ''}"
        choices = choices_of(field.annotation)
        yield f"| `{key}` | {default_of(name, field)} | {field.title}: {field.description}{choices} |"
        if part:
            yield from rows(part, f"{key}.")


def test_the_table_of_settings_is_that_of_the_models() -> None:
    table = "\n".join(["| setting | default | meaning |", "| --- | --- | --- |", *rows(WorkerConfig)])
    assert table in GUIDE, f"put this table into the guide:\n{table}"


def test_defaults_that_are_shown_as_durations_are_durations() -> None:
    shown = re.findall(r"^\| `[\w.\[\]]+` \| `(\d+(?:\.\d+)?s)` \|", GUIDE, re.MULTILINE)
    assert len(shown) > 8
    assert all(parse_duration(text) > 0 for text in shown)


@pytest.mark.parametrize("state", CameraState)
def test_every_state_has_a_line_of_what_to_do(state: CameraState) -> None:
    assert f"| `{state}` |" in GUIDE


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL))
def test_every_example_is_accepted(example: str) -> None:
    data = yaml.safe_load(example)
    camera = {"name": "line-1", "source": "rtsp://127.0.0.1/cam"}
    worker = data if "cameras" in data else {"cameras": [{**camera, **data}]}
    assert parse_config(yaml.safe_dump(worker), name="guide", environment={"LINE_2_PASSWORD": "x"})


def test_every_option_of_the_guide_exists() -> None:
    command = get_command(app)
    known = {option for each in (command, *command.commands.values()) for p in each.params for option in p.opts}  # type: ignore[attr-defined]
    known |= {"--alerts", "--no-alerts", "--help", "--quick"}
    mentioned = {
        option for line in re.findall(r"camera-worker [^\n`]*", GUIDE) for option in re.findall(r"--[a-z-]+", line)
    }
    assert mentioned
    assert mentioned <= known


def test_every_option_of_watching_is_in_the_guide() -> None:
    for option in (option for parameter in get_command(app).params for option in parameter.opts):
        assert option == "--help" or option in GUIDE, option
