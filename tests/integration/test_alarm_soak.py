"""Alarms in floods: all are told, nobody gets more messages than they can take; and how soon one alarm is told."""

from __future__ import annotations

import itertools
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

import pytest
from sqlalchemy import String, cast, func, insert, select, true, update

from almenara.alarms import AlarmRecord, AlarmStore, Deliverer, Phase, Rule, tables
from almenara.alarms.channels import Channel, Pace
from almenara.alarms.channels.apprise import AppriseChannel
from almenara.alarms.config import AlarmsConfig
from almenara.alarms.leases import Leases
from almenara.alarms.messages import Renderer
from almenara.alarms.office import AlarmOffice
from almenara.alarms.ticking import Ticker
from almenara.configuration.loading import parse_config
from tests.support.alarms import START, Clock, CollectingChannel, observation, observe
from tests.support.brokers import Receiver
from tests.support.mail import html_of, smtp_server
from tests.support.postgresql import postgresql_server

pytestmark = pytest.mark.slow

UUID_LENGTH = 36
THOUSAND = {f"camera-{number}" for number in range(1000)}
PACE = Pace(limit=10, window_seconds=600)


def report(text: str) -> None:
    """Shown with ``pytest -s``."""
    sys.stdout.write(text)


@contextmanager
def virtual(tmp_path: Path, clock: Clock, *names: str) -> Iterator[AlarmStore]:
    def route(alarm: AlarmRecord) -> tuple[str, ...]:
        return tuple(name for name in names if alarm.source != f"channel/{name}")

    url = f"sqlite:///{tmp_path / 'alarms.db'}"
    with AlarmStore(url, channels=route, wall_clock=clock.wall, monotonic=lambda: clock.seconds) as store:
        yield store


def deliverer(store: AlarmStore, clock: Clock, *channels: Channel) -> Deliverer:
    return Deliverer(store, channels, wall_clock=clock.wall, monotonic=lambda: clock.seconds)


def ticker(store: AlarmStore, clock: Clock) -> Ticker:
    return Ticker(store, wall_clock=clock.wall, monotonic=lambda: clock.seconds)


def mails_of_a_flood(folder: Path, *, singly: int) -> list[EmailMessage]:
    """What an SMTP server got of a thousand alarms in ten minutes: the first came singly, the others by fives."""
    clock = Clock()
    with smtp_server() as mailbox, virtual(folder, clock, "mail") as store:
        url = f"mailto://127.0.0.1:{mailbox.port}?from=alarms@plant.example&to=shift@plant.example"
        sender = deliverer(store, clock, AppriseChannel("mail", url, renderer=Renderer("en"), pace=PACE))
        for number in range(1000):
            observe(store, clock, 0.9, source=f"camera-{number}")
            if number < singly or number % 5 == 0:
                sender.drain()
            clock.forward(0.6)
        assert len(mailbox.received) <= 10
        clock.forward(10)
        sender.drain()
        assert store.pending_deliveries() == []
    report(f"\n1,000 alarms, {len(mailbox.received)} mails, the last has {len(html_of(mailbox.received[-1]))} letters")
    return mailbox.received


def named(mail: EmailMessage) -> set[str]:
    """The cameras that a mail names, in HTML and in plain text alike."""
    plain = mail.get_body(("plain",))
    assert plain is not None
    in_text, in_html = (set(re.findall(r"\bcamera-\d+", text)) for text in (str(plain.get_content()), html_of(mail)))
    assert in_text == in_html
    return in_html


def test_a_thousand_alarms_in_ten_minutes_are_ten_mails_and_a_digest_that_names_them_all(tmp_path: Path) -> None:
    *singles, digest = mails_of_a_flood(tmp_path, singly=20)
    assert len(singles) == 10
    assert named(digest) == THOUSAND


def test_a_thousand_alarms_that_come_in_bursts_are_ten_mails_at_most_and_digests_that_name_them_all(
    tmp_path: Path,
) -> None:
    mails = mails_of_a_flood(tmp_path, singly=0)
    digests = [mail for mail in mails if str(mail["Subject"]).startswith("Alarm flood")]
    assert len(mails) <= 11
    assert set().union(*map(named, digests)) == THOUSAND


def test_a_thousand_crossings_an_hour_are_at_most_one_message_per_repeat_interval(tmp_path: Path) -> None:
    clock, log, sent_at = Clock(), CollectingChannel("log"), []
    rule = Rule(on_delay_seconds=0, off_delay_seconds=0, cooldown_seconds=60, repeat_interval_seconds=600)
    with virtual(tmp_path, clock, "log") as store:
        sender, ticks = deliverer(store, clock, log), ticker(store, clock)
        for crossing in range(1000):
            observe(store, clock, 0.9 if crossing % 2 == 0 else 0.1, rule)
            ticks.tick()
            sent_at += [clock.seconds] * sender.drain()
            clock.forward(3.6)
        while_it_crosses = list(sent_at)
        observe(store, clock, 0.1, rule)
        for _ in range(30):
            ticks.tick()
            sent_at += [clock.seconds] * sender.drain()
            clock.forward(5)
    assert all(later - earlier >= 600 for earlier, later in itertools.pairwise(while_it_crosses))
    assert len(sent_at) == len(while_it_crosses) + 1
    assert log.received[-1].alarm.phase is Phase.RETURNED_UNACKNOWLEDGED, "when it is calm people learn that it is"
    report(f"\n1,000 crossings, {len(sent_at)} messages")


@pytest.mark.alone
def test_sustained_anomaly_is_told_within_a_second_of_its_delay(tmp_path: Path) -> None:
    """From the first reading above the threshold to the request at a webhook, five times, at five readings a second."""
    rule, took = Rule(on_delay_seconds=1), []
    with Receiver() as hook:
        webhook = f"channels: [{{name: hook, type: apprise, url: '{hook.url.replace('http', 'json')}'}}]"
        config = parse_config(webhook, AlarmsConfig, name="alarms.yaml", environment={})
        with AlarmOffice(f"sqlite:///{tmp_path / 'alarms.db'}", tmp_path, config=config) as office:
            for trial in range(5):
                begin = time.monotonic()
                while len(hook.requests) == trial and time.monotonic() < begin + 10:
                    seen = observation(0.9, source=f"camera-{trial}", at=datetime.now(UTC))
                    office.store.observe(seen, rule, now=time.monotonic())
                    time.sleep(0.2)
                took.append(hook.requests[trial].at - begin)
    report(f"\ntold {', '.join(f'{seconds:.2f}' for seconds in took)} s after the first reading")
    assert [request.body["notifications"][0]["alarm"]["source"] for request in hook.requests] == [
        f"camera-{trial}" for trial in range(5)
    ]
    assert all(1 <= seconds <= 2 for seconds in took)


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


@pytest.mark.alone
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
