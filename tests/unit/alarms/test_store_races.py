"""Rivals for one source of the alarm store: whoever loses the swap loads again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from almenara.alarms import AlarmStore, Change, EvidenceFile, Phase, Silence, Transition
from tests.support.alarms import NOW_RULE, Clock, evidence_file, observation, observe, told


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


def test_loser_of_a_race_reloads_and_raises_no_second_alarm(store: AlarmStore, url: str, clock: Clock) -> None:
    with AlarmStore(url, wall_clock=clock.wall) as rival:

        def while_saving() -> tuple[EvidenceFile, ...]:
            assert observe(rival, clock, 0.95)[-1] is Change.RAISED
            return (evidence_file("late.jpg"),)

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

        def while_saving() -> tuple[EvidenceFile, ...]:
            saves.append("frame.jpg")
            observe(rival, clock, 0.1)
            return (evidence_file(),)

        transitions = store.observe(observation(0.9), NOW_RULE, now=clock.seconds, evidence=while_saving)
    assert [t.change for t in transitions] == [Change.RAISED]
    assert saves == ["frame.jpg"], "evidence is saved once, however often the swap is lost"
    assert store.alarms()[0].evidence == (evidence_file("frame.jpg"),)


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


def test_alarm_that_is_raised_while_its_silence_is_ended_is_told_at_once(store: AlarmStore, clock: Clock) -> None:
    observe(store, clock, 0.1)
    until = clock.wall() + timedelta(hours=8)
    silence = store.silence(Silence(sources="*", starts_at=clock.wall(), ends_at=until, user="eva"))
    clock.forward(60)

    def while_saving() -> tuple[EvidenceFile, ...]:
        store.end_silence(silence.id, "eva")
        return ()

    store.observe(observation(0.9), NOW_RULE, now=clock.seconds, evidence=while_saving)
    assert told(store) == ["raised"]
