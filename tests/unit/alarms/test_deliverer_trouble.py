"""A channel that fails becomes an alarm, and nothing that arrived is sent again for want of a database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from almenara.alarms import AlarmStore, Deliverer, Phase
from almenara.alarms.queries import AlarmFilter
from tests.support.alarms import Clock, CollectingChannel, observe


def deliverer(store: AlarmStore, clock: Clock, *channels: CollectingChannel, attempts: int = 600) -> Deliverer:
    return Deliverer(store, channels, wall_clock=clock.wall, monotonic=lambda: clock.seconds, max_attempts=attempts)


def let_pass(clock: Clock, seconds: float, sender: Deliverer) -> None:
    for _ in range(int(seconds / 10)):
        clock.forward(10)
        sender.drain()


def failing_once(call: Callable[..., Any]) -> Callable[..., Any]:
    faults = iter([OperationalError("UPDATE", {}, Exception("database or disk is full"))])

    def fail_once(*arguments: Any, **named: Any) -> Any:
        for fault in faults:
            raise fault
        return call(*arguments, **named)

    return fail_once


def test_channel_that_fails_for_five_minutes_is_an_alarm_on_the_others(store: AlarmStore, clock: Clock) -> None:
    log, mail = CollectingChannel("log"), CollectingChannel("mail", failures=1000)
    sender = deliverer(store, clock, log, mail)
    observe(store, clock, 0.9)
    sender.drain()
    let_pass(clock, 290, sender)
    assert store.phase("channel/mail") is Phase.UNKNOWN
    let_pass(clock, 400, sender)
    assert store.phase("channel/mail") is Phase.UNACKNOWLEDGED
    [told] = [n.alarm for n in log.received if n.alarm.source == "channel/mail"]
    assert (told.kind, told.score) == ("system", 1.0)
    assert told.reason == "Nothing has arrived since 2026-03-01 06:16 UTC: ConnectionError: receiver is away"


def test_alarm_of_a_channel_returns_when_a_message_arrives(store: AlarmStore, clock: Clock) -> None:
    log, mail = CollectingChannel("log"), CollectingChannel("mail", failures=1000)
    sender = deliverer(store, clock, log, mail)
    observe(store, clock, 0.9)
    let_pass(clock, 700, sender)
    mail.failures = 0
    let_pass(clock, 700, sender)
    assert store.phase("channel/mail") is Phase.RETURNED_UNACKNOWLEDGED
    assert [n.event for n in log.received if n.alarm.source == "channel/mail"] == ["raised", "returned"]
    assert store.pending_deliveries() == []
    assert len(store.alarms()) == 2, "what is told about a channel does not make it fail"


def test_failing_that_an_arrival_interrupts_is_no_alarm(store: AlarmStore, clock: Clock) -> None:
    mail = CollectingChannel("mail")
    sender = deliverer(store, clock, mail)
    for number in range(40):
        mail.failures = 1
        observe(store, clock, 0.9, source=f"camera-{number}")
        let_pass(clock, 10, sender)
    assert store.phase("channel/mail") is Phase.UNKNOWN


def test_message_that_is_given_up_is_an_alarm(store: AlarmStore, clock: Clock) -> None:
    log, mail = CollectingChannel("log"), CollectingChannel("mail", failures=3)
    sender = deliverer(store, clock, log, mail, attempts=3)
    observe(store, clock, 0.9)
    let_pass(clock, 40, sender)
    assert len(store.dead_deliveries()) == 1
    [told] = [n.alarm for n in log.received if n.alarm.source == "channel/mail" and n.event == "raised"]
    assert told.reason == "A message was given up after 3 attempts: ConnectionError: receiver is away"


def test_alarm_of_a_channel_returns_after_a_restart_too(store: AlarmStore, clock: Clock) -> None:
    mail = CollectingChannel("mail", failures=1000)
    observe(store, clock, 0.9)
    let_pass(clock, 700, deliverer(store, clock, mail))
    mail.failures = 0
    let_pass(clock, 700, deliverer(store, clock, mail))
    assert store.phase("channel/mail") is Phase.RETURNED_UNACKNOWLEDGED


def test_alarm_of_a_channel_that_is_unknown_returns_too(store: AlarmStore, clock: Clock) -> None:
    mail = CollectingChannel("mail", failures=1000)
    observe(store, clock, 0.9)
    let_pass(clock, 700, deliverer(store, clock, mail))
    store.remove_from_service("channel/mail", "eva")
    store.return_to_service("channel/mail", "eva")
    assert store.phase("channel/mail") is Phase.UNKNOWN
    [alarm] = store.alarms(AlarmFilter(source="channel/mail", standing=True))
    mail.failures = 0
    let_pass(clock, 700, deliverer(store, clock, mail))
    assert store.phase("channel/mail") is Phase.RETURNED_UNACKNOWLEDGED
    assert store.alarm(alarm.id).cleared_at is not None


def test_secret_in_an_error_is_not_kept(store: AlarmStore, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    class Talkative(CollectingChannel):
        def send(self, message: object) -> None:
            raise ConnectionError("mailtos://shift:hunter2@mail.example refused")

    observe(store, clock, 0.9)
    deliverer(store, clock, Talkative("mail"), attempts=1).drain()
    [dead] = store.dead_deliveries()
    assert "hunter2" not in dead.error + caplog.text + "".join(alarm.reason for alarm in store.alarms())


def test_message_that_arrived_is_not_sent_again_while_the_database_cannot_note_it(
    store: AlarmStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = CollectingChannel("log")
    observe(store, clock, 0.9, source="a")
    observe(store, clock, 0.9, source="b")
    sender = deliverer(store, clock, log)
    monkeypatch.setattr(store.outbox, "sent", failing_once(store.outbox.sent))
    with pytest.raises(OperationalError):
        sender.drain()
    assert [n.alarm.source for n in log.received] == ["a"]
    sender.drain()
    assert [n.alarm.source for n in log.received] == ["a", "b"]


def test_return_of_a_channel_is_noted_later_if_the_database_fails_meanwhile(
    store: AlarmStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail = CollectingChannel("mail", failures=1000)
    sender = deliverer(store, clock, mail)
    observe(store, clock, 0.9)
    let_pass(clock, 700, sender)
    mail.failures = 0
    clock.forward(300)
    monkeypatch.setattr(store, "observe", failing_once(store.observe))
    with pytest.raises(OperationalError):
        sender.drain()
    assert store.phase("channel/mail") is Phase.UNACKNOWLEDGED
    sender.drain()
    assert store.phase("channel/mail") is Phase.RETURNED_UNACKNOWLEDGED
