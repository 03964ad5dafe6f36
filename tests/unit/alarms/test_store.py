"""The alarm store: what an observation commits, and what a restart keeps."""

from __future__ import annotations

import errno
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from almenara.alarms import AlarmStore, Change, EvidenceFile, Phase, Rule
from almenara.errors import NoEvidenceError
from tests.support.alarms import MODEL, NOW_RULE, SLOW_RULE, START, Clock, evidence_file, observation, observe, told


def test_source_that_was_never_scored_is_unknown(store: AlarmStore, clock: Clock) -> None:
    assert store.phase("outflow-1") is Phase.UNKNOWN
    assert observe(store, clock, None) == []
    assert store.phase("outflow-1") is Phase.UNKNOWN


def test_first_score_ends_unknown(store: AlarmStore, clock: Clock) -> None:
    assert observe(store, clock, 0.1) == [Change.REGAINED]
    assert store.phase("outflow-1") is Phase.NORMAL


def test_lasting_anomaly_becomes_an_alarm_with_all_its_facts(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9, SLOW_RULE)
    clock.forward(2)
    transitions = store.observe(
        observation(0.8, at=clock.wall()), SLOW_RULE, now=clock.seconds, evidence=lambda: (evidence_file("frame.jpg"),)
    )
    [raised] = transitions
    [alarm] = store.alarms()
    assert raised.raised
    assert raised.alarm_id == alarm.id
    assert alarm.source == "outflow-1"
    assert alarm.kind == "vision"
    assert alarm.priority == "critical"
    assert alarm.phase is Phase.UNACKNOWLEDGED
    assert (alarm.score, alarm.peak) == (0.8, 0.9)
    assert alarm.reason == "foreign object"
    assert alarm.model == MODEL
    assert alarm.evidence == (evidence_file("frame.jpg"),)
    assert alarm.raised_at == clock.wall()
    assert alarm.idempotency_key == raised.key
    assert alarm.cleared_at is None
    assert alarm.acknowledged_at is None


def test_alarm_is_committed_with_one_message_for_each_channel(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9)
    [alarm] = store.alarms()
    pending = store.pending_deliveries()
    assert [delivery.channel for delivery in pending] == ["log", "mail"]
    assert {delivery.notification.key for delivery in pending} == {alarm.idempotency_key}
    assert {delivery.notification.alarm for delivery in pending} == {alarm}


def test_peak_is_kept_up_to_date(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.6)
    observe(store, clock, 0.95)
    assert store.alarms()[0].peak == 0.95
    assert store.alarms()[0].score == 0.6


def test_returned_alarm_knows_when_it_cleared(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9)
    clock.forward(30)
    assert observe(store, clock, 0.1) == [Change.RETURNED]
    [alarm] = store.alarms()
    assert alarm.phase is Phase.RETURNED_UNACKNOWLEDGED
    assert alarm.cleared_at == clock.wall()
    assert told(store) == ["raised", "returned"]


def test_unacknowledged_alarm_that_comes_again_keeps_its_id(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9)
    [first] = store.alarms()
    observe(store, clock, 0.1)
    clock.forward(10)
    files = (evidence_file("again.jpg"),)
    store.observe(observation(0.7, at=clock.wall()), NOW_RULE, now=clock.seconds, evidence=lambda: files)
    [alarm] = store.alarms()
    assert alarm.id == first.id
    assert alarm.idempotency_key != first.idempotency_key
    assert alarm.raised_at == clock.wall()
    assert alarm.cleared_at is None
    assert alarm.evidence == files


def test_alarm_after_an_acknowledged_one_is_a_new_alarm(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9)
    store.acknowledge(store.alarms()[0].id, "eva")
    observe(store, clock, 0.1)
    clock.forward(1)
    observe(store, clock, 0.8)
    newest, oldest = store.alarms()
    assert newest.phase is Phase.UNACKNOWLEDGED
    assert oldest.phase is Phase.NORMAL


def test_alarm_keeps_its_phase_while_its_source_is_unknown(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9)
    assert observe(store, clock, None) == [Change.LOST]
    assert store.phase("outflow-1") is Phase.UNKNOWN
    assert store.alarms()[0].phase is Phase.UNACKNOWLEDGED
    assert store.transitions()[-1].alarm_id == store.alarms()[0].id


