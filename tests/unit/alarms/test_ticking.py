"""Ticks: by one process at a time, for as long as it lives."""

from __future__ import annotations

import threading
import time

import pytest

from almenara.alarms import AlarmStore, Change, Rule
from almenara.alarms.ticking import Ticker
from tests.support.alarms import Clock, observe

REPEATING = Rule(on_delay_seconds=0, off_delay_seconds=0, cooldown_seconds=0, repeat_interval_seconds=60)


def ticker(store: AlarmStore, clock: Clock) -> Ticker:
    return Ticker(store, every_seconds=0.01, monotonic=lambda: clock.seconds, wall_clock=clock.wall)


def test_tick_does_what_time_alone_makes_due(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9, REPEATING)
    assert ticker(store, clock).tick()
    clock.forward(60)
    assert ticker(store, clock).tick()
    assert store.transitions()[-1].change is Change.REMINDED


def test_of_two_tickers_one_ticks(store: AlarmStore, clock: Clock) -> None:
    first, second = ticker(store, clock), ticker(store, clock)
    assert first.tick()
    clock.forward(4)
    assert first.tick()
    assert not second.tick()


def test_run_outlives_a_database_that_fails_and_lets_go_at_its_end(
    store: AlarmStore, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ticked, faults = threading.Event(), iter([KeyError("unforeseen")])

    def tick(now: float) -> tuple[()]:
        for fault in faults:
            raise fault
        ticked.set()
        return ()

    monkeypatch.setattr(store, "tick", tick)
    stop = threading.Event()
    thread = threading.Thread(target=ticker(store, clock).run, args=(stop,))
    thread.start()
    assert ticked.wait(5)
    deadline = time.monotonic() + 5
    while "Ticking works again." not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    assert caplog.text.count("Ticking failed; trying again.") == 1
    assert ticker(store, clock).tick()
