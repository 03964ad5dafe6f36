"""The cooldown in the store: a raise held back has its message at once, and nobody need observe until it is due."""

from __future__ import annotations

from datetime import timedelta

import pytest

from almenara.alarms import AlarmStore, Deliverer, Phase, Rule
from tests.support.alarms import Clock, CollectingChannel, observation

RULE = Rule(on_delay_seconds=0, off_delay_seconds=0, cooldown_seconds=60)


@pytest.fixture
def log() -> CollectingChannel:
    return CollectingChannel()


def observe(store: AlarmStore, clock: Clock, anomaly: float) -> None:
    store.observe(observation(anomaly, at=clock.wall()), RULE, now=clock.seconds)


def deliver(store: AlarmStore, clock: Clock, log: CollectingChannel) -> list[str]:
    """Send what is due and tell everything that was sent so far."""
    Deliverer(store, [log], wall_clock=clock.wall).drain()
    return [notification.event for notification in log.received]


@pytest.fixture
def held(store: AlarmStore, clock: Clock, log: CollectingChannel) -> AlarmStore:
    """A raise that was told, its return, and 20 s later a raise that is held back for 40 s."""
    observe(store, clock, 0.9)
    observe(store, clock, 0.1)
    clock.forward(20)
    observe(store, clock, 0.8)
    assert deliver(store, clock, log) == ["raised", "returned"]
    return store


def test_raise_held_back_is_told_when_the_cooldown_ends_though_nothing_is_observed(
    held: AlarmStore, clock: Clock, log: CollectingChannel
) -> None:
    clock.forward(39.9)
    assert deliver(held, clock, log) == ["raised", "returned"]
    clock.forward(0.1)
    assert deliver(held, clock, log) == ["raised", "returned", "raised"]
    assert log.received[-1].key == held.alarms()[0].idempotency_key


def test_raise_held_back_is_told_after_a_restart(
    held: AlarmStore, url: str, clock: Clock, log: CollectingChannel
) -> None:
    held.close()
    clock.forward(40)
    with AlarmStore(url, wall_clock=clock.wall) as reopened:
        assert deliver(reopened, clock, log) == ["raised", "returned", "raised"]


def test_raise_acknowledged_before_it_was_told_is_not_told(
    held: AlarmStore, clock: Clock, log: CollectingChannel
) -> None:
    clock.forward(10)
    held.acknowledge(held.alarms()[0].id, "eva")
    observe(held, clock, 0.1)
    clock.forward(100)
    observe(held, clock, 0.1)
    assert deliver(held, clock, log) == ["raised", "returned"]


def test_return_after_an_acknowledgement_that_came_after_the_message_is_told(
    held: AlarmStore, clock: Clock, log: CollectingChannel
) -> None:
    clock.forward(45)
    held.acknowledge(held.alarms()[0].id, "eva")
    observe(held, clock, 0.1)
    assert deliver(held, clock, log) == ["raised", "returned", "raised", "returned"]


def test_newer_raise_is_told_in_place_of_the_one_that_waited(
    held: AlarmStore, clock: Clock, log: CollectingChannel
) -> None:
    clock.forward(5)
    observe(held, clock, 0.1)
    observe(held, clock, 0.7)
    [due] = [d.next_at for d in held.pending_deliveries() if d.channel == "log"]
    assert due == clock.wall() + timedelta(seconds=35)
    clock.forward(35)
    assert deliver(held, clock, log) == ["raised", "returned", "raised"]
    assert log.received[-1].key == held.alarms()[0].idempotency_key


def test_message_held_back_shows_the_alarm_as_it_stands(held: AlarmStore, clock: Clock, log: CollectingChannel) -> None:
    clock.forward(5)
    observe(held, clock, 0.1)
    clock.forward(40)
    assert deliver(held, clock, log) == ["raised", "returned", "raised"]
    told = log.received[-1].alarm
    assert told == held.alarms()[0]
    assert (told.phase, told.cleared_at) == (Phase.RETURNED_UNACKNOWLEDGED, clock.wall() - timedelta(seconds=40))