def test_evidence_is_saved_only_by_the_observation_that_raises(store: AlarmStore, clock: Clock) -> None:
    calls: list[float] = []

    def save() -> tuple[EvidenceFile, ...]:
        calls.append(clock.seconds)
        return ()

    for anomaly in (0.1, 0.9, 0.9, 0.95, 0.1):
        store.observe(observation(anomaly), SLOW_RULE, now=clock.seconds, evidence=save)
        clock.forward(2)
    assert calls == [1004.0]


def test_alarm_goes_out_with_a_note_when_evidence_cannot_be_saved(store: AlarmStore, clock: Clock) -> None:
    def fail() -> tuple[EvidenceFile, ...]:
        raise NoEvidenceError.because("picture", OSError(errno.ENOSPC, "No space left on device"))

    store.observe(observation(0.9), NOW_RULE, now=clock.seconds, evidence=fail)
    [alarm] = store.alarms()
    assert alarm.evidence == ()
    assert alarm.note == "no picture: the disk is full"
    assert len(store.pending_deliveries()) == 2


def test_time_without_a_zone_is_taken_as_utc(store: AlarmStore, clock: Clock) -> None:
    store.observe(observation(0.9, at=START.replace(tzinfo=None)), NOW_RULE, now=clock.seconds)
    assert store.alarms()[0].raised_at == START


def test_delays_follow_the_monotonic_clock_whatever_the_wall_clock_does(url: str) -> None:
    wall = iter(START + timedelta(hours=h) for h in (0, -5, 9, -20, 40, 3, 8, 1, 2, 3))
    with AlarmStore(url, wall_clock=lambda: next(wall)) as store:
        assert store.observe(observation(0.9), SLOW_RULE, now=10.0)[-1].change is Change.PENDING
        assert store.observe(observation(0.9), SLOW_RULE, now=11.9) == ()
        assert store.observe(observation(0.9), SLOW_RULE, now=12.0)[-1].change is Change.RAISED


def test_restart_keeps_the_alarm_and_its_acknowledgement(store: AlarmStore, url: str, clock: Clock) -> None:
    observe(store, clock, 0.9)
    store.acknowledge(store.alarms()[0].id, "eva")
    store.close()
    with AlarmStore(url, wall_clock=clock.wall) as reopened:
        assert reopened.phase("outflow-1") is Phase.ACKNOWLEDGED
        assert observe(reopened, clock, 0.9) == []
        assert len(reopened.alarms()) == 1


def test_restart_keeps_a_delay_in_progress(store: AlarmStore, url: str, clock: Clock) -> None:
    observe(store, clock, 0.9, SLOW_RULE)
    clock.forward(2)
    later = Clock(seconds=5.0)  # another boot: the monotonic clock began anew
    with AlarmStore(url, wall_clock=clock.wall) as reopened:
        assert observe(reopened, later, 0.9, SLOW_RULE) == [Change.RAISED]


def test_gap_that_is_longer_than_the_stale_time_begins_a_delay_again(store: AlarmStore, clock: Clock) -> None:
    rule = SLOW_RULE.model_copy(update={"stale_after_seconds": 30})
    observe(store, clock, 0.9, rule)
    clock.forward(600)
    assert observe(store, clock, 0.9, rule) == [Change.LOST, Change.REGAINED, Change.PENDING]
    lost = store.transitions()[-3]
    assert (lost.reason, lost.anomaly) == ("no reading came", None)


def test_restart_keeps_the_cooldown(store: AlarmStore, url: str, clock: Clock) -> None:
    rule = Rule(on_delay_seconds=0, off_delay_seconds=0, cooldown_seconds=60)
    for anomaly in (0.9, 0.1):
        observe(store, clock, anomaly, rule)
    clock.forward(20)
    later = Clock(seconds=5.0)
    with AlarmStore(url, wall_clock=clock.wall) as reopened:
        assert observe(reopened, later, 0.9, rule) == [Change.RAISED_AGAIN]
        clock.forward(39)
        later.forward(39)
        reopened.tick(later.seconds)
        assert told(reopened) == ["raised"]
        clock.forward(1)
        later.forward(1)
        reopened.tick(later.seconds)
        assert told(reopened) == ["raised", "raised"]


