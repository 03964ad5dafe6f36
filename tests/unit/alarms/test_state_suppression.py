"""The alarm state machine: shelving, out of service, latching, stale input, k of n."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from almenara.alarms.rule import Rule
from almenara.alarms.state import (
    Acknowledgement,
    Event,
    Move,
    Notify,
    Removal,
    Reset,
    ServiceReturn,
    Shelving,
    Tick,
    Unshelving,
)
from almenara.alarms.vocabulary import Change, Phase
from tests.support.alarm_source import RULE, Source, moves, told

ACK = Acknowledgement()
TICK = Tick()
LATCHING = RULE.model_copy(update={"latch": True})
STALE = RULE.model_copy(update={"stale_after_seconds": 30.0})
TWO_OF_THREE = Rule(threshold=0.5, deadband=0.1, k=2, n=3, on_delay_seconds=0, off_delay_seconds=0)


def latched() -> Source:
    """Raised and told at 2 s, acknowledged at 3 s, returned and latched at 9 s."""
    source = Source(LATCHING).raised()
    source.at(3, ACK)
    source.at(4, 0.1)
    assert source.at(9, 0.1) == (Move(Change.RETURNED, Phase.ACKNOWLEDGED, Phase.LATCHED),)
    return source


def test_shelved_source_is_judged_and_nobody_is_told() -> None:
    source = Source()
    assert source.at(0, Shelving(100)) == (Move(Change.SHELVED, Phase.NORMAL, Phase.SHELVED),)
    source.at(1, 0.9)
    assert source.at(3, 0.9) == (Move(Change.RAISED, Phase.PENDING, Phase.UNACKNOWLEDGED),)
    assert source.state.visible is Phase.SHELVED


def test_shelving_ends_at_its_time_and_what_still_holds_is_told() -> None:
    source = Source()
    source.at(0, Shelving(100))
    source.at(1, 0.9)
    source.at(3, 0.9)
    assert source.state.due == 100
    assert source.at(99, TICK) == ()
    assert source.at(100, TICK) == (Move(Change.UNSHELVED, Phase.SHELVED, Phase.UNACKNOWLEDGED), Notify("raised"))


def test_alarm_that_came_and_went_while_shelved_is_told_as_unacknowledged() -> None:
    source = Source()
    source.at(0, Shelving(100))
    for now, anomaly in ((1, 0.9), (3, 0.9), (4, 0.1), (9, 0.1)):
        source.at(now, anomaly)
    assert told(source.at(100, TICK)) == ["raised"]
    assert source.state.visible is Phase.RETURNED_UNACKNOWLEDGED


def test_unshelving_tells_at_once() -> None:
    source = Source()
    source.at(0, Shelving(100))
    source.at(1, 0.9)
    source.at(3, 0.9)
    assert told(source.at(4, Unshelving())) == ["raised"]
    assert source.at(5, Unshelving()) == ()


def test_shelving_again_moves_its_end() -> None:
    source = Source()
    source.at(0, Shelving(100))
    assert source.at(50, Shelving(50)) == (), "the same end"
    assert source.at(60, Shelving(100)) == (Move(Change.SHELVED, Phase.SHELVED, Phase.SHELVED),)
    assert source.at(100, TICK) == ()
    assert moves(source.at(160, TICK)) == [Change.UNSHELVED]


def test_shelving_that_is_over_already_changes_nothing() -> None:
    source = Source()
    assert source.at(0, Shelving(-5)) == ()
    assert source.state.visible is Phase.NORMAL


def test_reminder_waits_for_the_end_of_the_shelving() -> None:
    source = Source(RULE.model_copy(update={"repeat_interval_seconds": 600.0})).raised()
    source.at(10, Shelving(5000))
    assert source.at(602, TICK) == ()
    assert told(source.at(5010, TICK)) == ["reminder"]


def test_readings_out_of_service_change_nothing() -> None:
    source = Source()
    assert source.at(0, Removal()) == (Move(Change.REMOVED_FROM_SERVICE, Phase.NORMAL, Phase.OUT_OF_SERVICE),)
    before = source.state
    for event in (0.9, None, 0.9, Removal()):
        assert source.at(100, event) == ()
    assert source.state == before


def test_alarm_out_of_service_is_told_after_the_return_to_service() -> None:
    source = Source(quiet_until=50).raised()
    source.at(10, Removal())
    assert source.state.due is None
    assert source.at(100, TICK) == ()
    effects = source.at(200, ServiceReturn())
    assert effects == (Move(Change.RETURNED_TO_SERVICE, Phase.OUT_OF_SERVICE, Phase.UNKNOWN), Notify("raised"))
    assert source.at(201, ServiceReturn()) == ()


def test_alarm_out_of_service_can_be_acknowledged() -> None:
    source = Source().raised()
    source.at(10, Removal())
    assert moves(source.at(11, ACK)) == [Change.ACKNOWLEDGED]


@pytest.mark.parametrize(("anomaly", "phase"), [(0.1, Phase.NORMAL), (0.9, Phase.PENDING)])
def test_source_is_unknown_after_its_return_to_service_until_it_is_read(anomaly: float, phase: Phase) -> None:
    source = Source()
    source.at(0, Removal())
    source.at(1, ServiceReturn())
    assert source.state.visible is Phase.UNKNOWN
    source.at(2, anomaly)
    assert source.state.visible is phase


def test_on_delay_starts_again_after_out_of_service() -> None:
    source = Source()
    source.at(0, 0.9)
    source.at(1, Removal())
    source.at(1.5, ServiceReturn())
    assert moves(source.at(2, 0.9)) == [Change.REGAINED, Change.PENDING]
    assert source.at(3.9, 0.9) == ()
    assert moves(source.at(4, 0.9)) == [Change.RAISED]


def test_off_delay_starts_again_after_out_of_service() -> None:
    source = Source().raised()
    source.at(3, 0.1)
    source.at(4, Removal())
    source.at(20, ServiceReturn())
    source.at(21, 0.1)
    assert source.at(25.9, 0.1) == ()
    assert moves(source.at(26, 0.1)) == [Change.RETURNED]


def test_shelving_runs_on_out_of_service() -> None:
    source = Source()
    source.at(0, Shelving(100))
    source.at(1, Removal())
    assert source.state.due == 100
    assert source.at(100, TICK) == (Move(Change.UNSHELVED, Phase.OUT_OF_SERVICE, Phase.OUT_OF_SERVICE),)


def test_latched_alarm_stands_until_it_is_reset() -> None:
    source = latched()
    for event in (0.1, ACK, TICK, None, 0.1):
        source.at(5000, event)
    assert source.state.visible is Phase.LATCHED
    assert source.at(6000, Reset()) == (Move(Change.RESET, Phase.LATCHED, Phase.NORMAL),)


def test_alarm_that_returned_first_is_latched_by_its_acknowledgement() -> None:
    source = Source(LATCHING).returned()
    assert source.at(9, ACK) == (Move(Change.ACKNOWLEDGED, Phase.RETURNED_UNACKNOWLEDGED, Phase.LATCHED),)


def test_latched_alarm_that_comes_again_is_the_same_alarm() -> None:
    source = latched()
    source.at(62, TICK)
    source.at(122, 0.9)
    assert source.state.visible is Phase.LATCHED
    assert source.at(124, 0.9) == (
        Move(Change.RAISED_AGAIN, Phase.LATCHED, Phase.UNACKNOWLEDGED),
        Notify("raised"),
    )


def test_resetting_keeps_the_on_delay_that_runs() -> None:
    source = latched()
    source.at(10, 0.9)
    assert moves(source.at(11, Reset())) == [Change.RESET, Change.PENDING]
    assert moves(source.at(12, 0.9)) == [Change.RAISED]


@pytest.mark.parametrize("event", [0.1, 0.9, ACK])
def test_only_a_latched_alarm_can_be_reset(event: float | Event) -> None:
    source = Source(LATCHING).raised()
    source.at(3, event)
    assert source.at(4, Reset()) == ()


def test_source_without_readings_is_unknown_at_the_tick() -> None:
    source = Source(STALE)
    source.at(0, 0.1)
    assert source.state.due == 30
    assert source.at(29, TICK) == ()
    assert source.at(30, TICK) == (Move(Change.LOST, Phase.NORMAL, Phase.UNKNOWN),)
    assert source.state.due is None


def test_reading_after_a_gap_finds_the_source_unknown_without_a_tick() -> None:
    source = Source(STALE)
    source.at(0, 0.1)
    assert moves(source.at(40, 0.1)) == [Change.LOST, Change.REGAINED]


@pytest.mark.parametrize("ticked", [False, True])
def test_gap_restarts_the_off_delay_with_or_without_a_tick(ticked: bool) -> None:
    source = Source(STALE).raised()
    source.at(3, 0.1)
    if ticked:
        source.at(33, TICK)
    source.at(40, 0.1)
    assert source.at(44.9, 0.1) == ()
    assert Change.RETURNED in moves(source.at(45, 0.1))


@pytest.mark.parametrize("ticked", [False, True])
def test_gap_longer_than_the_on_delay_cancels_it_with_or_without_a_tick(ticked: bool) -> None:
    source = Source(STALE)
    source.at(0, 0.9)
    if ticked:
        source.at(30, TICK)
    source.at(40, 0.9)
    assert source.state.visible is Phase.PENDING
    assert moves(source.at(42, 0.9)) == [Change.RAISED]


def test_source_out_of_service_does_not_become_stale() -> None:
    source = Source(STALE)
    source.at(0, 0.1)
    source.at(1, Removal())
    assert source.state.due is None
    assert source.at(100, TICK) == ()


def test_gap_without_a_limit_is_no_loss_of_sight() -> None:
    source = Source().raised()
    source.at(3, 0.1)
    assert moves(source.at(5000, 0.1)) == [Change.RETURNED]


def test_reading_that_comes_late_does_not_make_the_source_look_older() -> None:
    source = Source(STALE)
    source.at(10, 0.1)
    source.at(9, 0.1)
    assert source.state.seen_at == 10


def test_k_of_the_last_n_readings_make_the_source_abnormal() -> None:
    source = Source(TWO_OF_THREE)
    assert source.at(0, 0.9) == ()
    assert source.at(1, 0.1) == ()
    assert moves(source.at(2, 0.9)) == [Change.RAISED]


def test_readings_older_than_the_last_n_do_not_count() -> None:
    source = Source(TWO_OF_THREE)
    for now, anomaly in enumerate([0.9, 0.1, 0.1, 0.9]):
        assert source.at(now, anomaly) == ()


def test_k_of_the_last_n_readings_make_the_source_normal() -> None:
    source = Source(TWO_OF_THREE)
    for now, anomaly in enumerate([0.9, 0.9, 0.1, 0.45]):
        source.at(now, anomaly)
    assert source.state.visible is Phase.UNACKNOWLEDGED
    assert moves(source.at(4, 0.1)) == [Change.RETURNED]


def test_source_that_counts_as_both_is_abnormal() -> None:
    source = Source(Rule(k=1, n=2, on_delay_seconds=0, off_delay_seconds=0))
    source.at(0, 0.9)
    assert source.at(1, 0.1) == (), "one of two above, one of two below"
    assert moves(source.at(2, 0.1)) == [Change.RETURNED]
    assert moves(source.at(3, 0.9)) == [Change.RAISED_AGAIN]


def test_readings_before_sight_was_lost_do_not_count_after_it() -> None:
    source = Source(TWO_OF_THREE)
    source.at(0, 0.9)
    source.at(1, None)
    assert moves(source.at(2, 0.9)) == [Change.REGAINED]
    assert moves(source.at(3, 0.9)) == [Change.RAISED]


def test_readings_before_out_of_service_do_not_count_after_it() -> None:
    source = Source(TWO_OF_THREE)
    source.at(0, 0.9)
    source.at(1, Removal())
    source.at(2, ServiceReturn())
    assert moves(source.at(3, 0.9)) == [Change.REGAINED]


def test_rule_that_wants_more_readings_than_it_looks_at_is_refused() -> None:
    with pytest.raises(ValidationError, match="could never be raised"):
        Rule(k=3, n=2)
