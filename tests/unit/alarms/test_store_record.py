"""The plant-wide record and a worker's store: reports go one way, what people do the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from almenara.alarms import AlarmRecord, AlarmStore, Change, Phase, Report, Rule
from almenara.errors import InputError
from tests.support.alarms import NOW_RULE, Clock, evidence_file, observe, told

LATCHING = NOW_RULE.model_copy(update={"latch": True})


class Plant:
    """A worker's store and the record, with a network that works when asked to."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.clock = clock
        self.worker = AlarmStore(f"sqlite:///{folder / 'worker.db'}", origin="worker-1", wall_clock=clock.wall)
        self.record = AlarmStore(f"sqlite:///{folder / 'record.db'}", wall_clock=clock.wall)

    def see(self, anomaly: float | None, rule: Rule = NOW_RULE) -> None:
        self.clock.forward(1)
        observe(self.worker, self.clock, anomaly, rule)

    def report(self) -> int:
        changes = self.worker.changes_after(self.worker.cursor("record"))
        accepted = self.record.merge([report for _, report in changes])
        if changes:
            self.worker.move_cursor("record", changes[-1][0])
        return accepted

    def obey(self) -> None:
        directives = self.record.directives("worker-1")
        for directive in directives:
            self.worker.apply(directive)
        self.record.confirm_directives([directive.id for directive in directives], "worker-1")

    @property
    def alarm(self) -> AlarmRecord:
        return self.record.alarms()[0]


@pytest.fixture
def plant(tmp_path: Path, clock: Clock) -> Iterator[Plant]:
    made = Plant(tmp_path, clock)
    yield made
    made.worker.close()
    made.record.close()


@pytest.fixture
def raised(plant: Plant) -> Plant:
    """An alarm that the record knows of."""
    plant.see(0.9)
    plant.report()
    return plant


def test_reported_alarm_is_in_the_record_as_it_is_at_its_store(raised: Plant) -> None:
    assert raised.record.alarms() == raised.worker.alarms()
    assert raised.record.transitions() == raised.worker.transitions()
    assert raised.record.sources() == raised.worker.sources()
    assert raised.record.phase("outflow-1") is Phase.UNACKNOWLEDGED


def test_reported_alarm_is_told_by_its_own_store_only(raised: Plant) -> None:
    assert told(raised.worker) == ["raised"]
    assert told(raised.record) == []
    raised.record.tick(raised.clock.seconds + 100_000)
    assert told(raised.record) == []


def test_reports_that_come_twice_or_out_of_order_change_nothing(plant: Plant) -> None:
    plant.see(0.9)
    [(_, early)] = plant.worker.changes_after(1)
    plant.see(0.1)
    reports = [report for _, report in plant.worker.changes_after(0)]
    assert plant.record.merge(reports) == len(reports)
    assert plant.record.merge([early]) == 0
    assert plant.record.merge(reports[::-1]) == 0
    assert plant.record.alarms() == plant.worker.alarms()
    assert plant.record.sources() == plant.worker.sources()


def test_alarm_and_source_keep_what_the_newest_report_said(plant: Plant) -> None:
    plant.see(0.9)
    early = [report for _, report in plant.worker.changes_after(0)]
    plant.see(0.1)
    plant.record.merge([report for _, report in plant.worker.changes_after(2)])
    assert plant.record.merge(early) == 2
    assert plant.record.alarms() == plant.worker.alarms()
    assert plant.record.sources() == plant.worker.sources()


def test_worker_that_has_lost_its_database_is_believed_again(raised: Plant, tmp_path: Path) -> None:
    for anomaly in (0.1, 0.9, 0.1, 0.9):
        raised.see(anomaly)
    raised.report()
    raised.clock.forward(1)
    with AlarmStore(f"sqlite:///{tmp_path / 'new.db'}", origin="worker-1", wall_clock=raised.clock.wall) as new:
        observe(new, raised.clock, 0.1)
        raised.record.merge([report for _, report in new.changes_after(0)])
        assert raised.record.sources() == new.sources()


