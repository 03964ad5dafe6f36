"""Channels as alarms.yaml describes them, before they have sent anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from almenara.alarms.channels import Pace
from almenara.alarms.channels.opening import load_checked, open_channel
from almenara.alarms.config import AlarmsConfig
from almenara.cli import app
from almenara.configuration.loading import parse_config
from almenara.errors import ConfigurationError, InputError
from camera_worker.cli import app as camera_worker


def config(channel: str) -> AlarmsConfig:
    return parse_config(f"channels: [{channel}]", AlarmsConfig, name="alarms.yaml", environment={})


@pytest.mark.parametrize(
    ("channel", "pace"),
    [
        ("{name: a, type: mqtt, url: 'mqtt://127.0.0.1', topic: plant}", None),
        ("{name: a, type: alertmanager, url: 'http://127.0.0.1:9093'}", None),
        ("{name: a, type: opcua, endpoint: 'opc.tcp://127.0.0.1:4840/almenara'}", None),
        ("{name: a, type: apprise, url: 'json://127.0.0.1'}", Pace(10, 600.0, 0.0)),
        (
            "{name: a, type: apprise, url: 'json://127.0.0.1', rate: {limit: 3, window: 1m}, group_wait: 5s}",
            Pace(3, 60.0, 5.0),
        ),
    ],
)
def test_a_channel_has_its_name_and_pace(channel: str, pace: Pace | None) -> None:
    whole = config(channel)
    opened = open_channel(whole.channels[0], config=whole)
    assert (opened.name, opened.pace) == ("a", pace)
    opened.close()


@pytest.mark.parametrize(
    "channel",
    [
        "{name: bus, type: mqtt, url: 'https://op:hunter2@broker'}",
        "{name: bus, type: alertmanager, url: 'ftp://op:hunter2@host'}",
        "{name: bus, type: apprise, url: 'nothing://op:hunter2@host'}",
    ],
)
def test_an_address_of_another_kind_is_refused_without_its_secret(channel: str) -> None:
    whole = config(channel)
    with pytest.raises(ConfigurationError) as refused:
        open_channel(whole.channels[0], config=whole)
    assert "hunter2" not in str(refused.value)
    assert "bus" in str(refused.value)


WRONG = """
channels:
  - name: shift
    type: apprise
    url: "nothing://op:hunter2@host"
  - {name: right, type: mqtt, url: "mqtt://127.0.0.1:9"}
  - name: bus
    type: mqtt
    url: "https://op:hunter2@broker"
  - {name: oncall, type: alertmanager, url: "ftp://op:hunter2@host"}
  - name: scada
    type: opcua
    endpoint: "opc.tcp://op:hunter2@0.0.0.0:4840"
heartbeat: {url: "gopher://hunter2"}
"""


@pytest.fixture
def wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in which all but one address cannot be used; the folder is the current one."""
    monkeypatch.chdir(tmp_path)
    Path("alarms.yaml").write_text(WRONG)
    return Path("alarms.yaml")


def assert_names_every_mistake(told: str) -> None:
    """With channel and line, and without the secret."""
    lines = told.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [f"alarms.yaml, line {n}" for n in (5, 9, 10, 13, 14)]
    assert all(name in line for name, line in zip(("shift", "bus", "oncall", "scada", "heartbeat"), lines, strict=True))
    assert "hunter2" not in told


def test_every_address_that_cannot_be_used_is_named_with_its_line(wrong: Path) -> None:
    with pytest.raises(InputError) as refused:
        load_checked(wrong)
    assert_names_every_mistake(str(refused.value))


@pytest.mark.parametrize("channel", ["right", "log"])
def test_a_channel_is_not_tested_while_its_file_has_mistakes(
    wrong: Path, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALMENARA_VAR_DIR", "var")
    done = CliRunner().invoke(app, ["alarms", "test-channel", channel, "--config", str(wrong)])
    assert isinstance(done.exception, InputError)
    assert_names_every_mistake(str(done.exception))
    assert not Path("var").exists()


@pytest.mark.parametrize("named_by", ["file", "environment"])
def test_validating_cameras_checks_the_channels_of_their_alarms(
    wrong: Path, named_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cameras = "cameras: [{name: a, source: 0}]"
    if named_by == "environment":
        monkeypatch.setenv("ALMENARA_ALARMS_FILE", str(wrong))
    Path("cameras.yaml").write_text(cameras if named_by == "environment" else f"alarms_file: {wrong}\n{cameras}")
    done = CliRunner().invoke(camera_worker, ["validate", "cameras.yaml"])
    assert isinstance(done.exception, InputError)
    assert_names_every_mistake(str(done.exception))


def test_validating_cameras_names_the_channels_of_their_alarms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("alarms.yaml").write_text("channels: [{name: bus, type: mqtt, url: 'mqtt://127.0.0.1:9'}]")
    Path("cameras.yaml").write_text("alarms_file: alarms.yaml\ncameras: [{name: a, source: 0}]")
    done = CliRunner().invoke(camera_worker, ["validate", "cameras.yaml"])
    assert done.exit_code == 0, done.exception
    assert done.stdout.splitlines()[1:] == ["alarms.yaml: channels log, bus", "cameras.yaml is valid."]
