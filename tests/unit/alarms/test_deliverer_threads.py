"""The deliverer's threads: they outlive failures, share channels with siblings, and end when they are told to."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from datetime import datetime

import pytest

from almenara.alarms import AlarmStore, Deliverer, Message
from almenara.alarms.pacing import Waiting
from tests.support.alarms import NOW_RULE, Clock, CollectingChannel, observation, running


def wait_until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def raise_alarm(store: AlarmStore, source: str = "outflow-1") -> None:
    store.observe(observation(0.9, source=source), NOW_RULE, now=0)


def test_run_delivers_until_it_is_stopped(store: AlarmStore) -> None:
    log, mail = CollectingChannel("log", failures=2), CollectingChannel("mail")
    with running(Deliverer(store, [log, mail], poll_seconds=0.01, first_retry_seconds=0.01).run):
        raise_alarm(store)
        wait_until(lambda: not store.pending_deliveries())
    assert len(log.received) == len(mail.received) == 1


def test_slow_channel_does_not_hold_up_another(store: AlarmStore) -> None:
    release, told = threading.Event(), threading.Event()

    class Slow(CollectingChannel):
        def send(self, message: Message) -> None:
            release.wait(10)

    class Quick(CollectingChannel):
        def send(self, message: Message) -> None:
            told.set()

    with running(Deliverer(store, [Slow("log"), Quick("mail")], poll_seconds=0.01).run):
        raise_alarm(store)
        assert told.wait(5)
        release.set()


def test_run_outlives_a_database_that_cannot_be_read_and_says_so_once(
    store: AlarmStore, caplog: pytest.LogCaptureFixture
) -> None:
    with store._engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE alarm_deliveries RENAME TO elsewhere")
    log = CollectingChannel("log")
    with running(Deliverer(store, [log], poll_seconds=0.001).run):
        wait_until(lambda: "Delivering on channel log failed; trying again." in caplog.text)
        with store._engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO alarm_deliveries")
        raise_alarm(store)
        wait_until(lambda: log.received)
        wait_until(lambda: "Delivering on channel log works again." in caplog.text)
    assert caplog.text.count("failed; trying again") == 1


def test_run_outlives_a_fault_that_nobody_foresaw(store: AlarmStore, monkeypatch: pytest.MonkeyPatch) -> None:
    due, faults = store.outbox.due, iter([KeyError("unforeseen")])

    def due_after_a_fault(channel: str, now: datetime) -> Waiting | None:
        for fault in faults:
            raise fault
        return due(channel, now)

    monkeypatch.setattr(store.outbox, "due", due_after_a_fault)
    log = CollectingChannel("log")
    with running(Deliverer(store, [log], poll_seconds=0.01).run):
        raise_alarm(store)
        wait_until(lambda: log.received)
    assert len(log.received) == 1


def test_run_without_channels_waits_to_be_stopped(store: AlarmStore) -> None:
    with running(Deliverer(store, []).run):
        pass


def test_of_two_deliverers_one_serves_a_channel_and_the_other_takes_over_when_it_stops(store: AlarmStore) -> None:
    first, second = CollectingChannel("log"), CollectingChannel("log")
    with contextlib.ExitStack() as both:
        with running(Deliverer(store, [first], poll_seconds=0.01).run):
            raise_alarm(store, "a")
            wait_until(lambda: first.received)
            both.enter_context(running(Deliverer(store, [second], poll_seconds=0.01).run))
            raise_alarm(store, "b")
            wait_until(lambda: len(first.received) == 2)
            assert second.received == []
        raise_alarm(store, "c")
        wait_until(lambda: second.received)
    assert [n.alarm.source for n in second.received] == ["c"]


def test_send_that_outlasts_its_lease_is_repeated_by_a_sibling_with_the_same_key(
    store: AlarmStore, clock: Clock
) -> None:
    sending, release = threading.Event(), threading.Event()

    class Slow(CollectingChannel):
        def send(self, message: Message) -> None:
            sending.set()
            release.wait(10)
            super().send(message)

    slow, quick = Slow("log"), CollectingChannel("log")
    raise_alarm(store)
    with running(Deliverer(store, [slow], poll_seconds=0.01, wall_clock=clock.wall).run):
        assert sending.wait(5)
        clock.forward(30)
        sibling = Deliverer(store, [quick], wall_clock=clock.wall)
        assert sibling.drain() == 1
        release.set()
        wait_until(lambda: slow.received)
    assert slow.received == quick.received
    assert [delivery.channel for delivery in store.pending_deliveries()] == ["mail"]


class ListeningChannel(CollectingChannel):
    """A channel that somebody may look at before the first message."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__("log")
        self.starts, self._fails = 0, fails

    def start(self) -> None:
        self.starts += 1
        if self._fails:
            raise OSError("the port is in use")


def test_a_channel_listens_before_its_first_message_in_the_process_that_serves_it(store: AlarmStore) -> None:
    first, second = ListeningChannel(), ListeningChannel()
    with running(Deliverer(store, [first], poll_seconds=0.01).run):
        wait_until(lambda: first.starts)
        with running(Deliverer(store, [second], poll_seconds=0.01).run):
            raise_alarm(store)
            wait_until(lambda: first.received)
    assert (first.starts, second.starts) == (1, 0)


def test_a_channel_that_cannot_listen_yet_is_told_once_and_still_gets_messages(
    store: AlarmStore, caplog: pytest.LogCaptureFixture
) -> None:
    channel = ListeningChannel(fails=True)
    with running(Deliverer(store, [channel], poll_seconds=0.01).run):
        wait_until(lambda: channel.starts)
        raise_alarm(store)
        wait_until(lambda: channel.received)
    assert caplog.text.count("Channel log: OSError: the port is in use") == channel.starts == 1