def test_acknowledgement_at_the_record_shows_at_once_and_reaches_the_worker(raised: Plant) -> None:
    alarm = raised.record.acknowledge(raised.alarm.id, "eva", "a bird", "false_alarm")
    assert (alarm.phase, alarm.acknowledged_by, alarm.verdict) == (Phase.ACKNOWLEDGED, "eva", "false_alarm")
    assert raised.record.phase("outflow-1") is Phase.ACKNOWLEDGED
    raised.obey()
    there = raised.worker.alarms()[0]
    assert (there.phase, there.acknowledged_by, there.comment) == (Phase.ACKNOWLEDGED, "eva", "a bird")
    assert (there.acknowledged_at, there.verdict) == (alarm.acknowledged_at, "false_alarm")
    assert raised.record.directives("worker-1") == []


def test_acknowledgement_is_one_transition_in_both_logs(raised: Plant) -> None:
    raised.record.acknowledge(raised.alarm.id, "eva")
    raised.obey()
    assert raised.report() == 0
    assert raised.record.alarms() == raised.worker.alarms()
    assert [each.key for each in raised.record.history(raised.alarm.id)] == [
        each.key for each in raised.worker.history(raised.alarm.id)
    ]


def test_acknowledgement_survives_reports_that_cross_it(raised: Plant) -> None:
    raised.record.acknowledge(raised.alarm.id, "eva")
    raised.see(0.1)
    raised.report()
    assert (raised.alarm.phase, raised.alarm.acknowledged_by) == (Phase.NORMAL, "eva")
    raised.obey()
    raised.report()
    assert raised.record.alarms() == raised.worker.alarms()


def test_second_acknowledgement_at_the_record_is_no_directive(raised: Plant) -> None:
    raised.record.acknowledge(raised.alarm.id, "eva")
    raised.record.acknowledge(raised.alarm.id, "juan")
    assert [each.user for each in raised.record.directives("worker-1")] == ["eva"]


def test_verdict_given_later_at_the_record_reaches_the_worker(raised: Plant) -> None:
    raised.record.acknowledge(raised.alarm.id, "eva")
    raised.obey()
    raised.record.acknowledge(raised.alarm.id, "juan", verdict="false_alarm")
    raised.obey()
    assert raised.worker.alarms()[0].verdict == "false_alarm"


def test_acknowledgement_does_not_touch_a_raise_that_came_after_it(raised: Plant) -> None:
    raised.record.acknowledge(raised.alarm.id, "eva")
    raised.see(0.1)
    raised.see(0.9)
    raised.obey()
    assert raised.worker.alarms()[0].phase is Phase.UNACKNOWLEDGED
    raised.report()
    assert raised.alarm.phase is Phase.UNACKNOWLEDGED


def test_directive_is_carried_out_once(raised: Plant) -> None:
    raised.record.shelve("outflow-1", "eva", 600)
    [directive] = raised.record.directives("worker-1")
    raised.worker.apply(directive)
    raised.worker.unshelve("outflow-1", "juan")
    raised.worker.apply(directive)
    assert raised.worker.phase("outflow-1") is Phase.UNACKNOWLEDGED


