"""The guide to alarms tells the truth: its file is accepted, its tables of settings are those of the models."""

from __future__ import annotations

import re
import shlex

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from almenara.alarms.config import CHANNEL_PARTS, AlarmsConfig, ApprisePart, ChannelPart
from almenara.cli.alarms import app
from almenara.configuration.loading import parse_config
from tests.support.data import ROOT
from tests.support.guides import table

GUIDE = (ROOT / "docs" / "alarms.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
ENVIRONMENT = {
    "SHIFT_MAIL_URL": "mailtos://user:password@mail.example",
    "MANAGER_SMS_URL": "smseagles://token@gateway.example",
    "MQTT_PASSWORD": "swordfish",
    "HEARTBEAT_URL": "https://hc.example/ping/1",
}


def test_the_table_of_settings_is_that_of_the_models() -> None:
    settings = table(AlarmsConfig, whole={"channels"})
    assert settings in GUIDE, f"put this table into the guide:\n{settings}"


@pytest.mark.parametrize("kind", CHANNEL_PARTS)
def test_the_table_of_a_channels_settings_is_that_of_its_model(kind: str) -> None:
    common = () if CHANNEL_PARTS[kind] is ApprisePart else ChannelPart.model_fields
    settings = table(CHANNEL_PARTS[kind], without=common)
    assert settings in GUIDE, f"put this table into the guide:\n{settings}"


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_accepted(example: str) -> None:
    parse_config(example, AlarmsConfig, name="guide", environment=ENVIRONMENT)


def test_the_whole_file_shows_every_setting() -> None:
    shown = max(EXAMPLES, key=len)
    fields = {name for part in (AlarmsConfig, *CHANNEL_PARTS.values()) for name in part.model_fields}
    assert {name for name in fields if not re.search(rf"\b{name}:", shown)} == set()


@pytest.mark.parametrize("line", re.findall(r"`almenara alarms (.*?)`", GUIDE))
def test_every_command_is_understood(line: str) -> None:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    name, *arguments = shlex.split(line)
    command = group.get_command(group.make_context("alarms", [name]), name)
    assert command is not None
    command.make_context(name, arguments)


def test_the_composed_platforms_file_is_accepted() -> None:
    text = (ROOT / "deploy" / "alarms.yaml").read_text(encoding="utf-8")
    assert parse_config(text, AlarmsConfig, name="deploy", environment={}).channels == ()
