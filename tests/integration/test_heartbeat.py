"""The heartbeat against a real HTTP server and a real broker: it stops while something is wrong."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from almenara.alarms.heartbeat import Heartbeat
from almenara.errors import ConfigurationError
from almenara.processes import free_port
from tests.support.brokers import Listener, Receiver, mosquitto, wait_for

pytestmark = pytest.mark.slow

EVERY = 0.05


class Health:
    """What the process says of itself."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.asked = 0

    def __call__(self) -> str | None:
        self.asked += 1
        return self.reason

    def be(self, reason: str | None) -> None:
        """Change, and wait until beats are decided by it alone."""
        self.reason = reason
        asked = self.asked
        wait_for(lambda: self.asked >= asked + 2)


@contextmanager
def beating(url: str, healthy: Callable[[], str | None] = lambda: None, every: float = EVERY) -> Iterator[None]:
    stop = threading.Event()
    heartbeat = Heartbeat(url, every_seconds=every, healthy=healthy)
    thread = threading.Thread(target=heartbeat.run, args=(stop,))
    thread.start()
    yield
    stop.set()
    thread.join(15)
    assert not thread.is_alive()


def test_address_is_called_at_every_interval_path_and_query_included() -> None:
    with Receiver() as receiver:
        with beating(f"{receiver.url}/ping/uuid?status=up"):
            wait_for(lambda: len(receiver.requests) >= 3)
        assert {(each.method, each.path) for each in receiver.requests} == {("GET", "/ping/uuid?status=up")}


def told(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What heartbeats logged."""
    return [record for record in caplog.records if record.name == "almenara.alarms.heartbeat"]


def test_first_beat_goes_out_at_once_and_the_next_after_the_interval() -> None:
    with Receiver() as receiver, beating(receiver.url, every=600):
        wait_for(lambda: receiver.requests)
        time.sleep(0.3)  # nothing to wait for: there must be no second one
        assert len(receiver.requests) == 1


def test_beat_stops_while_something_is_wrong_and_resumes() -> None:
    health = Health()
    with Receiver() as receiver, beating(receiver.url, health):
        wait_for(lambda: receiver.requests)
        health.be("camera line-2 is not scored")
        silent = len(receiver.requests)
        health.be("camera line-2 is not scored")
        assert len(receiver.requests) == silent
        health.be(None)
        wait_for(lambda: len(receiver.requests) > silent)


def test_reason_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    capture = caplog.at_level(logging.INFO, "almenara.alarms.heartbeat")
    with capture, Receiver() as receiver, beating(receiver.url, health):
        for reason in ("outbox is late", "outbox is late", None, None):
            health.be(reason)
    assert [record.message for record in told(caplog)] == [
        "No heartbeat goes out: outbox is late",
        "The heartbeat goes out again.",
    ]


def test_health_that_cannot_be_told_is_no_health(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> str | None:
        raise RuntimeError("database is away")

    with Receiver() as receiver:
        with beating(receiver.url, broken):
            wait_for(lambda: "database is away" in caplog.text)
        assert receiver.requests == []


@pytest.mark.parametrize("status", [404, 500])
def test_watcher_that_refuses_is_logged_without_the_path_that_is_its_secret(
    caplog: pytest.LogCaptureFixture, status: int
) -> None:
    with Receiver(status=status) as receiver, beating(f"{receiver.url}/ping/secret-uuid"):
        wait_for(lambda: len(receiver.requests) >= 3)
    [record] = told(caplog)
    assert f"answered {status}" in record.message
    assert "secret-uuid" not in caplog.text


def test_watcher_that_comes_back_hears_the_next_beat() -> None:
    with Receiver(status=503) as receiver, beating(receiver.url):
        wait_for(lambda: receiver.requests)
        receiver.status = 200
        heard = len(receiver.requests)
        wait_for(lambda: len(receiver.requests) > heard + 1)


def test_watcher_that_is_away_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    with beating(f"http://127.0.0.1:{free_port()}/ping", health):
        wait_for(lambda: health.asked >= 3)
    [record] = told(caplog)
    assert "cannot be reached" in record.message


def test_beat_over_mqtt_is_its_time(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as url, Listener(url) as listener, beating(f"{url}/almenara/heartbeat"):
        payload = listener.wait("almenara/heartbeat", 2)
        assert abs(datetime.fromisoformat(payload.decode()).timestamp() - time.time()) < 5
        assert not any(retained for *_, retained in listener.received)


def test_beat_over_mqtt_resumes_after_the_broker(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    with beating(f"mqtt://127.0.0.1:{port}/almenara/heartbeat"):
        wait_for(lambda: "No heartbeat goes out" in caplog.text)
        with mosquitto(tmp_path, port=port) as url, Listener(url) as listener:
            listener.wait("almenara/heartbeat")


@pytest.mark.parametrize(
    "url",
    [
        "hc.example/secret",
        "ftp://hc.example/secret",
        "https:///secret",
        "https://user:secret@hc.example",
        "mqtt://user:secret@broker",
        "mqtt://user:secret@broker/a/+",
    ],
)
def test_impossible_address_is_a_configuration_error_without_its_secret(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Heartbeat(url, every_seconds=60, healthy=lambda: None)
    assert "secret" not in str(refused.value).replace("path or query is secret", "")