def test_directive_of_a_worker_that_was_killed_before_it_noted_it_is_carried_out_once(
    raised: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised.record.shelve("outflow-1", "eva", 600)
    [directive] = raised.record.directives("worker-1")
    with monkeypatch.context() as patched:
        patched.setattr("almenara.alarms.store.note_applied", kill)
        with pytest.raises(KeyboardInterrupt):
            raised.worker.apply(directive)
    raised.worker.unshelve("outflow-1", "juan")
    raised.clock.forward(1)
    raised.worker.apply(directive)
    assert raised.worker.phase("outflow-1") is Phase.UNACKNOWLEDGED


def kill(*_: object) -> None:
    raise KeyboardInterrupt


def test_directive_is_open_until_its_own_worker_confirms_it(raised: Plant) -> None:
    raised.record.shelve("outflow-1", "eva", 600)
    [directive] = raised.record.directives("worker-1")
    raised.record.confirm_directives([directive.id], "worker-2")
    assert raised.record.directives("worker-1") == [directive]
    raised.record.confirm_directives([directive.id], "worker-1")
    assert raised.record.directives("worker-1") == []


def test_latched_alarm_is_reset_from_the_record(plant: Plant) -> None:
    plant.see(0.9, LATCHING)
    plant.report()
    plant.record.acknowledge(plant.alarm.id, "eva")
    plant.obey()
    plant.see(0.1, LATCHING)
    plant.report()
    assert plant.alarm.phase is Phase.LATCHED
    assert plant.record.reset(plant.alarm.id, "eva", "cleaned").phase is Phase.NORMAL
    assert plant.record.sources()[0].alarm_id is None
    plant.obey()
    assert plant.worker.phase("outflow-1") is Phase.NORMAL
    plant.report()
    assert plant.record.alarms() == plant.worker.alarms()
    plant.record.reset(plant.alarm.id, "juan")
    assert plant.record.directives("worker-1") == []


def test_shelving_at_the_record_shows_at_once_and_reaches_the_worker(raised: Plant) -> None:
    assert raised.record.shelve("outflow-1", "eva", 600, "welding") is Phase.SHELVED
    [status] = raised.record.sources()
    raised.obey()
    [there] = raised.worker.sources()
    assert status.phase is there.phase is Phase.SHELVED
    assert status.shelved_until == there.shelved_until
    raised.report()
    assert raised.record.sources() == raised.worker.sources()
    last = raised.record.transitions()[-1]
    assert (last.change, last.origin, last.user, last.reason) == (Change.SHELVED, "worker-1", "eva", "welding")


def test_shelving_that_is_over_when_it_arrives_does_nothing(raised: Plant) -> None:
    raised.record.shelve("outflow-1", "eva", 600)
    raised.clock.forward(600)
    raised.obey()
    assert raised.worker.phase("outflow-1") is Phase.UNACKNOWLEDGED


def test_shelving_that_is_over_is_not_shown_at_the_record_before_its_store_reports(raised: Plant) -> None:
    raised.record.shelve("outflow-1", "eva", 600)
    raised.clock.forward(600)
    [status] = raised.record.sources()
    assert (status.phase, status.shelved_until) == (Phase.UNACKNOWLEDGED, None)
    assert raised.record.phase("outflow-1") is Phase.UNACKNOWLEDGED
    assert raised.record.shelve("outflow-1", "eva", 600) is Phase.SHELVED
    assert len(raised.record.directives("worker-1")) == 2


def test_source_without_an_alarm_is_unknown_after_its_shelving_until_its_store_reports(plant: Plant) -> None:
    plant.see(0.1)
    plant.report()
    plant.record.shelve("outflow-1", "eva", 600)
    plant.clock.forward(600)
    assert plant.record.phase("outflow-1") is Phase.UNKNOWN


def test_source_out_of_service_stays_so_after_its_shelving(raised: Plant) -> None:
    raised.record.shelve("outflow-1", "eva", 600)
    raised.record.remove_from_service("outflow-1", "eva")
    raised.clock.forward(600)
    assert raised.record.phase("outflow-1") is Phase.OUT_OF_SERVICE
    assert raised.record.return_to_service("outflow-1", "eva") is Phase.UNKNOWN


def test_source_whose_alarm_is_still_to_be_reported_can_be_shelved(plant: Plant) -> None:
    plant.see(0.1)
    [(_, report)] = plant.worker.changes_after(0)
    plant.see(0.9)
    [status] = plant.worker.sources()
    plant.record.merge([report.model_copy(update={"status": status})])
    assert plant.record.shelve("outflow-1", "eva", 600) is Phase.SHELVED
    assert plant.record.transitions()[-1].alarm_id is None


def test_unshelving_at_the_record_reaches_the_worker(raised: Plant) -> None:
    raised.record.shelve("outflow-1", "eva", 600)
    raised.obey()
    assert raised.record.unshelve("outflow-1", "juan") is Phase.UNACKNOWLEDGED
    raised.obey()
    assert raised.worker.phase("outflow-1") is Phase.UNACKNOWLEDGED


def test_source_without_an_alarm_is_unknown_after_unshelving_until_its_store_reports(plant: Plant) -> None:
    plant.see(0.1)
    plant.report()
    plant.record.shelve("outflow-1", "eva", 600)
    assert plant.record.unshelve("outflow-1", "eva") is Phase.UNKNOWN
    plant.obey()
    plant.report()
    assert plant.record.phase("outflow-1") is Phase.NORMAL


def test_service_at_the_record_reaches_the_worker(raised: Plant) -> None:
    assert raised.record.remove_from_service("outflow-1", "eva") is Phase.OUT_OF_SERVICE
    raised.obey()
    assert raised.worker.phase("outflow-1") is Phase.OUT_OF_SERVICE
    assert raised.record.shelve("outflow-1", "eva", 600) is Phase.OUT_OF_SERVICE
    assert raised.record.return_to_service("outflow-1", "eva") is Phase.SHELVED
    raised.obey()
    assert raised.worker.phase("outflow-1") is Phase.SHELVED


def test_what_is_so_already_is_no_directive(raised: Plant) -> None:
    assert raised.record.unshelve("outflow-1", "eva") is Phase.UNACKNOWLEDGED
    assert raised.record.return_to_service("outflow-1", "eva") is Phase.UNACKNOWLEDGED
    assert raised.record.directives("worker-1") == []


def test_source_that_nobody_reported_is_not_known(plant: Plant) -> None:
    with pytest.raises(InputError, match="no source outflow-1"):
        plant.record.shelve("outflow-1", "eva", 60)


def test_directive_for_what_is_gone_is_done_with(raised: Plant, tmp_path: Path) -> None:
    raised.record.acknowledge(raised.alarm.id, "eva")
    raised.record.shelve("outflow-1", "eva", 600)
    with AlarmStore(f"sqlite:///{tmp_path / 'empty.db'}", origin="worker-1") as empty:
        for directive in raised.record.directives("worker-1"):
            empty.apply(directive)
        assert empty.sources() == []


def test_copies_of_evidence_at_the_record_are_no_change_of_the_alarm(raised: Plant) -> None:
    copy = evidence_file().model_copy(update={"uri": "/record/frame.jpg"})
    raised.worker.revise_evidence(raised.alarm.id, (evidence_file(),))
    raised.report()
    log = raised.record.transitions()
    assert raised.record.revise_evidence(raised.alarm.id, (copy,)).evidence == (copy,)
    assert raised.record.transitions() == log
    raised.see(0.1)
    raised.report()
    assert raised.alarm.evidence == (copy,)


def test_copies_of_an_earlier_raises_evidence_do_not_replace_that_of_a_new_one(raised: Plant) -> None:
    raised.worker.revise_evidence(raised.alarm.id, (evidence_file(),))
    raised.report()
    copy = evidence_file().model_copy(update={"uri": "/record/frame.jpg"})
    newer = evidence_file(content="1")
    raised.worker.revise_evidence(raised.alarm.id, (newer,))
    raised.report()
    assert raised.record.revise_evidence(raised.alarm.id, (copy,)).evidence == (newer,)
    assert raised.alarm.evidence == (newer,)


def test_report_without_origin_is_refused(raised: Plant) -> None:
    [(_, report), *_] = raised.worker.changes_after(0)
    nameless = report.model_copy(update={"transition": report.transition.model_copy(update={"origin": ""})})
    with pytest.raises(InputError, match="does not name one store"):
        raised.record.merge([nameless])


def test_report_of_another_stores_alarm_is_refused(raised: Plant) -> None:
    (_, report) = raised.worker.changes_after(0)[-1]
    assert report.alarm is not None
    mixed = report.model_copy(update={"alarm": report.alarm.model_copy(update={"origin": "worker-2"})})
    with pytest.raises(InputError, match="does not name one store"):
        raised.record.merge([mixed])


def test_report_without_its_alarm_is_refused(raised: Plant) -> None:
    (_, report) = raised.worker.changes_after(0)[-1]
    with pytest.raises(InputError, match="does not bring the alarm"):
        raised.record.merge([report.model_copy(update={"alarm": None})])


def test_nobody_else_may_report_an_alarm_of_the_record(plant: Plant) -> None:
    observe(plant.record, plant.clock, 0.9, source="pump-1")
    (_, own) = plant.record.changes_after(0)[-1]
    assert own.alarm is not None
    stolen = Report(
        transition=own.transition.model_copy(update={"origin": "worker-1", "key": "1"}),
        alarm=own.alarm.model_copy(update={"origin": "worker-1", "revision": 9}),
    )
    with pytest.raises(InputError, match="was raised here"):
        plant.record.merge([stolen])
    assert plant.record.alarms() == [own.alarm]