def test_process_whose_wall_clock_is_behind_does_not_wait_for_the_future(
    store: AlarmStore, url: str, clock: Clock
) -> None:
    observe(store, clock, 0.9, SLOW_RULE)
    behind = Clock(seconds=clock.seconds - 7200)
    with AlarmStore(url, wall_clock=behind.wall) as other:
        observe(other, behind, 0.9, SLOW_RULE)
        behind.forward(2)
        assert observe(other, behind, 0.9, SLOW_RULE) == [Change.RAISED]


def test_note_about_evidence_shows_no_password(store: AlarmStore, clock: Clock) -> None:
    def fail() -> tuple[EvidenceFile, ...]:
        raise ConnectionError("no answer from http://minio:geheim@store:9000/evidence")

    store.observe(observation(0.9), NOW_RULE, now=clock.seconds, evidence=fail)
    assert "geheim" not in store.alarms()[0].note


def test_source_whose_state_does_not_change_is_not_written(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.1)
    [before] = store.sources()
    for _ in range(5):
        clock.forward(3600)
        observe(store, clock, 0.1)
    assert store.sources() == [before]


def test_when_a_source_was_seen_is_written_four_times_in_its_stale_time(store: AlarmStore, clock: Clock) -> None:
    rule = NOW_RULE.model_copy(update={"stale_after_seconds": 40})
    observe(store, clock, 0.1, rule)
    before = store.sources()[0].revision
    for _ in range(40):
        clock.forward(1)
        observe(store, clock, 0.1, rule)
    assert store.sources()[0].revision == before + 4
    clock.forward(40)
    assert [each.change for each in store.tick(clock.seconds)] == [Change.LOST]


def test_new_rule_counts_for_ticks_too(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.1)
    observe(store, clock, 0.1, NOW_RULE.model_copy(update={"stale_after_seconds": 5}))
    clock.forward(5)
    assert [each.change for each in store.tick(clock.seconds)] == [Change.LOST]
    assert store.tick(clock.seconds) == ()


def test_source_whose_row_cannot_be_read_keeps_no_other_from_its_tick(
    store: AlarmStore, clock: Clock, tmp_path: Path
) -> None:
    rule = NOW_RULE.model_copy(update={"stale_after_seconds": 5})
    observe(store, clock, 0.1, rule, source="broken")
    clock.forward(1)
    observe(store, clock, 0.1, rule, source="sound")
    with sqlite3.connect(tmp_path / "alarms" / "alarms.db") as rival:
        rival.execute("UPDATE alarm_sources SET rule = '{\"threshold\": 7}' WHERE source = 'broken'")
    rival.close()
    clock.forward(5)
    with pytest.raises(ValueError, match="threshold"):
        store.tick(clock.seconds)
    assert store.transitions("sound")[-1].change is Change.LOST


def test_message_that_the_cooldown_holds_back_is_written_by_a_tick(store: AlarmStore, clock: Clock) -> None:
    rule = NOW_RULE.model_copy(update={"cooldown_seconds": 60})
    for anomaly in (0.9, 0.1):
        observe(store, clock, anomaly, rule)
    assert told(store) == ["raised"]
    clock.forward(60)
    store.tick(clock.seconds)
    [_, returned] = [each.notification for each in store.pending_deliveries() if each.channel == "log"]
    assert returned.event == "returned"
    assert returned.key == store.transitions()[-1].key
    assert returned.at == clock.wall()


def test_return_that_is_told_after_the_alarm_has_ended_still_names_it(store: AlarmStore, clock: Clock) -> None:
    rule = NOW_RULE.model_copy(update={"cooldown_seconds": 60})
    observe(store, clock, 0.9, rule)
    alarm = store.acknowledge(store.alarms()[0].id, "eva")
    observe(store, clock, 0.1, rule)
    assert store.sources()[0].alarm_id is None
    clock.forward(60)
    store.tick(clock.seconds)
    returned = store.pending_deliveries()[-1].notification
    assert (returned.event, returned.alarm.id, returned.alarm.phase) == ("returned", alarm.id, Phase.NORMAL)
    assert returned.key == store.transitions()[-1].key


def test_alarm_nobody_acknowledges_is_told_again_with_the_key_of_its_reminder(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9, NOW_RULE.model_copy(update={"repeat_interval_seconds": 600}))
    clock.forward(600)
    [reminded] = store.tick(clock.seconds)
    reminder = store.pending_deliveries()[-1].notification
    assert reminded.change is Change.REMINDED
    assert (reminder.event, reminder.key) == ("reminder", reminded.key)


