"""What reaches the alarm store late: evidence that is completed after its source moved on, reports without a status."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from almenara.alarms import AlarmStore, Change, Phase
from almenara.alarms.leases import Lease
from tests.support.alarms import Clock, evidence_file, observe

LATE = (evidence_file("strip.jpg", "1"),)


def once_before(store: AlarmStore, method: str, rival: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a rival act just before the store's next step."""
    rivals: Iterator[Callable[[], Any]] = iter([rival])
    original = getattr(store, method)

    def after_the_rival(*arguments: Any) -> Any:
        for act in rivals:
            act()
        return original(*arguments)

    monkeypatch.setattr(store, method, after_the_rival)


def test_evidence_that_loses_a_race_is_kept_beside_what_the_rival_did(
    store: AlarmStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    observe(store, clock, 0.9)
    once_before(store, "_commit", lambda: observe(store, clock, 0.95), monkeypatch)
    alarm = store.revise_evidence(store.alarms()[0].id, LATE)
    assert (alarm.evidence, alarm.peak) == (LATE, 0.95)
    assert [each.change for each in store.history(alarm.id)].count(Change.EVIDENCE) == 1


def test_evidence_of_an_earlier_raise_does_not_replace_that_of_the_next(
    store: AlarmStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    observe(store, clock, 0.9)

    def raise_again() -> None:
        for anomaly in (0.1, 0.9):
            clock.forward(60)
            observe(store, clock, anomaly)

    once_before(store, "_load", raise_again, monkeypatch)
    alarm = store.revise_evidence(store.alarms()[0].id, LATE)
    assert alarm.evidence == ()
    assert [each.change for each in store.history(alarm.id)][-1] is Change.RAISED_AGAIN


def test_report_that_says_nothing_of_its_source_leaves_the_source_as_it_was(
    store: AlarmStore, clock: Clock, tmp_path: Path
) -> None:
    with AlarmStore(f"sqlite:///{tmp_path / 'worker.db'}", origin="worker-1", wall_clock=clock.wall) as worker:
        observe(worker, clock, 0.9)
        [*early, (_, raised)] = worker.changes_after(0)
        assert store.merge([report for _, report in early]) == len(early)
        before = store.phase("outflow-1")
        assert store.merge([raised.model_copy(update={"status": None})]) == 1
    assert [alarm.phase for alarm in store.alarms()] == [Phase.UNACKNOWLEDGED]
    assert store.phase("outflow-1") is before


def test_lease_is_asked_for_again_when_half_of_it_is_over(store: AlarmStore, clock: Clock) -> None:
    lease = Lease(store.leases, "ticks", owner="one", seconds=30, wall_clock=clock.wall)
    assert lease.renewal_seconds == 0
    assert lease.held()
    assert lease.renewal_seconds == 15
    clock.forward(20)
    assert lease.renewal_seconds == 0
