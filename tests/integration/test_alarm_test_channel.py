"""`almenara alarms test-channel` of the channels for machines, against real servers."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from almenara.cli import app
from almenara.processes import free_port
from tests.support.brokers import Listener, alertmanager, mosquitto

pytestmark = pytest.mark.slow


def tried(folder: Path, channel: str) -> Result:
    """What the command says of the one channel of a file."""
    file = folder / "alarms.yaml"
    file.write_text(f"channels: [{{name: it, {channel}}}]")
    return CliRunner().invoke(app, ["alarms", "test-channel", "it", "--config", str(file)])


def test_a_test_of_an_mqtt_channel_publishes_one_message(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as url, Listener(url) as listener:
        result = tried(tmp_path, f"type: mqtt, url: '{url}'")
        assert json.loads(listener.wait("almenara/alarms/test"))["event"] == "test"
    assert result.exit_code == 0, result.output
    assert "it: the message was taken in" in result.output


def test_a_test_of_an_mqtt_channel_without_broker_says_so(tmp_path: Path) -> None:
    result = tried(tmp_path, f"type: mqtt, url: 'mqtt://op:hunter2@127.0.0.1:{free_port()}'")
    assert result.exit_code == 1
    assert "it: the message did not arrive" in result.output
    assert "hunter2" not in result.output


def test_a_test_of_an_alertmanager_channel_makes_one_alert(tmp_path: Path) -> None:
    with alertmanager(tmp_path) as url:
        result = tried(tmp_path, f"type: alertmanager, url: '{url}'")
        with urllib.request.urlopen(f"{url}/api/v2/alerts", timeout=5) as answer:  # noqa: S310 - the server just started
            names = [alert["labels"]["alertname"] for alert in json.load(answer)]
    assert result.exit_code == 0, result.output
    assert names == ["AlmenaraTest"]


def test_an_opcua_channel_cannot_be_tested_so_and_the_command_says_what_to_do(tmp_path: Path) -> None:
    result = tried(tmp_path, f"type: opcua, endpoint: 'opc.tcp://op:hunter2@127.0.0.1:{free_port()}'")
    assert result.exit_code == 1
    assert "Look with an OPC UA client at its endpoint while the service runs." in result.output
    assert "hunter2" not in result.output
