"""The deliverer and the outbox: order, retries, leases and messages that are given up."""

from __future__ import annotations

import json
import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from almenara.alarms import AlarmStore, Deliverer, Delivery, Notification, Rule
from tests.support.alarms import Clock, CollectingChannel, observation

RULE = Rule(on_delay_seconds=0, off_delay_seconds=0, cooldown_seconds=0)


def observe(store: AlarmStore, clock: Clock, *anomalies: float, source: str = "outflow-1") -> None:
    for anomaly in anomalies:
        store.observe(observation(anomaly, source=source, at=clock.wall()), RULE, now=clock.seconds)


def deliverer(store: AlarmStore, clock: Clock, *channels: CollectingChannel, attempts: int = 300) -> Deliverer:
    return Deliverer(store, channels, wall_clock=clock.wall, max_attempts=attempts)


def test_message_is_sent_once(store: AlarmStore, clock: Clock) -> None:
    log, mail = CollectingChannel("log"), CollectingChannel("mail")
    observe(store, clock, 0.9)
    assert deliverer(store, clock, log, mail).drain() == 2
    assert deliverer(store, clock, log, mail).drain() == 0
    assert [n.alarm for n in log.received] == store.alarms()
    assert log.received == mail.received
    assert store.pending_deliveries() == []


def test_messages_of_other_channels_are_left_alone(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9)
    deliverer(store, clock, CollectingChannel("log")).drain()
    assert [d.channel for d in store.pending_deliveries()] == ["mail"]


def test_failed_message_is_kept_with_its_error_and_sent_later_with_the_same_key(
    store: AlarmStore, clock: Clock
) -> None:
    log = CollectingChannel(failures=1)
    observe(store, clock, 0.9)
    sender = deliverer(store, clock, log)
    assert sender.drain() == 0
    failed = next(d for d in store.pending_deliveries() if d.channel == "log")
    assert failed.attempts == 1
    assert failed.error == "ConnectionError: receiver is away"
    assert failed.next_at > clock.wall()
    assert sender.drain() == 0, "not tried before its pause is over"
    clock.forward(1)
    assert sender.drain() == 1
    assert [n.key for n in log.received] == [failed.notification.key]


def test_pauses_double_up_to_the_longest(store: AlarmStore, clock: Clock) -> None:
    sender = deliverer(store, clock)
    for attempts, longest in [(1, 1), (2, 2), (5, 16), (10, 300), (5000, 300)]:
        pauses = [sender.retry_seconds(attempts) for _ in range(200)]
        assert longest / 2 <= min(pauses) < max(pauses) <= longest


def test_hour_without_receiver_loses_nothing(store: AlarmStore, clock: Clock) -> None:
    class Away(CollectingChannel):
        def send(self, notification: Notification) -> None:
            if clock.seconds < 1000 + 3600:
                raise ConnectionError("receiver is away")
            super().send(notification)

    log = Away("log")
    sender = deliverer(store, clock, log)
    observe(store, clock, 0.9, 0.1, 0.8)
    while clock.seconds < 1000 + 3600 + 300:
        clock.forward(5)
        sender.drain()
    assert [n.event for n in log.received] == ["raised", "returned", "raised"]


def test_later_message_of_an_alarm_waits_for_the_earlier_one(store: AlarmStore, clock: Clock) -> None:
    log = CollectingChannel(failures=1)
    observe(store, clock, 0.9, 0.1)
    sender = deliverer(store, clock, log)
    assert sender.drain() == 0
    clock.forward(1)
    assert sender.drain() == 2
    assert [n.event for n in log.received] == ["raised", "returned"]


def test_alarm_that_cannot_be_sent_does_not_hold_up_another(store: AlarmStore, clock: Clock) -> None:
    log = CollectingChannel(failures=1)
    observe(store, clock, 0.9, source="a")
    observe(store, clock, 0.9, source="b")
    assert deliverer(store, clock, log).drain() == 1
    assert [n.alarm.source for n in log.received] == ["b"]


def test_message_is_given_up_after_its_last_attempt_and_kept(store: AlarmStore, clock: Clock) -> None:
    log = CollectingChannel(failures=100)
    observe(store, clock, 0.9, 0.1)
    sender = deliverer(store, clock, log, attempts=3)
    for _ in range(20):
        sender.drain()
        clock.forward(10)
    dead = store.dead_deliveries()
    assert [(d.attempts, d.notification.event) for d in dead] == [(3, "raised"), (3, "returned")]
    assert all(d.dead_at is not None and d.error for d in dead)
    assert log.failures == 94


def test_leased_message_is_not_handed_out_twice(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9)
    now = clock.wall()
    first = store.outbox.lease("log", "one", now, 15)
    assert first is not None
    assert store.outbox.lease("log", "two", now + timedelta(seconds=14.9), 15) is None
    again = store.outbox.lease("log", "two", now + timedelta(seconds=15), 15)
    assert again is not None
    assert again.notification.key == first.notification.key


def test_failure_of_a_lease_that_ran_out_does_not_disturb_the_new_holder(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9)
    now = clock.wall()
    first = store.outbox.lease("log", "one", now, 15)
    assert first is not None
    later = now + timedelta(seconds=20)
    assert store.outbox.lease("log", "two", later, 15) is not None
    store.outbox.failed(first, "one", "too late", later)
    assert store.outbox.lease("log", "three", later, 15) is None


