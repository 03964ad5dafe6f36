"""The deliverer and people: rate, groups, and the digest of a flood."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from datetime import datetime

import pytest

from almenara.alarms import AlarmStore, Deliverer, Phase, Rule
from almenara.alarms.channels import Pace
from almenara.alarms.messages import LANGUAGES, Renderer
from almenara.alarms.state import CHATTER_SECONDS
from tests.support.alarms import START, Clock, CollectingChannel, observe

PACE = Pace(limit=10, window_seconds=600)


def deliverer(store: AlarmStore, clock: Clock, *channels: CollectingChannel) -> Deliverer:
    return Deliverer(store, channels, wall_clock=clock.wall, monotonic=lambda: clock.seconds)


def flood(store: AlarmStore, clock: Clock, count: int, seconds: float, each: Callable[[], object]) -> None:
    for number in range(count):
        observe(store, clock, 0.9, source=f"camera-{number}")
        each()
        clock.forward(seconds / count)


def test_flood_is_told_in_as_many_messages_as_people_can_take_and_a_digest_that_names_it_all(
    store: AlarmStore, clock: Clock
) -> None:
    log, mail = CollectingChannel("log"), CollectingChannel("mail", pace=PACE)
    sender = deliverer(store, clock, log, mail)
    flood(store, clock, 200, 600, sender.drain)
    assert [message.kind for message in mail.messages] == ["single"] * 10
    assert sender.drain() == 1
    digest = mail.messages[-1]
    assert digest.kind == "digest"
    named = [n.alarm.source for n in (*digest.earlier, *digest.notifications)]
    assert named == [f"camera-{number}" for number in range(200)]
    assert len(log.messages) == 200, "a machine gets everything by itself"
    assert store.pending_deliveries() == []


def test_a_thousand_alarms_in_ten_minutes_are_ten_messages_and_a_mail_that_names_every_source(
    store: AlarmStore, clock: Clock
) -> None:
    mail = CollectingChannel("mail", pace=PACE)
    sender, raised = deliverer(store, clock, mail), itertools.count()

    def drain_at_times() -> None:
        number = next(raised)
        if number < 20 or number % 20 == 0:
            sender.drain()

    flood(store, clock, 1000, 600, drain_at_times)
    clock.forward(1)
    sender.drain()
    assert [message.kind for message in mail.messages] == ["single"] * 10 + ["digest"]
    digest, sources = mail.messages[-1], {f"camera-{number}" for number in range(1000)}
    assert {n.alarm.source for n in (*digest.earlier, *digest.notifications)} == sources
    for language in LANGUAGES:
        renderer = Renderer(language)
        for text in (renderer.html(digest), renderer.text(digest)):
            assert set(re.findall(r"\bcamera-\d+", text)) == sources


def test_a_thousand_crossings_in_an_hour_are_a_message_at_each_repeat_interval_and_one_when_it_is_calm(
    store: AlarmStore, clock: Clock
) -> None:
    """The first raise at once, then one a repeat interval while it chatters; the last message says it has returned."""
    rule = Rule(on_delay_seconds=0, off_delay_seconds=0, cooldown_seconds=60, repeat_interval_seconds=700)
    start = clock.seconds
    for crossing in range(1000):
        observe(store, clock, 0.9 if crossing % 2 == 0 else 0.1, rule)
        store.tick(clock.seconds)
        clock.forward(3.6)
    for _ in range(60):
        clock.forward(5)
        store.tick(clock.seconds)
    due = [each for each in store.pending_deliveries() if each.channel == "log"]
    *while_it_chatters, calm = [(each.next_at - START).total_seconds() - start for each in due]
    assert len(while_it_chatters) == 6
    assert while_it_chatters[0] == 0
    assert all(later - earlier >= 700 for earlier, later in itertools.pairwise(while_it_chatters))
    calm_from = 998 * 3.6 + CHATTER_SECONDS
    assert calm_from <= calm <= calm_from + 5
    assert due[-1].notification.alarm.phase is Phase.RETURNED_UNACKNOWLEDGED


def test_alarms_that_come_all_at_once_are_one_digest_at_once(store: AlarmStore, clock: Clock) -> None:
    mail = CollectingChannel("mail", pace=PACE)
    flood(store, clock, 50, 0, lambda: None)
    assert deliverer(store, clock, mail).drain() == 1
    [digest] = mail.messages
    assert (digest.kind, len(digest.notifications), digest.earlier) == ("digest", 50, ())


def test_restart_does_not_forget_how_much_was_told(store: AlarmStore, clock: Clock) -> None:
    mail = CollectingChannel("mail", pace=PACE)
    flood(store, clock, 30, 60, lambda: deliverer(store, clock, mail).drain())
    assert len(mail.messages) == 10
    clock.forward(540)
    deliverer(store, clock, mail).drain()
    assert [len(message.notifications) for message in mail.messages[10:]] == [20]


def test_messages_held_back_by_the_rate_are_not_overdue(store: AlarmStore, clock: Clock) -> None:
    log, mail = CollectingChannel("log"), CollectingChannel("mail", pace=PACE)
    sender = deliverer(store, clock, log, mail)
    flood(store, clock, 30, 60, sender.drain)
    clock.forward(300)
    assert store.overdue(clock.seconds) == 0
    clock.forward(240 + 60)
    assert store.overdue(clock.seconds) == pytest.approx(60)


def test_group_waits_for_its_messages_and_goes_out_as_one(store: AlarmStore, clock: Clock) -> None:
    mail = CollectingChannel("mail", pace=Pace(group_wait_seconds=30))
    sender = deliverer(store, clock, mail)
    observe(store, clock, 0.9, source="a")
    assert sender.drain() == 0
    clock.forward(20)
    observe(store, clock, 0.9, source="b")
    assert sender.drain() == 0
    clock.forward(10)
    assert sender.drain() == 1
    [group] = mail.messages
    assert group.kind == "group"
    assert [n.alarm.source for n in group.notifications] == ["a", "b"]
    assert group.key.endswith("-group")


def test_single_message_carries_the_key_of_its_notification(store: AlarmStore, clock: Clock) -> None:
    mail = CollectingChannel("mail", pace=PACE)
    observe(store, clock, 0.9)
    deliverer(store, clock, mail).drain()
    [message] = mail.messages
    assert (message.kind, message.key) == ("single", message.notifications[0].key)


def test_digest_that_failed_comes_again_with_the_same_key_and_content(
    store: AlarmStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the process that put it together died, and whatever came in between."""
    mail = CollectingChannel("mail", pace=Pace(limit=2, window_seconds=600))
    sent = store.outbox.sent

    def die(ids: list[int], now: datetime) -> None:
        if len(ids) > 1:
            raise KeyboardInterrupt
        sent(ids, now)

    monkeypatch.setattr(store.outbox, "sent", die)
    flood(store, clock, 5, 5, deliverer(store, clock, mail).drain)
    clock.forward(600)
    with pytest.raises(KeyboardInterrupt):
        deliverer(store, clock, mail).drain()
    monkeypatch.undo()
    observe(store, clock, 0.9, source="newcomer")
    mail.failures = 1
    clock.forward(1)
    deliverer(store, clock, mail).drain()
    clock.forward(1)
    deliverer(store, clock, mail).drain()
    assert [message.kind for message in mail.messages] == ["single", "single", "digest", "single", "digest"]
    digests = [message for message in mail.messages if message.kind == "digest"]
    assert digests[0] == digests[1]
    assert [n.alarm.source for n in digests[0].notifications] == ["camera-2", "camera-3", "camera-4"]
    assert [n.alarm.source for n in digests[0].earlier] == ["camera-0", "camera-1"]


def test_digest_is_retried_as_a_whole(store: AlarmStore, clock: Clock) -> None:
    mail = CollectingChannel("mail", failures=1, pace=PACE)
    flood(store, clock, 12, 0, lambda: None)
    sender = deliverer(store, clock, mail)
    assert sender.drain() == 0
    pending = [each for each in store.pending_deliveries() if each.channel == "mail"]
    assert len({(each.batch, each.next_at, each.attempts) for each in pending}) == 1
    clock.forward(1)
    assert sender.drain() == 1
    assert len(mail.messages[0].notifications) == 12


def test_order_of_an_alarm_is_kept_in_a_flood(store: AlarmStore, clock: Clock) -> None:
    mail = CollectingChannel("mail", failures=3, pace=Pace(limit=2, window_seconds=300))
    sender = deliverer(store, clock, mail)
    for number in range(30):
        observe(store, clock, 0.9 if number % 2 == 0 else 0.1)
        sender.drain()
        clock.forward(31)
    clock.forward(300)
    sender.drain()
    assert [n.event for n in mail.received] == ["raised", "returned"] * 15
