"""The Alertmanager channel against a real Alertmanager, and against servers that refuse."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from almenara.alarms.channels.alertmanager import FIRING, AlertmanagerChannel
from almenara.alarms.channels.alertmanager import alert as alert_of
from almenara.alarms.messages.entries import Links
from almenara.alarms.records import MessageEvent
from almenara.errors import ConfigurationError
from almenara.processes import free_port
from tests.support.brokers import Receiver, alertmanager
from tests.support.bus_messages import ALARM_ID, RAISED_AT, message, notification
from tests.support.fences import assert_documented

pytestmark = pytest.mark.slow

LINK = "https://almenara.plant.example"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with alertmanager(tmp_path_factory.mktemp("alertmanager")) as address:
        yield address


def standing(server: str, source: str) -> list[Any]:
    """The alerts of a source that fire."""
    with urllib.request.urlopen(f"{server}/api/v2/alerts", timeout=5) as answer:  # noqa: S310 - loopback
        return [alert for alert in json.load(answer) if alert["labels"]["source"] == source]


def send(server: str, event: MessageEvent, source: str, seconds: float = 0, **changes: Any) -> None:
    changes.setdefault("raised_at", datetime.now(UTC) - timedelta(minutes=1))
    AlertmanagerChannel("oncall", server, link=LINK).send(message(event, seconds, source=source, **changes))


def test_raise_fires_with_source_kind_and_severity(server: str) -> None:
    send(server, "raised", "cam-1")
    [alert] = standing(server, "cam-1")
    assert alert["labels"] == {
        "alertname": "AlmenaraAlarm",
        "source": "cam-1",
        "kind": "vision",
        "severity": "high",
    }
    assert alert["annotations"]["summary"] == "cam-1: foreign object"
    assert alert["annotations"]["key"] == "5d0c4e0e-raised"
    assert alert["generatorURL"] == f"{LINK}/alarms/{ALARM_ID}?lang=en"
    assert "phase" not in alert["annotations"], "no acknowledgement is told, so that it would not stay true"


def test_link_opens_without_a_key(server: str) -> None:
    channel = AlertmanagerChannel("oncall", server, link=LINK, token=lambda path: f"signed{path.count('/')}")
    channel.send(message(source="cam-0", raised_at=datetime.now(UTC)))
    [alert] = standing(server, "cam-0")
    link = f"{LINK}/alarms/{ALARM_ID}?lang=en&token=signed2"
    assert alert["generatorURL"] == alert["annotations"]["link"] == link


def test_return_ends_the_alert(server: str) -> None:
    send(server, "raised", "cam-2")
    send(server, "returned", "cam-2", 30)
    assert standing(server, "cam-2") == []


def test_message_that_comes_twice_makes_one_alert(server: str) -> None:
    for _ in range(2):
        send(server, "raised", "cam-3")
    assert len(standing(server, "cam-3")) == 1


def test_alert_fires_for_days_and_a_reminder_prolongs_it(server: str) -> None:
    raised_at = datetime.now(UTC) - timedelta(days=6)
    send(server, "raised", "cam-4", raised_at=raised_at)
    [alert] = standing(server, "cam-4")
    first = datetime.fromisoformat(alert["endsAt"])
    assert abs((first - datetime.now(UTC) - FIRING).total_seconds()) < 60
    send(server, "reminder", "cam-4", raised_at=raised_at)
    [alert] = standing(server, "cam-4")
    assert datetime.fromisoformat(alert["endsAt"]) > first
    assert datetime.fromisoformat(alert["startsAt"]).timestamp() == pytest.approx(raised_at.timestamp(), abs=0.01)


def test_return_that_is_told_an_hour_late_ends_the_alert_of_its_raise(server: str) -> None:
    raised_at = datetime.now(UTC) - timedelta(hours=1)
    send(server, "raised", "cam-5", raised_at=raised_at)
    send(server, "returned", "cam-5", 10, raised_at=raised_at)
    assert standing(server, "cam-5") == []


def test_alarm_raised_again_fires_again(server: str) -> None:
    send(server, "raised", "cam-6")
    send(server, "returned", "cam-6", 10)
    send(server, "raised", "cam-6", raised_at=datetime.now(UTC))
    assert len(standing(server, "cam-6")) == 1


def test_test_message_is_an_alert_of_another_name(server: str) -> None:
    send(server, "test", "bench")
    [alert] = standing(server, "bench")
    assert alert["labels"]["alertname"] == "AlmenaraTest"
    assert datetime.fromisoformat(alert["endsAt"]) < datetime.now(UTC) + timedelta(minutes=6)


def test_user_and_password_of_the_address_go_into_the_header_alone() -> None:
    with Receiver() as receiver:
        channel = AlertmanagerChannel("oncall", receiver.url.replace("//", "//shift:p%40ss@") + "/am/")
        channel.send(message())
        [request] = receiver.requests
    assert request.path == "/am/api/v2/alerts"
    assert request.authorization == f"Basic {base64.b64encode(b'shift:p@ss').decode()}"


def test_refusal_says_what_the_server_answered_and_no_password() -> None:
    with Receiver(status=400) as receiver, pytest.raises(OSError, match="answered 400: as you say") as refused:
        AlertmanagerChannel("oncall", receiver.url.replace("//", "//shift:secret@")).send(message())
    assert "secret" not in str(refused.value)


def test_redirection_is_a_refusal_as_the_alert_would_be_lost() -> None:
    with Receiver() as elsewhere, Receiver(status=302, location=elsewhere.url) as receiver:
        with pytest.raises(OSError, match="answered 302"):
            AlertmanagerChannel("oncall", receiver.url).send(message())
        assert elsewhere.requests == []


def test_server_that_is_away_fails_the_message() -> None:
    with pytest.raises(OSError, match="cannot be reached"):
        AlertmanagerChannel("oncall", f"http://127.0.0.1:{free_port()}").send(message())


@pytest.mark.parametrize("url", ["ftp://shift:secret@host", "http://shift:secret@/x", "http://shift:secret@host?a=b"])
def test_impossible_address_is_a_configuration_error_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        AlertmanagerChannel("oncall", url)
    assert "secret" not in str(refused.value)


def test_documentation_shows_the_alerts_as_they_are_posted() -> None:
    for event, seconds in (("raised", 0), ("returned", 42)):
        told = notification(event, seconds)  # type: ignore[arg-type]
        text = json.dumps(alert_of(told, RAISED_AT + timedelta(seconds=seconds), Links(LINK, None, "en")), indent=2)
        assert_documented("alarms/buses.md", f"alertmanager-{event}", text)
