"""Mail and MQTT are away for an hour of virtual time, on real servers: all is told afterwards, nobody else waits."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from almenara.alarms import AlarmStore, Change, Deliverer, Phase
from almenara.alarms.channels import Channel, LogChannel, Pace
from almenara.alarms.channels.apprise import AppriseChannel
from almenara.alarms.channels.mqtt import MqttChannel
from almenara.alarms.messages import Renderer
from almenara.alarms.ticking import Ticker
from almenara.processes import free_port
from tests.support.alarms import NOW_RULE, Clock, observation, running
from tests.support.brokers import Listener, Receiver, mosquitto_process, wait_for
from tests.support.mail import Mailbox, html_of, smtp_server

pytestmark = pytest.mark.slow

CAMERAS = ("camera-0", "camera-1", "camera-2")
AWAY = ("shift", "manager", "bus")
STEP_SECONDS, HALF_AN_HOUR = 20, 90
PROMPT_SECONDS = 5.0
"""Real time in which the others are told; an attempt at a server that hangs takes 7 s."""
TOLD = {Change.RAISED, Change.RAISED_AGAIN, Change.RETURNED}
EVERY_ONE = Pace(limit=10_000)


def report(text: str) -> None:
    """Shown with ``pytest -s``."""
    sys.stdout.write(text)


@dataclass
class Plant:
    """Three cameras that come and go, on a clock that the test moves, and all that is told in threads of its own."""

    folder: Path
    hook: Receiver
    smtp_port: int = field(default_factory=free_port)
    broker_port: int = field(default_factory=free_port)
    clock: Clock = field(default_factory=Clock)
    slowest_seconds: float = 0.0
    steps: int = 0

    def __post_init__(self) -> None:
        url, write = f"sqlite:///{self.folder / 'alarms.db'}", Renderer("en")
        mail = f"mailto://127.0.0.1:{self.smtp_port}?from=alarms@plant.example&to="
        webhook = self.hook.url.replace("http", "json")
        self.channels: tuple[Channel, ...] = (
            LogChannel(self.folder / "alarms.log"),
            AppriseChannel("hook", webhook, renderer=write, pace=EVERY_ONE),
            AppriseChannel("shift", f"{mail}shift@plant.example", renderer=write, pace=EVERY_ONE),
            AppriseChannel("manager", f"{mail}manager@plant.example", renderer=write, pace=Pace()),
            MqttChannel("bus", f"mqtt://127.0.0.1:{self.broker_port}"),
        )
        names = [channel.name for channel in self.channels]
        self.store = AlarmStore(url, channels=names, wall_clock=self.clock.wall, monotonic=self.now)
        self._ticker = Ticker(self.store, wall_clock=self.clock.wall, monotonic=self.now)

    def now(self) -> float:
        return self.clock.seconds

    @contextmanager
    def telling(self) -> Iterator[None]:
        sender = Deliverer(self.store, self.channels, poll_seconds=0.02, wall_clock=self.clock.wall, monotonic=self.now)
        try:
            with running(sender.run):
                yield
        finally:
            for channel in self.channels:
                channel.close()

    def pass_half_an_hour(self, *quick: str) -> None:
        """A reading every 20 s, told at once in the log and at the webhook; at its end `quick` have tried all."""
        for _ in range(HALF_AN_HOUR):
            anomaly, source = 0.9 if self.steps // 9 % 2 == 0 else 0.1, CAMERAS[self.steps % 3]
            seen = observation(anomaly, source=source, at=self.clock.wall())
            begin = time.monotonic()
            changes = self.store.observe(seen, NOW_RULE, now=self.now())
            keys = {each.key for each in changes if each.change in TOLD}
            self._ticker.tick()
            if keys:
                wait_for(partial(self.told_at_once, keys), PROMPT_SECONDS)
                self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - begin)
            self.clock.forward(STEP_SECONDS)
            self.steps += 1
        self.rest("log", "hook", *quick)

    def rest(self, *names: str) -> None:
        """Wait until channels have tried all that is due, so that nothing is sent until the clock is moved."""
        wait_for(lambda: all(self.store.outbox.due(name, self.clock.wall()) is None for name in names))

    def errors(self, channel: str) -> str:
        """Of the last attempt of every message that waits."""
        return " ".join(each.error for each in self.store.pending_deliveries() if each.channel == channel)

    def until_all_is_told(self) -> None:
        for _ in range(120):
            self.rest(*(channel.name for channel in self.channels))
            if not self.store.pending_deliveries():
                return
            self.clock.forward(STEP_SECONDS)
        raise AssertionError(f"not told: {self.store.pending_deliveries()}")

    def hooked(self) -> list[dict[str, Any]]:
        return [told for request in list(self.hook.requests) for told in request.body["notifications"]]

    def logged(self) -> list[dict[str, Any]]:
        log = self.folder / "alarms.log"
        whole_lines = log.read_text().rpartition("\n")[0] if log.exists() else ""
        return [json.loads(line) for line in whole_lines.splitlines()]

    def told_at_once(self, keys: set[str]) -> bool:
        return all(keys <= {each["key"] for each in told} for told in (self.hooked(), self.logged()))


def in_order(told: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The keys of each alarm as they first arrived."""
    keys: dict[str, list[str]] = defaultdict(list)
    for alarm_id, key in told:
        if key not in keys[alarm_id]:
            keys[alarm_id].append(key)
    return keys


