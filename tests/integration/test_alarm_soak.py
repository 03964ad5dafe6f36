"""Alarms told through kills, failing receivers, outages and floods: none is lost, none out of order, nobody is flooded.

``ALMENARA_SOAK_KILLS=200`` runs the kills as many times as the acceptance asks for.
"""

from __future__ import annotations

import http.server
import itertools
import os
import random
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import String, cast, func, insert, select, true, update

from almenara.alarms import AlarmRecord, AlarmStore, Deliverer, Message, Notification, Phase, Rule, tables
from almenara.alarms.channels import Pace
from almenara.alarms.leases import Leases
from almenara.alarms.ticking import Ticker
from tests.support.alarms import START, Clock, CollectingChannel, observe
from tests.support.data import ROOT
from tests.support.postgresql import postgresql_server

pytestmark = pytest.mark.slow

CHILD = ROOT / "tests" / "support" / "alarm_child.py"
KILLS = int(os.environ.get("ALMENARA_SOAK_KILLS", "25"))
UUID_LENGTH = 36
PACE = Pace(limit=10, window_seconds=600)


@dataclass
class Receivers:
    """What arrived at each path, in order; two in ten requests are refused, two more get no answer."""

    address: str = ""
    messages: dict[str, list[Message]] = field(default_factory=lambda: defaultdict(list))
    fate: random.Random = field(default_factory=lambda: random.Random(4))
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def failing_receivers() -> Iterator[Receivers]:
    receivers = Receivers()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with receivers.lock:
                fate = receivers.fate.random()
                if fate >= 0.2:
                    receivers.messages[self.path.strip("/")].append(Message.model_validate_json(body))
            if not 0.2 <= fate < 0.4:
                self.send_response(503 if fate < 0.2 else 204)
                self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receivers.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receivers
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def start_child(directory: Path, seed: int, address: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(CHILD), str(directory), str(seed), address]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def kill_again_and_again(directory: Path, address: str) -> set[str]:
    """Ids of the alarms that were announced before a kill; the last child delivers all that is left."""
    (directory / "raise").touch()
    announced: set[str] = set()
    pauses = random.Random(7)
    for seed in range(KILLS):
        child = start_child(directory, seed, address)
        assert child.stdout is not None
        announced.add(child.stdout.readline().strip())
        time.sleep(pauses.uniform(0.05, 0.8))
        child.kill()
        announced |= {line.strip() for line in child.stdout if line.endswith("\n")}
        child.wait()
    (directory / "raise").unlink()
    last = start_child(directory, KILLS, address)
    try:
        assert last.wait(180) == 0
    finally:
        last.kill()
    return announced


def report(text: str) -> None:
    """Shown with ``pytest -s``."""
    sys.stdout.write(text)


def each_told(messages: list[Message]) -> Iterator[Notification]:
    return itertools.chain.from_iterable(message.notifications for message in messages)


def test_kills_and_failing_receivers_lose_no_alarm_and_keep_the_order(tmp_path: Path) -> None:
    with failing_receivers() as receivers:
        announced = kill_again_and_again(tmp_path, receivers.address)
    with AlarmStore(f"sqlite:///{tmp_path / 'alarms.db'}") as store:
        alarms = {alarm.id for alarm in store.alarms(limit=100_000)}
        position = {transition.key: number for number, transition in enumerate(store.transitions(limit=1_000_000))}
        to_tell = {t.key for t in store.transitions(limit=1_000_000) if t.alarm_id and t.change != "pending"}
    assert announced <= alarms, "an alarm that was announced is not in the database"
    assert len(alarms) > 2 * KILLS
    copies = 0
    for channel in ("hook", "people"):
        messages = receivers.messages[channel]
        assert {told.key for told in each_told(messages)} == to_tell, f"not everything was told on {channel}"
        contents: dict[str, Message] = {}
        for message in messages:
            assert contents.setdefault(message.key, message) == message, "one key, two messages"
        copies += len(messages) - len(contents)
        last: dict[str, int] = defaultdict(int)
        for told in each_told(list(contents.values())):
            assert last[told.alarm.id] <= position[told.key], "told out of order"
            last[told.alarm.id] = position[told.key]
    assert copies, "no duplicate came, so that none was recognised by its key"
    assert {message.kind for message in receivers.messages["hook"]} == {"single"}
    assert "digest" in {message.kind for message in receivers.messages["people"]}
    report(f"\n{KILLS} kills, {len(alarms)} alarms, {2 * len(to_tell)} notifications, {copies} duplicates")