def test_chatter_is_said_in_the_message(store: AlarmStore, clock: Clock) -> None:
    rule = NOW_RULE.model_copy(update={"repeat_interval_seconds": 600})
    for anomaly in (0.9, 0.1, 0.9, 0.1, 0.9):
        clock.forward(1)
        observe(store, clock, anomaly, rule)
    assert Change.CHATTERING in [each.change for each in store.transitions()]
    while not store.pending_deliveries()[-1].notification.chattering:
        clock.forward(1)
        observe(store, clock, 0.9 if clock.seconds % 2 else 0.1, rule)
        assert clock.seconds < 3000
    clock.forward(60)
    assert Change.CALMED in [each.change for each in store.tick(clock.seconds)]


def test_store_that_has_a_name_puts_it_on_its_alarms_and_may_be_renamed(url: str, clock: Clock) -> None:
    with AlarmStore(url, origin="worker-1", wall_clock=clock.wall) as store:
        observe(store, clock, 0.9)
        assert store.alarms()[0].origin == store.transitions()[0].origin == store.sources()[0].origin == "worker-1"
        assert store.pending_deliveries()[0].notification.alarm.origin == "worker-1"
    with AlarmStore(url, origin="north", wall_clock=clock.wall) as renamed:
        alarm = renamed.acknowledge(renamed.alarms()[0].id, "eva")
    assert (alarm.origin, alarm.phase) == ("north", Phase.ACKNOWLEDGED)


def test_channels_may_depend_on_the_alarm(url: str, clock: Clock) -> None:
    with AlarmStore(url, lambda alarm: ("log",) if alarm.priority == "low" else ("log", "sms")) as store:
        observe(store, clock, 0.9, NOW_RULE.model_copy(update={"priority": "low"}), source="a")
        observe(store, clock, 0.9, source="b")
        told_on = [(each.notification.alarm.source, each.channel) for each in store.pending_deliveries()]
    assert told_on == [("a", "log"), ("b", "log"), ("b", "sms")]


def test_alarm_about_a_channel_is_told_on_the_others_only(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9, source="channel/mail")
    assert [each.channel for each in store.pending_deliveries()] == ["log"]


def test_message_is_overdue_from_when_it_was_written(store: AlarmStore, clock: Clock) -> None:
    assert store.overdue(clock.seconds) == 0.0
    observe(store, clock, 0.9)
    assert store.overdue(clock.seconds + 90) == 90.0
    assert store.dead_deliveries() == []


happenings = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 2.0, 9.0]), st.sampled_from([0.1, 0.9, 0.8, None, "acknowledge", "tick", "restart"])
    ),
    max_size=25,
)


@given(happenings=happenings)
@settings(max_examples=25)
def test_every_raise_in_the_log_has_its_alarm_and_at_most_one_message(
    happenings: list[tuple[float, float | str | None]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    clock, rule = Clock(), Rule(on_delay_seconds=0.5, off_delay_seconds=0.5, cooldown_seconds=5)
    url = f"sqlite:///{tmp_path_factory.mktemp('alarms') / 'alarms.db'}"
    store = AlarmStore(url, wall_clock=clock.wall)
    for pause, what in happenings:
        clock.forward(pause)
        if what == "restart":
            store.close()
            store = AlarmStore(url, wall_clock=clock.wall)
        elif what == "acknowledge":
            for alarm in store.alarms(limit=1):
                store.acknowledge(alarm.id, "eva")
        elif what == "tick":
            store.tick(clock.seconds)
        else:
            assert what is None or isinstance(what, float)
            observe(store, clock, what, rule)
    raises = [t for t in store.transitions() if t.raised]
    alarms = {alarm.id: alarm for alarm in store.alarms()}
    messages = [d.notification for d in store.pending_deliveries()]
    store.close()
    assert {t.alarm_id for t in raises} == set(alarms)
    assert len({m.key for m in messages}) == len(messages)
    assert {m.key for m in messages if m.event == "raised"} <= {t.key for t in raises}
    standing = [a for a in alarms.values() if a.phase is not Phase.NORMAL]
    assert len(standing) <= 1
    assert all(a.acknowledged_at is not None for a in alarms.values() if a not in standing)
