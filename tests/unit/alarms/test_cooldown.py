"""The cooldown in the store: news are held back in the source's row and told by a tick, whoever observes or not."""

from __future__ import annotations

import pytest

from almenara.alarms import AlarmStore, Phase, Rule
from almenara.alarms.records import Notification
from tests.support.alarms import Clock, observation

RULE = Rule(on_delay_seconds=0, off_delay_seconds=0, cooldown_seconds=60)


def observe(store: AlarmStore, clock: Clock, anomaly: float) -> None:
    store.observe(observation(anomaly, at=clock.wall()), RULE, now=clock.seconds)


def tick_after(store: AlarmStore, clock: Clock, seconds: float) -> list[str]:
    """Let time pass, tick, and name everything that was told since the beginning."""
    clock.forward(seconds)
    store.tick(clock.seconds)
    return [notification.event for notification in told(store)]


def told(store: AlarmStore) -> list[Notification]:
    return [delivery.notification for delivery in store.pending_deliveries() if delivery.channel == "log"]


@pytest.fixture
def held(store: AlarmStore, clock: Clock) -> AlarmStore:
    """An alarm that was told, returned at once, and was raised again 20 s later, held back for 40 s."""
    observe(store, clock, 0.9)
    observe(store, clock, 0.1)
    clock.forward(20)
    observe(store, clock, 0.8)
    assert tick_after(store, clock, 0) == ["raised"]
    return store


def test_raise_held_back_is_told_when_the_cooldown_ends_though_nothing_is_observed(
    held: AlarmStore, clock: Clock
) -> None:
    assert tick_after(held, clock, 39.9) == ["raised"]
    assert tick_after(held, clock, 0.1) == ["raised", "raised"]
    assert told(held)[-1].key == held.alarms()[0].idempotency_key


def test_raise_held_back_is_told_once(held: AlarmStore, clock: Clock) -> None:
    tick_after(held, clock, 40)
    assert tick_after(held, clock, 0) == ["raised", "raised"]
    assert tick_after(held, clock, 600) == ["raised", "raised"]


def test_raise_held_back_is_told_after_a_restart(held: AlarmStore, url: str, clock: Clock) -> None:
    held.close()
    with AlarmStore(url, wall_clock=clock.wall) as reopened:
        assert tick_after(reopened, clock, 40) == ["raised", "raised"]


def test_return_is_told_when_the_cooldown_ends(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9)
    observe(store, clock, 0.1)
    assert tick_after(store, clock, 59.9) == ["raised"]
    assert tick_after(store, clock, 0.1) == ["raised", "returned"]
    assert told(store)[-1].key == store.transitions()[-1].key


def test_raise_acknowledged_before_it_was_told_is_not_told(held: AlarmStore, clock: Clock) -> None:
    clock.forward(10)
    held.acknowledge(held.alarms()[0].id, "eva")
    observe(held, clock, 0.1)
    assert tick_after(held, clock, 100) == ["raised"]


def test_return_after_an_acknowledgement_that_came_after_the_message_is_told(held: AlarmStore, clock: Clock) -> None:
    tick_after(held, clock, 40)
    held.acknowledge(held.alarms()[0].id, "eva")
    observe(held, clock, 0.1)
    assert tick_after(held, clock, 60) == ["raised", "raised", "returned"]


def test_message_held_back_shows_the_alarm_as_it_stands(held: AlarmStore, clock: Clock) -> None:
    clock.forward(5)
    observe(held, clock, 0.1)
    returned_at = clock.wall()
    assert tick_after(held, clock, 40) == ["raised", "raised"]
    shown = told(held)[-1].alarm
    assert shown == held.alarms()[0]
    assert (shown.phase, shown.cleared_at) == (Phase.RETURNED_UNACKNOWLEDGED, returned_at)


def test_raise_that_returns_as_the_cooldown_ends_is_told_under_its_own_key(held: AlarmStore, clock: Clock) -> None:
    clock.forward(40)
    observe(held, clock, 0.1)
    [first, second] = told(held)
    assert (first.event, second.event) == ("raised", "raised")
    assert second.key == held.alarms()[0].idempotency_key