@contextmanager
def virtual(tmp_path: Path, clock: Clock, *names: str) -> Iterator[AlarmStore]:
    def route(alarm: AlarmRecord) -> tuple[str, ...]:
        return tuple(name for name in names if alarm.source != f"channel/{name}")

    url = f"sqlite:///{tmp_path / 'alarms.db'}"
    with AlarmStore(url, channels=route, wall_clock=clock.wall, monotonic=lambda: clock.seconds) as store:
        yield store


def deliverer(store: AlarmStore, clock: Clock, *channels: CollectingChannel) -> Deliverer:
    return Deliverer(store, channels, wall_clock=clock.wall, monotonic=lambda: clock.seconds)


def ticker(store: AlarmStore, clock: Clock) -> Ticker:
    return Ticker(store, wall_clock=clock.wall, monotonic=lambda: clock.seconds)


def test_channels_that_are_away_for_an_hour_tell_everything_afterwards_and_disturb_no_other(tmp_path: Path) -> None:
    clock, away = Clock(), 10**9
    log = CollectingChannel("log")
    mail = CollectingChannel("mail", failures=away, pace=PACE)
    bus = CollectingChannel("bus", failures=away)
    with virtual(tmp_path, clock, "log", "mail", "bus") as store:
        sender = deliverer(store, clock, log, mail, bus)
        for step in range(360):
            observe(store, clock, 0.9 if step // 9 % 2 == 0 else 0.1, source=f"camera-{step % 3}")
            sender.drain()
            held_up = [
                d for d in store.pending_deliveries() if d.channel == "log" and d.notification.alarm.kind == "vision"
            ]
            assert not held_up
            clock.forward(10)
        assert not mail.messages
        assert store.phase("channel/mail") is store.phase("channel/bus") is Phase.UNACKNOWLEDGED
        mail.failures = bus.failures = 0
        for _ in range(200):
            sender.drain()
            clock.forward(10)
        assert store.pending_deliveries() == store.dead_deliveries() == []
        for name in ("mail", "bus"):
            assert store.phase(f"channel/{name}") is Phase.RETURNED_UNACKNOWLEDGED
    for channel in (mail, bus):
        expected, got = keys_by_alarm(log), keys_by_alarm(channel)
        cameras = [alarm for alarm, told in expected.items() if told[0].alarm.source.startswith("camera-")]
        assert [expected[alarm] for alarm in cameras] == [got[alarm] for alarm in cameras]
    assert len(log.received) > 100


def keys_by_alarm(channel: CollectingChannel) -> dict[str, list[Notification]]:
    told: dict[str, list[Notification]] = defaultdict(list)
    for notification in channel.received:
        told[notification.alarm.id].append(notification)
    return told


def test_a_thousand_alarms_in_ten_minutes_are_ten_messages_and_a_digest_that_names_them_all(tmp_path: Path) -> None:
    clock, mail = Clock(), CollectingChannel("mail", pace=PACE)
    with virtual(tmp_path, clock, "mail") as store:
        sender = deliverer(store, clock, mail)
        for number in range(1000):
            observe(store, clock, 0.9, source=f"camera-{number}")
            if number % 5 == 0:
                sender.drain()
            clock.forward(0.6)
        assert len(mail.messages) <= 10
        clock.forward(10)
        sender.drain()
        assert store.pending_deliveries() == []
    digest = mail.messages[-1]
    assert len(mail.messages) <= 11
    assert digest.kind == "digest"
    named = {n.alarm.source for n in (*digest.earlier, *digest.notifications)}
    told = {n.alarm.source for n in mail.received}
    assert told == {f"camera-{number}" for number in range(1000)}
    report(f"\n{len(mail.messages)} messages, the last one names {len(named)}")


def test_a_thousand_crossings_an_hour_are_at_most_one_message_per_cooldown(tmp_path: Path) -> None:
    clock, log = Clock(), CollectingChannel("log")
    rule, sent_at = Rule(on_delay_seconds=0, off_delay_seconds=0, cooldown_seconds=60), []
    with virtual(tmp_path, clock, "log") as store:
        sender, ticks = deliverer(store, clock, log), ticker(store, clock)
        for crossing in range(1000):
            observe(store, clock, 0.9 if crossing % 2 == 0 else 0.1, rule)
            ticks.tick()
            sent_at += [clock.seconds] * sender.drain()
            clock.forward(3.6)
        observe(store, clock, 0.1, rule)
        for _ in range(30):
            ticks.tick()
            sent_at += [clock.seconds] * sender.drain()
            clock.forward(5)
    assert all(later - earlier >= 60 for earlier, later in itertools.pairwise(sent_at))
    assert log.received[-1].alarm.phase is Phase.RETURNED_UNACKNOWLEDGED, "when it is calm people learn that it is"
    report(f"\n1,000 crossings, {len(sent_at)} messages")


def test_sustained_anomaly_is_told_within_a_second_of_its_delay(tmp_path: Path) -> None:
    told = threading.Event()

    class Hook(CollectingChannel):
        def send(self, message: Message) -> None:
            told.set()

    rule, stop = Rule(on_delay_seconds=1), threading.Event()
    with AlarmStore(f"sqlite:///{tmp_path / 'alarms.db'}", monotonic=time.monotonic) as store:
        thread = threading.Thread(target=Deliverer(store, [Hook("log")]).run, args=(stop,))
        thread.start()
        begin = time.monotonic()
        clock = Clock(begin)
        while not told.wait(0.2) and time.monotonic() < begin + 10:
            clock.seconds = time.monotonic()
            observe(store, clock, 0.9, rule)
        delay = time.monotonic() - begin
        stop.set()
        thread.join(5)
    assert delay <= 2.0


def test_channels_are_shared_and_floods_digested_on_postgresql_too() -> None:
    clock, log, mail = Clock(), CollectingChannel("log"), CollectingChannel("mail", failures=1, pace=PACE)
    with postgresql_server() as url, AlarmStore(url, channels=("log", "mail"), wall_clock=clock.wall) as store:
        sender, sibling = deliverer(store, clock, log, mail), deliverer(store, clock, log, mail)
        for number in range(30):
            observe(store, clock, 0.9, source=f"camera-{number}")
        line = sender._lines[0]
        assert line.attempt() is True
        assert sibling._lines[0].attempt() is None, "it serves a channel that another holds"
        line.release()
        assert sibling.drain() == 29
        clock.forward(1)
        assert sender.drain() == 1
        assert [len(message.notifications) for message in mail.messages] == [30]
        assert len(log.messages) == 30
        assert store.overdue(clock.seconds) == 0

        ready, holders = threading.Barrier(8), []
        leases = Leases(store._engine)

        def ask(owner: str) -> None:
            ready.wait(5)
            if leases.hold("ticks", owner, START, 30):
                holders.append(owner)

        threads = [threading.Thread(target=ask, args=(f"owner-{number}",)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert len(holders) == 1
        assert not leases.hold("ticks", "late", START, 30)
        leases.release("ticks", holders[0])
        assert leases.hold("ticks", "late", START, 30)


def copy_alarm(store: AlarmStore, numbers: range) -> None:
    """Copies of the alarm that has UUIDs, of a transition and the message of it; the copies have numbers."""
    series = func.generate_series(numbers.start, numbers.stop - 1).table_valued("number").render_derived()
    number = cast(series.c.number, String)
    keys = {tables.alarms: ["id"], tables.transitions: ["key", "alarm_id"], tables.deliveries: ["key", "alarm_id"]}
    with store._engine.begin() as connection:
        for table, new in keys.items():
            first = select(table).where(func.length(table.c[new[0]]) == UUID_LENGTH).limit(1).subquery()
            names = [column.name for column in table.c if column.name not in ("id", *new)]
            copies = select(*(number.label(name) for name in new), *(first.c[name] for name in names))
            copies = copies.select_from(first.join(series, true()))
            connection.execute(insert(table).from_select([*new, *names], copies))


def test_flood_that_postgresql_did_not_expect_is_looked_through_at_once() -> None:
    """Its statistics are those of quiet times, when next to no message is open."""
    clock = Clock()
    with postgresql_server() as url, AlarmStore(url, wall_clock=clock.wall) as store:
        observe(store, clock, 0.9)
        [first] = store.pending_deliveries()
        copy_alarm(store, range(60_000))
        with store._engine.begin() as connection:
            of_old = tables.deliveries.c.id > first.id
            connection.execute(update(tables.deliveries).where(of_old).values(sent_at=START))
        with store._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
        copy_alarm(store, range(60_000, 67_500))
        begin = time.monotonic()
        due = store.outbox.due("log", clock.wall())
        waiting = store.outbox.waiting("log", clock.wall(), 10_000)
        took = time.monotonic() - begin
    assert due is not None
    assert due.id == first.id
    assert len(waiting) == 7501
    assert took < 1, f"{took:.1f} s"
