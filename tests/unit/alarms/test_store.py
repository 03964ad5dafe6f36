"""The alarm store: what an observation commits, who may change it, and what a restart keeps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from almenara.alarms import AlarmStore, Change, Phase, Rule, Transition
from almenara.errors import InputError
from tests.support.alarms import MODEL, START, Clock, observation

NOW_RULE = Rule(on_delay_seconds=0, off_delay_seconds=0, cooldown_seconds=0)
SLOW_RULE = Rule(on_delay_seconds=2, off_delay_seconds=5, cooldown_seconds=60, priority="critical")


def observe(store: AlarmStore, clock: Clock, anomaly: float | None, rule: Rule = NOW_RULE) -> list[Change]:
    transitions = store.observe(observation(anomaly, at=clock.wall()), rule, now=clock.seconds)
    return [transition.change for transition in transitions]


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
        observation(0.8, at=clock.wall()), SLOW_RULE, now=clock.seconds, evidence=lambda: ("frame.jpg",)
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
    assert alarm.evidence == ("frame.jpg",)
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
    assert [d.notification.event for d in store.pending_deliveries() if d.channel == "log"] == [
        "raised",
        "returned",
    ]


def test_unacknowledged_alarm_that_comes_again_keeps_its_id(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9)
    [first] = store.alarms()
    observe(store, clock, 0.1)
    clock.forward(10)
    store.observe(observation(0.7, at=clock.wall()), NOW_RULE, now=clock.seconds, evidence=lambda: ("again.jpg",))
    [alarm] = store.alarms()
    assert alarm.id == first.id
    assert alarm.idempotency_key != first.idempotency_key
    assert alarm.raised_at == clock.wall()
    assert alarm.cleared_at is None
    assert alarm.evidence == ("again.jpg",)


def test_alarm_after_an_acknowledged_one_is_a_new_alarm(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9)
    store.acknowledge(store.alarms()[0].id, "eva")
    observe(store, clock, 0.1)
    clock.forward(1)
    observe(store, clock, 0.8)
    newest, oldest = store.alarms()
    assert newest.phase is Phase.UNACKNOWLEDGED
    assert oldest.phase is Phase.NORMAL


def test_acknowledgement_notes_who_when_and_why(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9)
    clock.forward(7)
    alarm = store.acknowledge(store.alarms()[0].id, " eva ", "pump checked")
    assert alarm == store.alarms()[0]
    assert alarm.phase is Phase.ACKNOWLEDGED
    assert (alarm.acknowledged_by, alarm.comment) == ("eva", "pump checked")
    assert alarm.acknowledged_at == clock.wall()
    last = store.transitions("outflow-1")[-1]
    assert (last.change, last.user, last.reason) == (Change.ACKNOWLEDGED, "eva", "pump checked")


def test_second_acknowledgement_changes_nothing(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9)
    first = store.acknowledge(store.alarms()[0].id, "eva")
    clock.forward(5)
    assert store.acknowledge(first.id, "juan") == first


def test_acknowledging_a_returned_alarm_closes_it(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9)
    observe(store, clock, 0.1)
    assert store.acknowledge(store.alarms()[0].id, "eva").phase is Phase.NORMAL
    assert store.phase("outflow-1") is Phase.NORMAL


def test_acknowledging_an_alarm_that_has_ended_leaves_the_next_one_alone(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9)
    first = store.acknowledge(store.alarms()[0].id, "eva")
    observe(store, clock, 0.1)
    clock.forward(1)
    observe(store, clock, 0.9)
    assert store.acknowledge(first.id, "juan").acknowledged_by == "eva"
    assert store.alarms()[0].phase is Phase.UNACKNOWLEDGED


def test_acknowledgement_that_loses_a_race_is_given_again(
    store: AlarmStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    observe(store, clock, 0.9)
    rivals: Iterator[Callable[[], object]] = iter([lambda: observe(store, clock, 0.95)])
    commit = store._commit

    def commit_after_a_rival(*arguments: Any) -> bool:
        for rival in rivals:
            rival()
        return commit(*arguments)

    monkeypatch.setattr(store, "_commit", commit_after_a_rival)
    alarm = store.acknowledge(store.alarms()[0].id, "eva")
    assert (alarm.phase, alarm.peak) == (Phase.ACKNOWLEDGED, 0.95)


def test_unknown_alarm_cannot_be_acknowledged(store: AlarmStore) -> None:
    with pytest.raises(InputError, match="no alarm 17") as caught:
        store.acknowledge("17", "eva")
    assert caught.value.code == "alarm-unknown"


def test_acknowledgement_needs_a_user(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9)
    with pytest.raises(InputError, match="name of who gives it"):
        store.acknowledge(store.alarms()[0].id, "  ")


def test_alarm_keeps_its_phase_while_its_source_is_unknown(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9)
    assert observe(store, clock, None) == [Change.LOST]
    assert store.phase("outflow-1") is Phase.UNKNOWN
    assert store.alarms()[0].phase is Phase.UNACKNOWLEDGED
    assert store.transitions()[-1].alarm_id == store.alarms()[0].id


def test_evidence_is_saved_only_by_the_observation_that_raises(store: AlarmStore, clock: Clock) -> None:
    calls: list[float] = []

    def save() -> tuple[str, ...]:
        calls.append(clock.seconds)
        return ()

    for anomaly in (0.1, 0.9, 0.9, 0.95, 0.1):
        store.observe(observation(anomaly), SLOW_RULE, now=clock.seconds, evidence=save)
        clock.forward(2)
    assert calls == [1004.0]


def test_alarm_goes_out_with_a_note_when_evidence_cannot_be_saved(store: AlarmStore, clock: Clock) -> None:
    def fail() -> tuple[str, ...]:
        raise OSError(28, "No space left on device")

    store.observe(observation(0.9), NOW_RULE, now=clock.seconds, evidence=fail)
    [alarm] = store.alarms()
    assert alarm.evidence == ()
    assert alarm.note == "Evidence could not be saved: OSError: [Errno 28] No space left on device"
    assert len(store.pending_deliveries()) == 2


def test_alarms_are_listed_newest_first_by_source_and_up_to_a_limit(store: AlarmStore, clock: Clock) -> None:
    for source in ("a", "b", "c"):
        store.observe(observation(0.9, source=source, at=clock.wall()), NOW_RULE, now=clock.seconds)
        clock.forward(1)
    assert [alarm.source for alarm in store.alarms()] == ["c", "b", "a"]
    assert [alarm.source for alarm in store.alarms(limit=2)] == ["c", "b"]
    assert [alarm.source for alarm in store.alarms(source="a")] == ["a"]


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


def test_restart_begins_a_pending_delay_again(store: AlarmStore, url: str, clock: Clock) -> None:
    observe(store, clock, 0.9, SLOW_RULE)
    clock.forward(600)
    later = Clock(seconds=5.0)  # another boot: the monotonic clock began anew
    with AlarmStore(url, wall_clock=clock.wall) as reopened:
        assert observe(reopened, later, 0.9, SLOW_RULE) == []
        later.forward(2)
        assert observe(reopened, later, 0.9, SLOW_RULE) == [Change.RAISED]


def test_restart_keeps_the_cooldown(store: AlarmStore, url: str, clock: Clock) -> None:
    rule = Rule(on_delay_seconds=0, off_delay_seconds=0, cooldown_seconds=60)
    observe(store, clock, 0.9, rule)
    observe(store, clock, 0.1, rule)
    clock.forward(20)
    later = Clock(seconds=5.0)
    with AlarmStore(url, wall_clock=clock.wall) as reopened:
        assert observe(reopened, later, 0.9, rule) == [Change.RAISED_AGAIN]
        held = reopened.pending_deliveries()[-1]
    assert held.attempts == 0
    assert held.next_at == clock.wall() + timedelta(seconds=40)


def test_loser_of_a_race_reloads_and_raises_no_second_alarm(store: AlarmStore, url: str, clock: Clock) -> None:
    with AlarmStore(url, wall_clock=clock.wall) as rival:

        def while_saving() -> tuple[str, ...]:
            assert observe(rival, clock, 0.95)[-1] is Change.RAISED
            return ("late.jpg",)

        observe(store, clock, 0.1)
        lost = store.observe(observation(0.9), NOW_RULE, now=clock.seconds, evidence=while_saving)
    assert lost == ()
    [alarm] = store.alarms()
    assert alarm.peak == 0.95
    assert len(store.pending_deliveries()) == 1  # the rival knows one channel


def test_loser_of_the_race_for_a_new_source_reloads_and_keeps_its_evidence(
    store: AlarmStore, url: str, clock: Clock
) -> None:
    saves: list[str] = []
    with AlarmStore(url, wall_clock=clock.wall) as rival:

        def while_saving() -> tuple[str, ...]:
            saves.append("frame.jpg")
            observe(rival, clock, 0.1)
            return tuple(saves)

        transitions = store.observe(observation(0.9), NOW_RULE, now=clock.seconds, evidence=while_saving)
    assert [t.change for t in transitions] == [Change.RAISED]
    assert saves == ["frame.jpg"], "evidence is saved once, however often the swap is lost"
    assert store.alarms()[0].evidence == ("frame.jpg",)


def test_threads_driving_one_source_raise_one_alarm(store: AlarmStore, clock: Clock) -> None:
    ready = threading.Barrier(8)

    def drive(_: int) -> tuple[Transition, ...]:
        ready.wait()
        return store.observe(observation(0.9), NOW_RULE, now=clock.seconds)

    with ThreadPoolExecutor(8) as pool:
        returned = [transition for found in pool.map(drive, range(8)) for transition in found]
    assert [t.change for t in returned if t.raised] == [Change.RAISED]
    assert len(store.alarms()) == 1
    assert len(store.pending_deliveries()) == 2
    assert sorted(t.key for t in returned) == sorted(t.key for t in store.transitions())


happenings = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 2.0, 9.0]), st.sampled_from([0.1, 0.9, 0.8, None, "acknowledge", "restart"])),
    max_size=25,
)


@given(happenings=happenings)
@settings(max_examples=25, deadline=None)
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
