"""Looks into a SQLite database that nobody has changed are spared, and none that would find something."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from almenara.alarms import AlarmStore, Change, Deliverer, Rule
from almenara.alarms.forwarding import Forwarder
from almenara.alarms.lull import Lull
from almenara.alarms.records import Silence
from almenara.alarms.ticking import Ticker
from almenara.evidence import LocalEvidence
from tests.support.alarms import NOW_RULE, Clock, CollectingChannel, observe, running, told
from tests.support.camera import wait_for
from tests.support.record import record_server

REPEATING = Rule(on_delay_seconds=0, off_delay_seconds=0, cooldown_seconds=0, repeat_interval_seconds=60)


@contextmanager
def statements() -> Iterator[list[str]]:
    """What is asked of any database meanwhile."""
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@contextmanager
def sibling(path: Path, clock: Clock) -> Iterator[AlarmStore]:
    """The store as another process has it."""
    with AlarmStore(f"sqlite:///{path}", wall_clock=clock.wall) as store:
        yield store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shared.db"


@pytest.fixture
def shared(path: Path, clock: Clock) -> Iterator[AlarmStore]:
    with AlarmStore(f"sqlite:///{path}", origin="worker-1", wall_clock=clock.wall) as store:
        yield store


def test_version_stands_while_nobody_commits_and_differs_after_every_commit(shared: AlarmStore, clock: Clock) -> None:
    versions = [shared.version(), shared.version()]
    assert versions[0] == versions[1] is not None
    for anomaly in (0.1, 0.9, 0.1):
        observe(shared, clock, anomaly)
        assert shared.version() not in versions
        versions.append(shared.version())


def test_version_differs_after_a_commit_of_another_process(shared: AlarmStore, path: Path, clock: Clock) -> None:
    before = shared.version()
    with sibling(path, clock) as other:
        observe(other, clock, 0.9)
        assert shared.version() != before


def test_nothing_is_told_of_a_database_that_is_closed(shared: AlarmStore) -> None:
    shared.close()
    assert shared.version() is None


@pytest.mark.parametrize(
    ("lull", "version", "lasts"),
    [(Lull(7, 20.0), 7, True), (Lull(7, 20.0), 8, False), (Lull(7, 10.0), 7, False), (Lull(None, 20.0), None, False)],
    ids=["nothing happened", "somebody committed", "its time is over", "nobody can tell"],
)
def test_lull_lasts_until_somebody_commits_or_its_time_is_over(lull: Lull, version: int | None, lasts: bool) -> None:
    assert lull.lasts(lambda: version, now=10.0) is lasts


def test_a_quiet_observation_asks_the_database_nothing(shared: AlarmStore, clock: Clock) -> None:
    observe(shared, clock, 0.1)
    observe(shared, clock, 0.1)
    with statements() as asked:
        observe(shared, clock, 0.2)
    assert asked == []


def test_what_another_process_did_counts_at_the_next_observation(shared: AlarmStore, path: Path, clock: Clock) -> None:
    observe(shared, clock, 0.1)
    observe(shared, clock, 0.1)
    with sibling(path, clock) as other:
        other.remove_from_service("outflow-1", "ana")
    assert observe(shared, clock, 0.9, NOW_RULE) == []


def test_a_silence_that_was_known_before_begins_at_its_time(shared: AlarmStore, clock: Clock) -> None:
    start = clock.wall() + timedelta(seconds=30)
    shared.silence(Silence(sources="outflow-*", starts_at=start, ends_at=start + timedelta(seconds=60), user="ana"))
    for _ in range(2):
        observe(shared, clock, 0.1)
    clock.forward(30)
    assert observe(shared, clock, 0.9) == [Change.RAISED]
    assert told(shared) == []


def test_ticker_leaves_a_quiet_database_alone_until_its_lease_is_to_be_renewed(
    shared: AlarmStore, clock: Clock
) -> None:
    observe(shared, clock, 0.1)
    ticker = Ticker(shared, every_seconds=0.01, monotonic=lambda: clock.seconds, wall_clock=clock.wall)
    with running(ticker.run):
        wait_for(lambda: quiet_for(0.1), 5, "a lull")
        with statements() as asked:
            clock.forward(5)
            wait_for(lambda: any("alarm_leases" in statement for statement in asked), 5, "a renewed lease")


def test_ticker_ticks_when_something_becomes_due_that_another_process_began(
    shared: AlarmStore, path: Path, clock: Clock
) -> None:
    ticker = Ticker(shared, every_seconds=0.01, monotonic=lambda: clock.seconds, wall_clock=clock.wall)
    with sibling(path, clock) as other, running(ticker.run):
        wait_for(lambda: quiet_for(0.1), 5, "a lull")
        observe(other, clock, 0.9, REPEATING)
        clock.forward(60)
        wait_for(lambda: shared.transitions()[-1].change is Change.REMINDED, 5, "a reminder")


def test_deliverer_leaves_an_empty_outbox_alone_and_sends_what_another_process_commits(
    shared: AlarmStore, path: Path, clock: Clock
) -> None:
    channel = CollectingChannel()
    deliverer = Deliverer(shared, [channel], poll_seconds=0.01, wall_clock=clock.wall, monotonic=lambda: clock.seconds)
    with sibling(path, clock) as other, running(deliverer.run):
        wait_for(lambda: quiet_for(0.1), 5, "a lull")
        observe(other, clock, 0.9)
        wait_for(lambda: channel.received, 5, "the message")


def test_deliverer_tries_again_when_the_pause_is_over(shared: AlarmStore, clock: Clock) -> None:
    channel = CollectingChannel(failures=1)
    deliverer = Deliverer(
        shared,
        [channel],
        poll_seconds=0.01,
        first_retry_seconds=8.0,
        wall_clock=clock.wall,
        monotonic=lambda: clock.seconds,
    )
    observe(shared, clock, 0.9)
    with running(deliverer.run):
        wait_for(lambda: channel.failures == 0 and quiet_for(0.1), 5, "a lull after the failure")
        assert not channel.messages
        clock.forward(8)
        wait_for(lambda: channel.received, 5, "the message")


def test_forwarder_leaves_a_log_alone_that_it_has_reported(shared: AlarmStore, clock: Clock, tmp_path: Path) -> None:
    with record_server() as record:
        evidence = LocalEvidence(tmp_path / "evidence")
        forwarder = Forwarder(shared, record.url, api_key="the-key", origin="worker-1", evidence=evidence)
        observe(shared, clock, 0.9)
        for _ in range(2):
            forwarder.report()
        with statements() as asked:
            forwarder.report()
        assert asked == []
        observe(shared, clock, 0.1)
        forwarder.report()
        forwarder.stop(1)
        assert [report.transition.key for report in record.reports] == [each.key for each in shared.transitions()]


def quiet_for(seconds: float) -> bool:
    """Whether nobody asks any database anything for so long."""
    with statements() as asked:
        threading.Event().wait(seconds)
    return not asked
