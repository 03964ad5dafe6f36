"""The alarm state machine: readings, deadband, delays, acknowledgement and unknown."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from almenara.alarms.rule import Rule
from almenara.alarms.state import Acknowledgement, Move, Notify, State, resume
from almenara.alarms.vocabulary import Change, Phase
from tests.support.alarm_source import Source, moves, told

ACK = Acknowledgement()


def test_normal_readings_change_nothing() -> None:
    source = Source()
    assert source.at(0, 0.1) == ()
    assert source.state == State(seen_at=0)


def test_reading_at_the_threshold_starts_the_on_delay_and_tells_nobody() -> None:
    source = Source()
    effects = source.at(0, 0.5)
    assert moves(effects) == [Change.PENDING]
    assert told(effects) == []
    assert source.state.visible is Phase.PENDING


def test_anomaly_that_lasts_for_the_on_delay_is_raised_and_told() -> None:
    source = Source()
    source.at(0, 0.9)
    assert source.at(1.9, 0.8) == ()
    effects = source.at(2.0, 0.7)
    assert effects == (
        Move(Change.RAISED, Phase.PENDING, Phase.UNACKNOWLEDGED),
        Notify("raised"),
    )
    assert source.state.peak == 0.9


def test_without_on_delay_the_first_reading_raises() -> None:
    source = Source(Rule(on_delay_seconds=0))
    assert moves(source.at(0, 0.9)) == [Change.RAISED]


def test_anomaly_shorter_than_the_on_delay_is_cancelled() -> None:
    source = Source()
    source.at(0, 0.9)
    assert moves(source.at(1, 0.1)) == [Change.CANCELLED]
    source.at(1.5, 0.9)
    assert source.at(3, 0.9) == (), "the on-delay begins again"


def test_reading_in_the_deadband_keeps_the_on_delay_but_does_not_raise() -> None:
    source = Source()
    source.at(0, 0.9)
    assert source.at(2.5, 0.45) == ()
    assert moves(source.at(3, 0.5)) == [Change.RAISED]


def test_reading_in_the_deadband_starts_nothing() -> None:
    source = Source()
    assert source.at(0, 0.45) == ()
    assert source.state.visible is Phase.NORMAL


def test_alarm_returns_after_the_off_delay() -> None:
    source = Source().raised()
    assert source.at(3, 0.1) == ()
    assert source.at(7.9, 0.1) == ()
    assert source.at(8, 0.1) == (Move(Change.RETURNED, Phase.UNACKNOWLEDGED, Phase.RETURNED_UNACKNOWLEDGED),)


def test_reading_above_restarts_the_off_delay() -> None:
    source = Source().raised()
    source.at(3, 0.1)
    source.at(5, 0.6)
    source.at(6, 0.1)
    assert source.at(10, 0.1) == ()
    assert moves(source.at(11, 0.1)) == [Change.RETURNED]


def test_reading_in_the_deadband_neither_restarts_nor_ends_the_off_delay() -> None:
    source = Source().raised()
    source.at(3, 0.1)
    assert source.at(9, 0.45) == ()
    assert moves(source.at(9.1, 0.1)) == [Change.RETURNED]


def test_reading_in_the_deadband_does_not_start_the_off_delay() -> None:
    source = Source().raised()
    source.at(3, 0.45)
    assert source.at(9, 0.1) == ()


def test_peak_follows_the_highest_reading_of_the_episode() -> None:
    source = Source().raised()
    source.at(3, 0.97)
    source.at(4, 0.6)
    assert source.state.peak == 0.97


def test_new_episode_has_its_own_peak() -> None:
    source = Source()
    source.at(0, 0.99)
    source.at(1, 0.1)
    source.at(2, 0.6)
    source.at(4, 0.6)
    assert source.state.peak == 0.6


def test_acknowledged_alarm_stays_active_until_it_returns() -> None:
    source = Source().raised()
    assert source.at(3, ACK) == (Move(Change.ACKNOWLEDGED, Phase.UNACKNOWLEDGED, Phase.ACKNOWLEDGED),)
    source.at(4, 0.1)
    assert source.at(9, 0.1) == (Move(Change.RETURNED, Phase.ACKNOWLEDGED, Phase.NORMAL),)


def test_acknowledging_a_returned_alarm_ends_it() -> None:
    source = Source().returned()
    assert source.at(9, ACK) == (Move(Change.ACKNOWLEDGED, Phase.RETURNED_UNACKNOWLEDGED, Phase.NORMAL),)


def test_acknowledging_a_returned_alarm_keeps_the_on_delay_that_runs() -> None:
    source = Source().returned()
    source.at(9, 0.9)
    assert source.at(10, ACK) == (
        Move(Change.ACKNOWLEDGED, Phase.RETURNED_UNACKNOWLEDGED, Phase.NORMAL),
        Move(Change.PENDING, Phase.NORMAL, Phase.PENDING),
    )
    assert moves(source.at(11, 0.9)) == [Change.RAISED]


@pytest.mark.parametrize("anomaly", [0.1, 0.9, None])
def test_acknowledging_without_an_alarm_does_nothing(anomaly: float | None) -> None:
    source = Source()
    source.at(0, anomaly)
    before = source.state
    assert source.at(1, ACK) == ()
    assert source.state == before


def test_unacknowledged_alarm_that_comes_again_is_the_same_alarm() -> None:
    source = Source().returned()
    source.at(62, 0.1)
    source.at(122, 0.9)
    assert source.at(124, 0.9) == (
        Move(Change.RAISED_AGAIN, Phase.RETURNED_UNACKNOWLEDGED, Phase.UNACKNOWLEDGED),
        Notify("raised"),
    )


def test_spike_on_a_returned_alarm_does_not_raise_it_again() -> None:
    source = Source().returned()
    source.at(9, 0.9)
    source.at(10, 0.1)
    assert source.at(11.5, 0.9) == ()


def test_nothing_scored_is_unknown_once() -> None:
    source = Source()
    assert source.at(0, None) == (Move(Change.LOST, Phase.NORMAL, Phase.UNKNOWN),)
    assert source.at(1, None) == ()
    assert source.at(2, 0.1) == (Move(Change.REGAINED, Phase.UNKNOWN, Phase.NORMAL),)


def test_unknown_keeps_the_alarm_however_long_it_lasts() -> None:
    source = Source().raised()
    source.at(3, None)
    assert (source.state.visible, source.state.phase) == (Phase.UNKNOWN, Phase.UNACKNOWLEDGED)
    assert moves(source.at(10_000, 0.1)) == [Change.REGAINED]
    assert source.state.visible == Phase.UNACKNOWLEDGED


def test_off_delay_starts_again_after_unknown() -> None:
    source = Source().raised()
    source.at(3, 0.1)
    source.at(4, None)
    source.at(7, 0.1)
    assert source.at(11.9, 0.1) == ()
    assert moves(source.at(12, 0.1)) == [Change.RETURNED]


def test_on_delay_pauses_while_unknown() -> None:
    source = Source()
    source.at(0, 0.9)
    source.at(1, None)
    source.at(2.5, 0.9)
    assert source.at(3.4, 0.9) == ()
    assert moves(source.at(3.5, 0.9)) == [Change.RAISED]


def test_on_delay_is_cancelled_by_a_long_unknown() -> None:
    source = Source()
    source.at(0, 0.9)
    source.at(1.9, None)
    assert moves(source.at(600, 0.9)) == [Change.REGAINED, Change.PENDING]


def test_long_unknown_cancels_the_second_on_delay_of_a_returned_alarm() -> None:
    source = Source().returned()
    source.at(9, 0.9)
    source.at(10, None)
    source.at(600, 0.45)
    assert source.state.since is None
    assert source.state.visible is Phase.RETURNED_UNACKNOWLEDGED


def test_alarm_can_be_acknowledged_while_unknown() -> None:
    source = Source().raised()
    source.at(3, None)
    assert moves(source.at(4, ACK)) == [Change.ACKNOWLEDGED]
    assert (source.state.visible, source.state.phase) == (Phase.UNKNOWN, Phase.ACKNOWLEDGED)
    assert moves(source.at(5, 0.9)) == [Change.REGAINED]


def test_resuming_leaves_no_time_in_the_future_but_planned_ones() -> None:
    state = State(
        phase=Phase.ACKNOWLEDGED,
        since=40,
        blind_since=90,
        seen_at=95,
        raises=(5, 70),
        told_at=80,
        shelved_until=200,
        due=200,
    )
    assert resume(state, 10) == replace(state, since=10, blind_since=10, seen_at=10, raises=(5, 10), told_at=10)


def test_resuming_lets_a_delay_run_on() -> None:
    source = Source()
    source.at(0, 0.9)
    source.state = resume(source.state, 1.5)
    assert moves(source.at(2, 0.9)) == [Change.RAISED]


def test_rule_whose_alarm_could_never_return_is_refused() -> None:
    with pytest.raises(ValidationError, match="could never return"):
        Rule(threshold=0.1, deadband=0.1)
