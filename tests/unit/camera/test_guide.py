"""The guide tells the truth: its table of settings is that of the models, its commands and examples are accepted."""

from __future__ import annotations

import re

import pytest
import yaml
from typer.main import get_command

from almenara.configuration.values import parse_duration
from camera_worker.cli import app
from camera_worker.config import WorkerConfig, parse_config
from camera_worker.states import CameraState
from tests.support.data import ROOT
from tests.support.guides import table

GUIDE = (ROOT / "docs" / "camera-worker.md").read_text(encoding="utf-8")


def test_the_table_of_settings_is_that_of_the_models() -> None:
    settings = table(WorkerConfig)
    assert settings in GUIDE, f"put this table into the guide:\n{settings}"


def test_defaults_that_are_shown_as_durations_are_durations() -> None:
    shown = re.findall(r"^\| `[\w.\[\]]+` \| `(\d+(?:\.\d+)?[smhd])` \|", GUIDE, re.MULTILINE)
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
