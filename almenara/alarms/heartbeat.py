"""The heartbeat: an outside watcher hears from this process only while it sees everything and tells everything."""

from __future__ import annotations

import logging
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from http.client import HTTPException
from urllib.parse import unquote

from almenara.alarms.channels.addresses import parse_address
from almenara.errors import ConfigurationError

BEAT_SECONDS = 5.0
"""How long one beat may take."""

logger = logging.getLogger(__name__)


class Heartbeat:
    """Calls an address at intervals, as long as nothing is wrong.

    Over HTTP it is a GET, as healthchecks and push monitors take it; over MQTT the time of the beat (ISO 8601, UTC) is
    published to the topic that the address names, QoS 1, not retained.
    """

    def __init__(self, url: str, *, every_seconds: float, healthy: Callable[[], str | None]) -> None:
        """Take its settings.

        Args:
            url: ``http(s)://…``, or ``mqtt(s)://user:password@broker/topic``.
            every_seconds: time between two beats.
            healthy: None while all is well, else why no beat may go out.

        Raises:
            ConfigurationError: the address cannot be used.
        """
        self._beat = _mqtt_beat(url) if url.lower().startswith("mqtt") else _http_beat(url)
        self._every_seconds = every_seconds
        self._healthy = healthy
        self._trouble = ""

    def run(self, stop: threading.Event) -> None:
        """Beat now and at every interval until `stop` is set. What fails is logged when it begins and when it ends."""
        due = time.monotonic()
        while not stop.wait(max(due - time.monotonic(), 0)):
            self._try()
            due = max(due + self._every_seconds, time.monotonic())

    def _try(self) -> None:
        trouble = self._why_not()
        if trouble and trouble != self._trouble:
            logger.warning("No heartbeat goes out: %s", trouble)
        elif self._trouble and not trouble:
            logger.info("The heartbeat goes out again.")
        self._trouble = trouble

    def _why_not(self) -> str:
        """Beat, and say what stood in the way; empty when it went out."""
        try:
            reason = self._healthy()
        except Exception as error:  # noqa: BLE001 - whoever cannot say that it is well is not well
            return f"the state of this process cannot be told: {error!r}"
        if reason is not None:
            return reason or "this process is not well."
        try:
            self._beat()
        except Exception as error:  # noqa: BLE001 - the watcher notices, and the next beat may go out
            return str(error) or type(error).__name__
        return ""


def _http_beat(url: str) -> Callable[[], None]:
    """Its path is often all that keeps others from beating in our place, so that errors name only the host."""
    parts = url.partition("#")[0].partition("?")
    address = parse_address(parts[0], {"http": 80, "https": 443}, "https://hc-ping.com/your-uuid")
    if address.user is not None:
        raise ConfigurationError("The heartbeat's address may hold no user.", "Use one whose path or query is secret.")
    target = f"{address}{address.path}{parts[1]}{parts[2]}"

    def beat() -> None:
        try:
            with urllib.request.urlopen(target, timeout=BEAT_SECONDS):  # noqa: S310 - http or https, as checked
                return
        except urllib.error.HTTPError as error:
            error.close()
            raise OSError(f"{address} answered {error.code}.") from None
        except urllib.error.URLError as error:
            raise OSError(f"{address} cannot be reached: {error.reason}.") from None
        except (OSError, HTTPException) as error:
            raise OSError(f"{address} gave no answer: {type(error).__name__}.") from None

    return beat


def _mqtt_beat(url: str) -> Callable[[], None]:
    from almenara.alarms.channels.mqtt import Connection, parse_broker

    address = parse_broker(url)
    topic = unquote(address.path.lstrip("/"))
    if not topic or any(c in "+#\0" for c in topic):
        raise ConfigurationError(
            f"The heartbeat's address {address} names no topic that can be used.",
            "Write one such as mqtts://user:password@broker:8883/almenara/heartbeat.",
        )

    def beat() -> None:
        deadline = time.monotonic() + BEAT_SECONDS
        connection = Connection(address)
        try:
            connection.open(deadline)
            connection.publish(topic, datetime.now(UTC).isoformat(timespec="seconds"), deadline=deadline)
        finally:
            connection.close()

    return beat
