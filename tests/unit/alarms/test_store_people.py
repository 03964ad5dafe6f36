"""What people do to alarms and sources of a store: acknowledge, reset, shelve, silence, take out of service."""

from __future__ import annotations

from datetime import timedelta

import pytest

from almenara.alarms import AlarmStore, Change, Phase, Silence
from almenara.errors import InputError
from tests.support.alarms import NOW_RULE, Clock, evidence_file, observe, told

LATCHING = NOW_RULE.model_copy(update={"latch": True})


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


def test_unknown_alarm_cannot_be_acknowledged(store: AlarmStore) -> None:
    with pytest.raises(InputError, match="no alarm 17") as caught:
        store.acknowledge("17", "eva")
    assert caught.value.code == "alarm-unknown"


def test_acknowledgement_needs_a_user(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9)
    with pytest.raises(InputError, match="give a name"):
        store.acknowledge(store.alarms()[0].id, "  ")


def test_verdict_is_kept_on_the_alarm(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9)
    assert store.acknowledge(store.alarms()[0].id, "eva", verdict="false_alarm").verdict == "false_alarm"
    assert store.alarms()[0].verdict == "false_alarm"


def test_verdict_may_come_after_the_acknowledgement_and_is_logged(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9)
    first = store.acknowledge(store.alarms()[0].id, "eva")
    observe(store, clock, 0.1)
    later = store.acknowledge(first.id, "juan", "a reflection", "false_alarm")
    assert (later.verdict, later.acknowledged_by, later.phase) == ("false_alarm", "eva", Phase.NORMAL)
    last = store.transitions()[-1]
    assert (last.change, last.user, last.reason) == (Change.ACKNOWLEDGED, "juan", "a reflection")
    assert later.revision > first.revision


def test_same_verdict_again_is_not_logged(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9)
    alarm = store.acknowledge(store.alarms()[0].id, "eva", verdict="true_alarm")
    assert store.acknowledge(alarm.id, "eva", verdict="true_alarm") == alarm
    assert len(store.history(alarm.id)) == 2


def test_alarm_that_is_raised_again_has_neither_acknowledgement_nor_verdict(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9, LATCHING)
    store.acknowledge(store.alarms()[0].id, "eva", "seen", "true_alarm")
    observe(store, clock, 0.1, LATCHING)
    assert observe(store, clock, 0.9, LATCHING) == [Change.RAISED_AGAIN]
    [alarm] = store.alarms()
    assert (alarm.acknowledged_at, alarm.acknowledged_by, alarm.comment, alarm.verdict) == (None, None, "", None)


def test_latched_alarm_stands_until_it_is_reset(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9, LATCHING)
    store.acknowledge(store.alarms()[0].id, "eva")
    observe(store, clock, 0.1, LATCHING)
    assert store.alarms()[0].phase is Phase.LATCHED
    alarm = store.reset(store.alarms()[0].id, "eva", "cleaned")
    assert (alarm.phase, store.phase("outflow-1")) == (Phase.NORMAL, Phase.NORMAL)
    last = store.transitions()[-1]
    assert (last.change, last.user, last.reason) == (Change.RESET, "eva", "cleaned")
    assert store.reset(alarm.id, "juan") == alarm


def test_alarm_that_is_not_latched_cannot_be_reset(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9)
    with pytest.raises(InputError, match="is unacknowledged: only a latched one") as caught:
        store.reset(store.alarms()[0].id, "eva")
    assert caught.value.code == "alarm-not-latched"


def test_shelved_source_raises_its_alarm_and_tells_it_when_the_time_is_over(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.1)
    assert store.shelve("outflow-1", "eva", 600, "welding") is Phase.SHELVED
    assert observe(store, clock, 0.9) == [Change.RAISED]
    [status] = store.sources()
    assert (status.phase, status.shelved_until) == (Phase.SHELVED, clock.wall() + timedelta(seconds=600))
    assert told(store) == []
    clock.forward(600)
    [unshelved] = store.tick(clock.seconds)
    assert (unshelved.change, unshelved.user) == (Change.UNSHELVED, None)
    assert told(store) == ["raised"]


def test_shelving_says_who_and_why(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.1)
    store.shelve("outflow-1", "eva", 600, "welding")
    shelved = store.transitions()[-1]
    assert (shelved.change, shelved.user, shelved.reason) == (Change.SHELVED, "eva", "welding")


def test_unshelving_tells_what_still_stands(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.1)
    store.shelve("outflow-1", "eva", 600)
    observe(store, clock, 0.9)
    assert store.unshelve("outflow-1", "eva") is Phase.UNACKNOWLEDGED
    assert told(store) == ["raised"]


