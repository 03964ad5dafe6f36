"""The file alarms.yaml: what it may say, and how its mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from almenara.alarms.config import (
    AlarmsConfig,
    AlertmanagerPart,
    ApprisePart,
    MqttPart,
    OpcUaPart,
    load_alarms_config,
    parse_size,
)
from almenara.configuration.loading import parse_config
from almenara.errors import InputError

WHOLE = """\
language: es
time_zone: Europe/Madrid
link: https://almenara.plant.example
channels:
  - {name: shift, type: apprise, url: "${MAIL_URL}", at_least: high, rate: {limit: 5, window: 1m}, group_wait: 3s}
  - {name: bus, type: mqtt, url: "mqtts://op:${MQTT_PASSWORD}@broker:8883", topic: plant/almenara}
  - {name: oncall, type: alertmanager, url: "http://alertmanager:9093"}
  - {name: scada, type: opcua, endpoint: "opc.tcp://127.0.0.1:4840/almenara"}
heartbeat: {url: "https://hc.example/ping/1", every: 30s}
evidence: {url: "s3://evidence/line-2", endpoint: "http://minio:9000", keep: 30d, at_most: 500MB}
"""
ENVIRONMENT = {"MAIL_URL": "mailtos://op:hunter2@mail.example", "MQTT_PASSWORD": "swordfish"}


def parse(text: str) -> AlarmsConfig:
    return parse_config(text, AlarmsConfig, name="alarms.yaml", environment=ENVIRONMENT)


def mistakes(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse(text)
    return str(caught.value)


def test_a_whole_file_is_understood() -> None:
    config = parse(WHOLE)
    shift, bus, oncall, scada = config.channels
    assert isinstance(shift, ApprisePart)
    assert shift.url.get_secret_value() == ENVIRONMENT["MAIL_URL"]
    assert (shift.rate.limit, shift.rate.window, shift.group_wait, shift.at_least) == (5, 60.0, 3.0, "high")
    assert isinstance(bus, MqttPart)
    assert bus.topic == "plant/almenara"
    assert isinstance(oncall, AlertmanagerPart)
    assert isinstance(scada, OpcUaPart)
    assert scada.endpoint.get_secret_value() == "opc.tcp://127.0.0.1:4840/almenara"
    assert config.heartbeat is not None
    assert config.heartbeat.every == 30
    assert (config.evidence.keep, config.evidence.at_most) == (30 * 86400, 500_000_000)


def test_an_empty_file_is_the_log_alone() -> None:
    assert parse("") == AlarmsConfig()


def test_without_a_file_there_is_the_log_alone() -> None:
    assert load_alarms_config(None) == AlarmsConfig()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"alarms\.yaml cannot be read: there is no such file\..*ALMENARA_ALARMS_FILE"):
        load_alarms_config(tmp_path / "alarms.yaml")


def test_no_secret_is_shown() -> None:
    assert "hunter2" not in repr(parse(WHOLE))
    assert "swordfish" not in repr(parse(WHOLE))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("channels:\n  - name: a\n    type: apprise", "alarms.yaml, line 2: 'url' is missing."),
        (
            "channels:\n  - name: a\n    type: mqtt\n    url: mqtt://b\n    topik: x",
            "alarms.yaml, line 5: 'topik' is no setting here",
        ),
        (
            "channels:\n  - {name: a, type: opcua, endpoint: x}\n  - name: b\n    type: fax",
            "alarms.yaml, line 4: type: write one of apprise, mqtt, alertmanager, opcua.",
        ),
        (
            "channels:\n  - name: a\n    type: alertmanager\n    url: http://x\n    at_least: urgent",
            "alarms.yaml, line 5: at_least: it must be 'low', 'medium', 'high' or 'critical'.",
        ),
        (
            "channels:\n  - name: a\n    type: mqtt\n    url: mqtt://b\n    language: es",
            "alarms.yaml, line 5: 'language' is no setting here.",
        ),
        ("channels:\n  - oops", "alarms.yaml, line 2: channels, entry 1: write settings"),
        (
            "channels:\n  - {name: log, type: opcua, endpoint: 'opc.tcp://h'}",
            "'log' is the channel that is always there",
        ),
        (
            "channels:\n  - {name: a, type: opcua, endpoint: 'opc.tcp://h'}\n  - {name: a, type: mqtt, url: 'mqtt://b'}",
            "alarms.yaml, line 3: name: two channels are named a.",
        ),
        ("time_zone: Mars/Olympus", "line 1: time_zone: 'Mars/Olympus' is no time zone"),
        ("time_zone: ../etc/passwd", "is no time zone"),
        ("language: fr", "line 1: language: it must be 'en' or 'es'."),
        ("link: plant.example", "line 1: link: write an address such as"),
        ("evidence: {at_most: 20}", "line 1: at_most: 20 is no size"),
        ("language: en\nevidence:\n  at_most: " + "9" * 400 + "GB", "alarms.yaml, line 3: at_most: "),
        ("evidence: {at_most: 1MB, keep: 5}", "keep: 5 is no duration"),
        ("evidence: {endpoint: 'http://minio:9000'}", "an endpoint needs the 'url' of a bucket"),
        ("evidence: {url: 'http://minio/bucket'}", "url: write s3://BUCKET/PREFIX."),
        ("channels:\n  - {name: a, type: mqtt, url: 'mqtt://b', topic: 'a/#'}", "topic: write a topic without"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, message: str) -> None:
    assert message in mistakes(text)


def test_a_mistake_shows_no_secret() -> None:
    told = mistakes(
        "channels:\n  - {name: '${MQTT_PASSWORD} x', type: mqtt, url: 'mqtt://op:${MQTT_PASSWORD}@b', z: 1}"
    )
    assert "swordfish" not in told


def test_evidence_may_be_kept_for_ever() -> None:
    assert parse("evidence: {keep: off}").evidence.keep is None


@pytest.mark.parametrize(("text", "size"), [("500MB", 500_000_000), ("1.5 GB", 1_500_000_000), ("2TB", 2 * 10**12)])
def test_sizes_are_powers_of_ten(text: str, size: int) -> None:
    assert parse_size(text) == size
