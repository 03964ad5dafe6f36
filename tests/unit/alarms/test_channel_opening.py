"""Channels as alarms.yaml describes them, before they have sent anything."""

from __future__ import annotations

import pytest

from almenara.alarms.channels import Pace
from almenara.alarms.channels.opening import open_channel
from almenara.alarms.config import AlarmsConfig
from almenara.configuration.loading import parse_config
from almenara.errors import ConfigurationError


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
