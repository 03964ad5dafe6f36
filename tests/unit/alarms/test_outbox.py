"""The outbox: what is due, in which order, and what has become of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from almenara.alarms import AlarmStore
from almenara.alarms.outbox import Outbox
from almenara.alarms.pacing import new_batch
from tests.support.alarms import Clock, observe


def ids(store: AlarmStore, channel: str = "log") -> list[int]:
    return [delivery.id for delivery in store.pending_deliveries() if delivery.channel == channel]


def raise_alarms(store: AlarmStore, clock: Clock, *sources: str) -> list[int]:
    for source in sources:
        observe(store, clock, 0.9, source=source)
    return ids(store)


def waiting(store: AlarmStore, clock: Clock, channel: str = "log") -> list[int]:
    return [row.id for row in store.outbox.waiting(channel, clock.wall(), 100)]


def test_oldest_message_is_due_first(store: AlarmStore, clock: Clock) -> None:
    first, _ = raise_alarms(store, clock, "a", "b")
    due = store.outbox.due("log", clock.wall())
    assert due is not None
    assert (due.id, due.created_at, due.batch) == (first, clock.wall(), None)
    assert store.outbox.due("nobody", clock.wall()) is None


def test_message_is_not_due_before_its_time(store: AlarmStore, clock: Clock) -> None:
    [only] = raise_alarms(store, clock, "a")
    store.outbox.failed([only], "away", clock.wall() + timedelta(seconds=1))
    assert store.outbox.due("log", clock.wall()) is None
    clock.forward(1)
    assert store.outbox.due("log", clock.wall()) is not None


def test_message_waits_for_an_earlier_one_of_its_alarm_that_failed(store: AlarmStore, clock: Clock) -> None:
    raise_alarms(store, clock, "a")
    observe(store, clock, 0.1, source="a")
    first, second, other = raise_alarms(store, clock, "b")
    store.outbox.failed([first], "away", clock.wall() + timedelta(seconds=1))
    assert waiting(store, clock) == [other]
    clock.forward(1)
    assert waiting(store, clock) == [first, second, other]


def test_what_was_postponed_may_go_with_others_but_is_not_due(store: AlarmStore, clock: Clock) -> None:
    [first] = raise_alarms(store, clock, "a")
    store.outbox.postpone("log", clock.wall(), clock.wall() + timedelta(seconds=60))
    assert store.outbox.due("log", clock.wall()) is None
    _, second = raise_alarms(store, clock, "b")
    assert waiting(store, clock) == [first, second]
    assert len(store.outbox.waiting("log", clock.wall(), 1)) == 1
    assert store.outbox.due("mail", clock.wall()) is not None, "another channel's messages are not postponed"


def test_batch_keeps_its_messages_until_it_arrives(store: AlarmStore, clock: Clock) -> None:
    first, second, _ = raise_alarms(store, clock, "a", "b", "c")
    store.outbox.batch([first, second], "group-1")
    assert [each.id for each in store.outbox.read_batch("log", "group-1", clock.wall())] == [first, second]
    assert {delivery.batch for delivery in store.outbox.read([first, second], clock.wall())} == {"group-1"}
    store.outbox.sent([first, second], clock.wall())
    assert store.outbox.read_batch("log", "group-1", clock.wall()) == []


def test_batch_counts_as_one_message(store: AlarmStore, clock: Clock) -> None:
    first, second, third, fourth = raise_alarms(store, clock, "a", "b", "c", "d")
    begin = clock.wall()
    store.outbox.batch([first, second], "group-1")
    clock.forward(1)
    store.outbox.sent([first, second], clock.wall())
    clock.forward(1)
    store.outbox.sent([third], clock.wall())
    store.outbox.sent([fourth], clock.wall())
    times = sorted((at - begin).total_seconds() for at in store.outbox.sent_times("log", begin))
    assert times == [1, 2, 2]
    assert len(store.outbox.sent_times("log", begin + timedelta(seconds=1))) == 2
    assert store.outbox.sent_times("mail", begin) == []


def test_what_was_told_one_by_one_before_a_batch_is_found_again(store: AlarmStore, clock: Clock) -> None:
    long_ago, single, *both, after = raise_alarms(store, clock, "long-ago", "single", "b1", "b2", "after")
    store.outbox.sent([long_ago], clock.wall() - timedelta(seconds=600))
    store.outbox.sent([single], clock.wall())
    key = new_batch("digest", clock.wall())
    store.outbox.batch(both, key)
    clock.forward(1)
    store.outbox.sent([after], clock.wall())
    assert [found.alarm.source for found in store.outbox.told_before("log", key, 600)] == ["single"]


def test_thousands_of_messages_are_marked_at_once(store: AlarmStore, clock: Clock) -> None:
    known = raise_alarms(store, clock, "a")
    store.outbox.sent([*range(10_000, 12_000), *known], clock.wall())
    assert ids(store) == []


def test_message_that_was_given_up_stays_so(store: AlarmStore, clock: Clock) -> None:
    [only] = raise_alarms(store, clock, "a")
    store.outbox.give_up([only], clock.wall(), "x" * 1000)
    store.outbox.sent([only], clock.wall())
    [dead] = store.dead_deliveries()
    assert (dead.id, dead.attempts, dead.sent_at, len(dead.error)) == (only, 1, None, 500)


def test_message_is_overdue_from_when_it_was_meant_to_go(store: AlarmStore, clock: Clock) -> None:
    assert store.outbox.overdue(clock.wall()) == 0
    raise_alarms(store, clock, "a")
    store.outbox.sent(ids(store, "mail"), clock.wall())
    assert store.outbox.overdue(clock.wall() + timedelta(seconds=90)) == 90
    store.outbox.postpone("log", clock.wall(), clock.wall() + timedelta(seconds=60))
    assert store.outbox.overdue(clock.wall() + timedelta(seconds=59)) == 0
    assert store.outbox.overdue(clock.wall() + timedelta(seconds=90)) == 30
    store.outbox.failed(ids(store), "away", clock.wall() + timedelta(seconds=300))
    assert store.outbox.overdue(clock.wall() + timedelta(seconds=90)) == 90


def test_postponing_outlives_a_restart(store: AlarmStore, clock: Clock) -> None:
    raise_alarms(store, clock, "a")
    store.outbox.postpone("log", clock.wall(), clock.wall() + timedelta(seconds=60))
    assert Outbox(store.outbox._engine).due("log", clock.wall()) is None


def test_message_that_cannot_be_read_is_left_out_of_the_lists(
    store: AlarmStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    _, second = raise_alarms(store, clock, "a", "b")
    with store._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alarm_deliveries SET notification = '{' WHERE id < ?", (second,))
    assert ids(store) == [second]
    assert "cannot be read: ValidationError" in caplog.text


def test_what_waits_for_channels_that_are_gone_is_given_up(store: AlarmStore, clock: Clock) -> None:
    raise_alarms(store, clock, "a")
    clock.forward(86400)
    assert store.outbox.abandon({"log"}, clock.wall(), before=clock.wall() - timedelta(hours=23)) == 1
    assert [delivery.channel for delivery in store.pending_deliveries()] == ["log"]
    assert [(dead.channel, dead.error) for dead in store.dead_deliveries()] == [
        ("mail", "The channel is not in alarms.yaml any more.")
    ]
    assert store.outbox.abandon({"log"}, clock.wall(), before=clock.wall()) == 0


def test_what_has_not_waited_long_for_an_unknown_channel_is_kept(store: AlarmStore, clock: Clock) -> None:
    raise_alarms(store, clock, "a")
    clock.forward(3600)
    assert store.outbox.abandon({"log"}, clock.wall(), before=clock.wall() - timedelta(days=1)) == 0


def test_what_waits_for_a_channel_that_a_sibling_serves_is_kept(store: AlarmStore, clock: Clock) -> None:
    raise_alarms(store, clock, "a")
    clock.forward(2 * 86400)
    store.leases.hold("channel:mail", "a-sibling", clock.wall(), 30)
    assert store.outbox.abandon({"log"}, clock.wall(), before=clock.wall() - timedelta(days=1)) == 0
    clock.forward(31)
    assert store.outbox.abandon({"log"}, clock.wall(), before=clock.wall() - timedelta(days=1)) == 1


def test_old_messages_are_forgotten_and_those_that_wait_are_kept(store: AlarmStore, clock: Clock) -> None:
    sent, given_up, waits = raise_alarms(store, clock, "a", "b", "c")
    store.outbox.sent([sent], clock.wall())
    store.outbox.give_up([given_up], clock.wall(), "away")
    store.outbox.prune(clock.wall())
    assert store.outbox.sent_times("log", clock.wall() - timedelta(days=1)) == [clock.wall()]
    clock.forward(1)
    store.outbox.prune(clock.wall())
    assert store.outbox.sent_times("log", clock.wall() - timedelta(days=1)) == []
    assert store.dead_deliveries() == []
    assert ids(store) == [waits]
