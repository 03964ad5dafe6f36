"""Prometheus Alertmanager: one alert for each source, firing from the raise to the return."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from typing import Any

from almenara.alarms.channels.addresses import Address, parse_address
from almenara.alarms.channels.base import SEND_SECONDS, Pace
from almenara.alarms.messages.entries import Links
from almenara.alarms.records import Message, Notification

FIRING = timedelta(days=7)
"""An alert that is neither reminded of nor returned ends after this."""
TEST = timedelta(minutes=5)
"""A test message fires for so long."""


class AlertmanagerChannel:
    """Posts alerts to ``/api/v2/alerts`` of one Alertmanager."""

    pace: Pace | None = None

    def __init__(
        self, name: str, url: str, *, link: str | None = None, token: Callable[[str], str] | None = None
    ) -> None:
        """Take its settings.

        Args:
            name: of the channel.
            url: of Alertmanager; may hold user and password for basic authentication, and a path before ``/api``.
            link: public address of the API.
            token: signs the path of a link, so that it opens without an API key.

        Raises:
            ConfigurationError: the address cannot be used.
        """
        self._name = name
        self._address = parse_address(url, {"http": 80, "https": 443}, "http://alertmanager:9093")
        self._links = Links(link.rstrip("/") if link else None, token, "en")

    @property
    def name(self) -> str:
        return self._name

    def send(self, message: Message) -> None:
        """Post its alerts.

        Raises:
            OSError: Alertmanager is away, or it refuses; the text has the first words of its answer.
        """
        now = datetime.now(UTC)
        alerts = [alert(each, now, self._links) for each in message.notifications]
        post_json(self._address, "/api/v2/alerts", alerts)

    def close(self) -> None:
        """Nothing stays open between two messages."""


def alert(notification: Notification, now: datetime, links: Links) -> dict[str, Any]:
    """The alert of a notification. Its labels stay the same from the raise to the return, as they identify it."""
    alarm = notification.alarm
    annotations = {
        "summary": f"{alarm.source}: {alarm.reason or 'alarm'}",
        "description": (
            f"Alarm {alarm.id} ({alarm.kind}, {alarm.priority}), raised {_text(alarm.raised_at)}, "
            f"score {alarm.score:.2f}, peak {alarm.peak:.2f}."
        ),
        "key": notification.key,
    }
    content = {
        "labels": {
            "alertname": "AlmenaraAlarm" if notification.event != "test" else "AlmenaraTest",
            "source": alarm.source,
            "kind": alarm.kind,
            "severity": alarm.priority,
        },
        "annotations": annotations,
        "startsAt": _text(alarm.raised_at),
        "endsAt": _text(_end(notification, now)),
    }
    if link := links.to_alarm(alarm):
        annotations["link"] = content["generatorURL"] = link
    return content


def post_json(address: Address, path: str, content: Any) -> None:
    """POST `content` below the path of an address; a redirection counts as a refusal, as it would drop the content.

    Raises:
        OSError: the server is away, or it refuses.
    """
    target = f"{address}{address.path.rstrip('/')}{path}"
    request = urllib.request.Request(target, json.dumps(content).encode())  # noqa: S310 - http or https, as checked
    request.add_header("Content-Type", "application/json")
    if address.user is not None:
        credentials = base64.b64encode(f"{address.user}:{address.password or ''}".encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {credentials}")
    try:
        with urllib.request.build_opener(_NoRedirection).open(request, timeout=SEND_SECONDS / 2):
            return
    except urllib.error.HTTPError as error:
        with error:
            answer = " ".join(error.read(300).decode(errors="replace").split())
        raise OSError(f"{address} answered {error.code}: {answer or error.reason}") from None
    except urllib.error.URLError as error:
        raise OSError(f"{address} cannot be reached: {error.reason}.") from error
    except HTTPException as error:
        raise OSError(f"{address} gave no answer in HTTP: {type(error).__name__}.") from error


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any) -> None:
        return None


def _end(notification: Notification, now: datetime) -> datetime:
    alarm = notification.alarm
    if notification.event == "test":
        return now + TEST
    if notification.event == "returned":
        return max(alarm.cleared_at or notification.at, alarm.raised_at)
    return now + FIRING


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
