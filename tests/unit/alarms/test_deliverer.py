"""The deliverer: order, retries, messages that are given up and such that cannot be read."""

from __future__ import annotations

import json

import pytest

from almenara.alarms import AlarmStore, Deliverer, Message
from tests.support.alarms import Clock, CollectingChannel
from tests.support.alarms import observe as observe_one


def observe(store: AlarmStore, clock: Clock, *anomalies: float, source: str = "outflow-1") -> None:
    for anomaly in anomalies:
        observe_one(store, clock, anomaly, source=source)


def deliverer(store: AlarmStore, clock: Clock, *channels: CollectingChannel, attempts: int = 300) -> Deliverer:
    return Deliverer(store, channels, wall_clock=clock.wall, monotonic=lambda: clock.seconds, max_attempts=attempts)


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
    log = CollectingChannel(failures=12)
    observe(store, clock, 0.9)
    sender, pauses = deliverer(store, clock, log), []
    while log.failures:
        sender.drain()
        [failed] = [d for d in store.pending_deliveries() if d.channel == "log"]
        pauses.append((failed.next_at - clock.wall()).total_seconds())
        clock.forward(pauses[-1])
    longest = [min(2.0**number, 300.0) for number in range(12)]
    assert all(most / 2 <= pause <= most for pause, most in zip(pauses, longest, strict=True))


def test_hour_without_receiver_loses_nothing(store: AlarmStore, clock: Clock) -> None:
    class Away(CollectingChannel):
        def send(self, message: Message) -> None:
            if clock.seconds < 1000 + 3600:
                raise ConnectionError("receiver is away")
            super().send(message)

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
