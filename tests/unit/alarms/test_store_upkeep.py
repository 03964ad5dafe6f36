"""What keeps an alarm database small and quick, and one bad source from holding up the others."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError

from almenara.alarms import AlarmStore, Change, Silence
from almenara.alarms.config import AlarmsConfig
from almenara.alarms.office import AlarmOffice
from almenara.alarms.queries import AlarmFilter
from tests.support.alarms import NOW_RULE, START, Clock, observe, told


def test_what_is_old_is_forgotten_but_what_is_of_an_alarm(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.1)
    observe(store, clock, 0.1, source="other")
    observe(store, clock, 0.9)
    old = store.silence(Silence(sources="*", starts_at=START, ends_at=clock.wall() + timedelta(seconds=9), user="eva"))
    clock.forward(100)
    observe(store, clock, 0.1, source="young")
    kept = store.silence(old.model_copy(update={"id": "", "ends_at": clock.wall() + timedelta(seconds=9)}))
    store.prune(clock.wall())
    assert [(each.source, each.change) for each in store.transitions()] == [
        ("outflow-1", Change.RAISED),
        ("young", Change.REGAINED),
    ]
    assert [each.id for each in store.silences(active_at=START + timedelta(seconds=1001))] == [kept.id]
    assert told(store) == ["raised"]


def test_directives_that_are_done_are_forgotten_and_open_ones_kept(tmp_path: Path, clock: Clock) -> None:
    worker = AlarmStore(f"sqlite:///{tmp_path / 'worker.db'}", origin="worker-1", wall_clock=clock.wall)
    with worker, AlarmStore(f"sqlite:///{tmp_path / 'record.db'}", wall_clock=clock.wall) as record:
        observe(worker, clock, 0.1)
        record.merge([report for _, report in worker.changes_after(0)])
        record.shelve("outflow-1", "eva", 60)
        [done] = record.directives("worker-1")
        worker.apply(done)
        record.confirm_directives([done.id], "worker-1")
        record.unshelve("outflow-1", "eva")
        clock.forward(100)
        for each in (worker, record):
            each.prune(clock.wall())
        assert [each.action for each in record.directives("worker-1")] == ["unshelve"]
        with record._engine.begin() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM alarm_directives").scalar() == 1
        with worker._engine.begin() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM alarm_applied").scalar() == 0


def test_place_in_the_log_is_never_given_twice(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.1)
    [(place, _)] = store.changes_after(0)
    clock.forward(100)
    store.prune(clock.wall())
    observe(store, clock, None)
    assert [each.transition.change for _, each in store.changes_after(place)] == [Change.LOST]


def test_database_is_tidied_up_by_the_hour_and_the_reserve_restored_by_the_minute(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ThreeTurns(threading.Event):
        turns = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.turns += 1
            if self.turns == 3:
                self.set()
            return self.is_set()

    office, done = AlarmOffice(url, tmp_path, config=AlarmsConfig()), []
    monkeypatch.setattr(office.store, "prune", lambda _: done.append("prune"))
    monkeypatch.setattr(office._reserve, "restore", lambda: done.append("restore"))
    office._keep_up(ThreeTurns())
    assert done == ["prune", "restore", "restore", "restore"]
    office.store.close()


def test_tick_steps_the_others_when_a_source_cannot_be_written(store: AlarmStore, clock: Clock) -> None:
    rule = NOW_RULE.model_copy(update={"stale_after_seconds": 60})
    for source in ("a-bad", "b-good"):
        observe(store, clock, 0.1, rule, source=source)
    with store._engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER refuse BEFORE INSERT ON alarm_transitions WHEN NEW.source = 'a-bad'"
            " BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
    clock.forward(61)
    with pytest.raises(IntegrityError, match="refused"):
        store.tick(clock.seconds)
    assert store.transitions()[-1].source == "b-good"
    assert store.transitions()[-1].change is Change.LOST


def plans(store: AlarmStore, statements: Sequence[tuple[str, Sequence[object]]]) -> str:
    with store._engine.begin() as connection:
        rows = [
            row for sql, values in statements for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)
        ]
    return "\n".join(row[3] for row in rows)


def test_what_is_asked_often_is_found_by_an_index(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9)
    statements: list[tuple[str, Sequence[object]]] = []

    def keep(_connection: object, _cursor: object, sql: str, values: Sequence[object], *_: object) -> None:
        statements.append((sql, values))

    event.listen(store._engine, "before_cursor_execute", keep)
    store.alarms(AlarmFilter(standing=True))
    store.silences(active_at=clock.wall())
    store.outbox.prune(START)
    store.prune(START)
    event.remove(store._engine, "before_cursor_execute", keep)
    explained = [each for each in statements if not each[0].startswith("BEGIN")]
    plan = plans(store, explained)
    for index in (
        "alarms_standing",
        "alarm_transitions_by_alarm (alarm_id=? AND at<?)",
        "alarm_silences_ending",
        "alarm_deliveries_sent_at",
        "alarm_deliveries_dead_at",
    ):
        assert index in plan, plan