def of_cameras(notifications: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    return in_order((each["alarm"]["id"], each["key"]) for each in notifications if each["alarm"]["source"] in CAMERAS)


def of_channels(notifications: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    """What was told of each channel."""
    events: dict[str, list[str]] = defaultdict(list)
    for each in notifications:
        if (source := each["alarm"]["source"]) not in CAMERAS:
            events[source.removeprefix("channel/")].append(each["event"])
    return events


def published(listener: Listener) -> list[dict[str, Any]]:
    return [json.loads(body) for topic, body, _ in listener.received if topic.startswith("almenara/alarms/")]


def mails_to(recipient: str, mailbox: Mailbox) -> list[EmailMessage]:
    return [mail for mail in mailbox.received if mail["To"] == f"{recipient}@plant.example"]


def thread(mail: EmailMessage) -> str:
    return str(mail["References"]).strip("<>").removesuffix("@almenara")


def test_an_hour_without_mail_and_mqtt_is_told_afterwards_in_order_and_disturbs_no_other(tmp_path: Path) -> None:
    with ExitStack() as servers, Receiver() as hook:
        plant = Plant(tmp_path, hook)
        store = servers.enter_context(plant.store)
        servers.enter_context(plant.telling())

        plant.pass_half_an_hour(*AWAY)
        for channel in AWAY:
            assert "Connection refused" in plant.errors(channel)
            assert store.phase(f"channel/{channel}") is Phase.UNACKNOWLEDGED

        mailbox = servers.enter_context(smtp_server(port=plant.smtp_port))
        mailbox.refuse = lambda _: "451 4.3.0 try again later"
        url, broker = servers.enter_context(mosquitto_process(tmp_path, port=plant.broker_port))
        listener = servers.enter_context(Listener(url))
        os.kill(broker.pid, signal.SIGSTOP)  # connections to it are still taken, by the system
        servers.callback(os.kill, broker.pid, signal.SIGCONT)
        plant.pass_half_an_hour("shift", "manager")
        wait_for(lambda: "did not answer" in plant.errors("bus"))
        assert "451" in plant.errors("shift")
        assert "451" in plant.errors("manager")
        assert not mailbox.received
        assert not published(listener)

        mailbox.refuse = lambda _: None
        os.kill(broker.pid, signal.SIGCONT)
        plant.until_all_is_told()
        assert store.dead_deliveries() == []
        for channel in AWAY:
            assert store.phase(f"channel/{channel}") is Phase.RETURNED_UNACKNOWLEDGED
        log = [each for each in store.transitions(limit=10_000) if each.change in TOLD and each.source in CAMERAS]

    expected = in_order((each.alarm_id or "", each.key) for each in log)
    assert len(log) > 50
    assert of_cameras(plant.logged()) == of_cameras(plant.hooked()) == expected
    assert of_cameras(published(listener)) == expected
    mailed = in_order((thread(mail), str(mail["Idempotency-Key"])) for mail in mails_to("shift", mailbox))
    assert {alarm: mailed[alarm] for alarm in expected} == expected
    digests = [mail for mail in mails_to("manager", mailbox) if str(mail["Subject"]).startswith("Alarm flood")]
    assert all(any(camera in html_of(mail) for mail in digests) for camera in CAMERAS)
    both = ["raised", "returned"]
    assert of_channels(plant.hooked()) == of_channels(plant.logged()) == dict.fromkeys(AWAY, both)
    assert of_channels(published(listener)) == {"shift": both, "manager": both}
    report(
        f"\n{len(log)} messages a channel, {len(digests)} digests; the others: {plant.slowest_seconds:.2f} s at most"
    )