def test_source_out_of_service_is_not_judged(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.1)
    assert store.remove_from_service("outflow-1", "eva") is Phase.OUT_OF_SERVICE
    assert observe(store, clock, 0.9) == []
    assert store.return_to_service("outflow-1", "eva") is Phase.UNKNOWN
    assert observe(store, clock, 0.9) == [Change.REGAINED, Change.RAISED]


@pytest.mark.parametrize("act", ["unshelve", "remove_from_service", "return_to_service"])
def test_source_that_is_not_known_cannot_be_managed(store: AlarmStore, act: str) -> None:
    with pytest.raises(InputError, match="no source pump-9") as caught:
        getattr(store, act)("pump-9", "eva")
    assert caught.value.code == "source-unknown"


def test_a_source_that_is_not_known_is_told_those_that_are(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.1)
    with pytest.raises(InputError, match=r"whole name of one source, no pattern, such as outflow-1\."):
        store.shelve("outflow-*", "eva", 3600)


def test_shelving_needs_a_time(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.1)
    with pytest.raises(InputError, match="-1 s shelves nothing"):
        store.shelve("outflow-1", "eva", -1)


def test_revised_evidence_is_logged_and_told_nobody(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.9)
    before = store.alarms()[0]
    alarm = store.revise_evidence(before.id, (evidence_file("strip.jpg"),))
    assert alarm.evidence == (evidence_file("strip.jpg"),)
    assert alarm.revision == before.revision + 1
    assert store.transitions()[-1].change is Change.EVIDENCE
    assert told(store) == ["raised"]
    observe(store, clock, 0.95)
    assert store.alarms()[0].evidence == alarm.evidence


def silence(clock: Clock, sources: str = "*", starts: float = 0, seconds: float = 600) -> Silence:
    begin = clock.wall() + timedelta(seconds=starts)
    return Silence(sources=sources, starts_at=begin, ends_at=begin + timedelta(seconds=seconds), user="eva")


def test_silenced_source_is_told_when_the_silence_is_over(store: AlarmStore, clock: Clock) -> None:
    store.silence(silence(clock, "outflow-*"))
    observe(store, clock, 0.9)
    observe(store, clock, 0.9, source="pump-1")
    assert [each.notification.alarm.source for each in store.pending_deliveries()] == ["pump-1"] * 2
    clock.forward(600)
    store.tick(clock.seconds)
    assert store.pending_deliveries()[-1].notification.alarm.source == "outflow-1"


def test_silence_that_is_ended_early_lets_its_sources_be_told_at_once(store: AlarmStore, clock: Clock) -> None:
    kept = store.silence(silence(clock))
    observe(store, clock, 0.9)
    clock.forward(10)
    ended = store.end_silence(kept.id, "juan")
    assert (ended.ended_by, ended.ends_at) == ("juan", clock.wall())
    store.tick(clock.seconds)
    assert told(store) == ["raised"]
    assert store.end_silence(kept.id, "eva") == ended


def test_of_several_silences_the_one_that_ends_last_counts(store: AlarmStore, clock: Clock) -> None:
    store.silence(silence(clock, seconds=600))
    store.silence(silence(clock, "out*", seconds=60))
    observe(store, clock, 0.9)
    clock.forward(60)
    store.tick(clock.seconds)
    assert told(store) == []


def test_silences_are_listed_while_they_are_in_force_or_to_come(store: AlarmStore, clock: Clock) -> None:
    now, later = store.silence(silence(clock)), store.silence(silence(clock, starts=3600))
    assert store.silences() == [now, later]
    assert store.silences(clock.wall()) == [now]
    clock.forward(600)
    assert store.silences() == [later]


def test_silences_may_be_replaced_by_those_of_the_record(store: AlarmStore, clock: Clock) -> None:
    store.silence(silence(clock))
    observe(store, clock, 0.9)
    copy = silence(clock, "pump-*").model_copy(update={"id": "1"})
    store.replace_silences([copy])
    assert store.silences() == [copy]
    store.tick(clock.seconds)
    assert told(store) == ["raised"]
    store.replace_silences([])
    assert store.silences() == []


def test_silence_that_silences_nothing_is_refused(store: AlarmStore, clock: Clock) -> None:
    with pytest.raises(InputError, match="silences nothing") as caught:
        store.silence(silence(clock, seconds=0))
    assert caught.value.code == "silence-empty"


def test_silence_that_is_not_known_cannot_be_ended(store: AlarmStore) -> None:
    with pytest.raises(InputError, match="no silence 7") as caught:
        store.end_silence("7", "eva")
    assert caught.value.code == "silence-unknown"