def test_lease_that_a_rival_takes_in_between_is_tried_no_further(
    store: AlarmStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    observe(store, clock, 0.9)
    now, begun = clock.wall(), store.outbox._writer.begin
    rivals = iter(["rival"])

    def begin_after_a_rival() -> object:
        for rival in rivals:
            assert store.outbox.lease("log", rival, now, 15) is not None
        return begun()

    monkeypatch.setattr(store.outbox._writer, "begin", begin_after_a_rival)
    assert store.outbox.lease("log", "slow", now, 15) is None


def test_run_delivers_until_it_is_stopped(store: AlarmStore) -> None:
    log, mail = CollectingChannel("log", failures=2), CollectingChannel("mail")
    sender = Deliverer(store, [log, mail], poll_seconds=0.01, first_retry_seconds=0.01)
    stop = threading.Event()
    thread = threading.Thread(target=sender.run, args=(stop,))
    thread.start()
    store.observe(observation(0.9), RULE, now=0)
    deadline = time.monotonic() + 10
    while store.pending_deliveries() and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    assert len(log.received) == len(mail.received) == 1


def test_slow_channel_does_not_hold_up_another(store: AlarmStore) -> None:
    release, told = threading.Event(), threading.Event()

    class Slow(CollectingChannel):
        def send(self, notification: Notification) -> None:
            release.wait(10)

    class Quick(CollectingChannel):
        def send(self, notification: Notification) -> None:
            told.set()

    stop = threading.Event()
    sender = Deliverer(store, [Slow("log"), Quick("mail")], poll_seconds=0.01)
    thread = threading.Thread(target=sender.run, args=(stop,))
    thread.start()
    store.observe(observation(0.9), RULE, now=0)
    assert told.wait(5)
    stop.set()
    release.set()
    thread.join(5)
    assert not thread.is_alive()


def test_run_outlives_a_database_that_cannot_be_read(store: AlarmStore, caplog: pytest.LogCaptureFixture) -> None:
    with store._engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE alarm_deliveries RENAME TO elsewhere")
    stop = threading.Event()
    log = CollectingChannel("log")
    thread = threading.Thread(target=Deliverer(store, [log], poll_seconds=0.01).run, args=(stop,))
    thread.start()
    deadline = time.monotonic() + 10
    while "failed; trying again" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    with store._engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO alarm_deliveries")
    store.observe(observation(0.9), RULE, now=0)
    while not log.received and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    thread.join(5)
    assert len(log.received) == 1


def test_run_outlives_a_fault_that_nobody_foresaw(store: AlarmStore, monkeypatch: pytest.MonkeyPatch) -> None:
    lease, faults = store.outbox.lease, iter([KeyError("unforeseen")])

    def lease_after_a_fault(*arguments: Any) -> Delivery | None:
        for fault in faults:
            raise fault
        return lease(*arguments)

    monkeypatch.setattr(store.outbox, "lease", lease_after_a_fault)
    stop, log = threading.Event(), CollectingChannel("log")
    thread = threading.Thread(target=Deliverer(store, [log], poll_seconds=0.01).run, args=(stop,))
    thread.start()
    store.observe(observation(0.9), RULE, now=0)
    deadline = time.monotonic() + 5
    while not log.received and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    thread.join(5)
    assert len(log.received) == 1


def rewrite(store: AlarmStore, channel: str, notification: str) -> None:
    """Put something else in place of the channel's oldest message."""
    with store._engine.begin() as connection:
        first = "SELECT min(id) FROM alarm_deliveries WHERE channel = ?"
        connection.exec_driver_sql(
            f"UPDATE alarm_deliveries SET notification = ? WHERE id = ({first})",  # noqa: S608 - all of it stands here
            (notification, channel),
        )


@pytest.mark.parametrize("content", ["{", "[]", '{"key": "k"}', '"text"'])
def test_message_that_cannot_be_read_is_given_up_and_the_next_one_is_sent(
    store: AlarmStore, clock: Clock, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = CollectingChannel("log")
    observe(store, clock, 0.9, 0.1)
    rewrite(store, "log", content)
    assert deliverer(store, clock, log).drain() == 1
    assert [n.event for n in log.received] == ["returned"]
    assert "cannot be read" in caplog.text
    assert [d.channel for d in store.pending_deliveries()] == ["mail", "mail"]
    with store._engine.begin() as connection:
        row = connection.exec_driver_sql("SELECT error FROM alarm_deliveries WHERE dead_at IS NOT NULL").one()
    assert row.error.startswith("The message cannot be read: ")


def test_message_of_a_newer_release_is_told_without_what_is_unknown(store: AlarmStore, clock: Clock) -> None:
    log = CollectingChannel("log")
    observe(store, clock, 0.9)
    message = store.pending_deliveries()[0].notification
    newer = message.model_dump(mode="json") | {"escalation": 2}
    newer["alarm"]["shelved_until"] = None
    rewrite(store, "log", json.dumps(newer))
    assert deliverer(store, clock, log).drain() == 1
    assert log.received == [message]


def test_run_without_channels_waits_to_be_stopped(store: AlarmStore) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=Deliverer(store, []).run, args=(stop,))
    thread.start()
    assert thread.is_alive()
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
