"""The alarm state machine: what people are told, and when: cooldown, silences, reminders, chatter."""

from __future__ import annotations

import pytest

from almenara.alarms.rule import Rule
from almenara.alarms.state import Acknowledgement, Move, Notify, Tick
from almenara.alarms.vocabulary import Change, Phase
from tests.support.alarm_source import RULE, Source, moves, told

ACK = Acknowledgement()
TICK = Tick()
REPEATING = RULE.model_copy(update={"repeat_interval_seconds": 600.0})
BARE = Rule(threshold=0.5, deadband=0, on_delay_seconds=0, off_delay_seconds=0, cooldown_seconds=10)


def held_back() -> Source:
    """A first alarm told at 2 s, acknowledged and returned; a second raised at 12 s, held back until 62 s."""
    source = Source().raised()
    source.at(3, ACK)
    source.at(4, 0.1)
    source.at(9, 0.1)
    source.at(10, 0.9)
    assert source.at(12, 0.9) == (Move(Change.RAISED, Phase.PENDING, Phase.UNACKNOWLEDGED),)
    return source


def chattering(rule: Rule = BARE) -> Source:
    """Raised at 0, 2 and 4 s, the first of them told; active."""
    source = Source(rule)
    for now, anomaly in enumerate([0.9, 0.1, 0.9, 0.1]):
        source.at(now, anomaly)
    assert moves(source.at(4, 0.9)) == [Change.RAISED_AGAIN, Change.CHATTERING]
    return source


def test_return_of_an_alarm_that_was_told_is_told_when_the_cooldown_has_passed() -> None:
    source = Source().returned()
    assert source.state.due == 62
    assert source.at(61.9, TICK) == ()
    assert source.at(62, TICK) == (Notify("returned"),)
    assert source.state.due is None


def test_new_alarm_within_the_cooldown_is_told_when_it_ends() -> None:
    source = held_back()
    assert source.state.due == 62
    assert source.at(61, 0.9) == ()
    assert source.at(62, TICK) == (Notify("raised"),)
    assert source.at(63, TICK) == ()


def test_reading_tells_what_is_due_as_a_tick_does() -> None:
    assert told(held_back().at(62, 0.9)) == ["raised"]


def test_alarm_held_back_is_told_although_it_returned() -> None:
    source = Source().returned()
    source.at(9, 0.9)
    assert moves(source.at(11, 0.9)) == [Change.RAISED_AGAIN]
    source.at(12, 0.1)
    assert source.at(17, 0.1) == (Move(Change.RETURNED, Phase.UNACKNOWLEDGED, Phase.RETURNED_UNACKNOWLEDGED),)
    assert source.at(62, TICK) == (Notify("raised"),)
    assert source.at(500, TICK) == (), "the message of the raise showed the return"
    assert not source.state.told


def test_alarm_raised_again_before_its_return_was_told_is_told_as_raised() -> None:
    source = Source().returned()
    source.at(9, 0.9)
    source.at(11, 0.9)
    assert source.at(62, TICK) == (Notify("raised"),)


def test_acknowledged_alarm_is_not_told_afterwards_nor_is_its_return() -> None:
    source = held_back()
    source.at(13, ACK)
    assert source.at(100, 0.1) == ()
    assert source.at(105, 0.1) == (Move(Change.RETURNED, Phase.ACKNOWLEDGED, Phase.NORMAL),)
    assert source.state.due is None


def test_raise_that_was_acknowledged_untold_starts_no_cooldown() -> None:
    source = held_back()
    source.at(13, ACK)
    source.at(14, 0.1)
    source.at(19, 0.1)
    source.at(70, 0.9)
    assert told(source.at(72, 0.9)) == ["raised"]


def test_return_is_told_although_it_was_acknowledged_in_between() -> None:
    source = Source().returned()
    source.at(10, ACK)
    assert source.at(62, TICK) == (Notify("returned"),)


def test_alarm_held_back_is_told_in_time_although_sight_was_lost() -> None:
    source = held_back()
    source.at(13, None)
    assert source.at(62, TICK) == (Notify("raised"),)


def test_alarm_during_a_silence_is_told_when_it_ends() -> None:
    source = Source(quiet_until=300)
    source.at(0, 0.9)
    assert moves(source.at(2, 0.9)) == [Change.RAISED]
    assert source.state.due == 300
    assert source.at(300, TICK) == (Notify("raised"),)


def test_silence_that_came_later_is_obeyed_at_the_tick() -> None:
    source = held_back()
    source.quiet_until = 100
    assert source.at(62, TICK) == ()
    assert source.state.due == 100


def test_alarm_that_nobody_acknowledges_is_told_again_every_repeat_interval() -> None:
    source = Source(REPEATING).raised()
    reminder = (Move(Change.REMINDED, Phase.UNACKNOWLEDGED, Phase.UNACKNOWLEDGED), Notify("reminder"))
    assert source.state.due == 602
    assert source.at(601, TICK) == ()
    assert source.at(602, TICK) == reminder
    assert source.at(602, TICK) == ()
    assert source.at(1202, TICK) == reminder


def test_reminder_waits_for_the_cooldown_too() -> None:
    source = Source(RULE.model_copy(update={"repeat_interval_seconds": 1.0})).raised()
    assert source.state.due == 62


def test_reminder_waits_for_the_end_of_a_silence() -> None:
    source = Source(REPEATING, quiet_until=700).raised()
    source.at(700, TICK)
    assert source.state.due == 1300
    source.quiet_until = 1400
    assert source.at(1300, TICK) == ()
    assert told(source.at(1400, TICK)) == ["reminder"]


@pytest.mark.parametrize("event", [ACK, 0.1])
def test_acknowledged_or_returned_alarm_is_not_repeated(event: Acknowledgement | float) -> None:
    source = Source(REPEATING).raised()
    source.at(3, event)
    source.at(8, event)
    source.at(62, TICK)
    assert source.state.due is None
    assert source.at(5000, TICK) == ()


def test_repeat_interval_of_zero_repeats_never() -> None:
    source = Source(RULE.model_copy(update={"repeat_interval_seconds": 0.0})).raised()
    assert source.state.due is None
    assert source.at(1e6, TICK) == ()


def test_third_raise_at_the_end_of_a_minute_is_chatter() -> None:
    source = Source(BARE)
    for now, anomaly in ((0, 0.9), (1, 0.1), (30, 0.9), (31, 0.1), (60, 0.9)):
        source.at(now, anomaly)
    assert source.state.chattering


def test_chattering_source_waits_for_the_calm() -> None:
    source = chattering()
    assert source.state.chattering
    assert source.state.due == 64, "calm a minute after the last raise"


def test_three_raises_over_more_than_a_minute_are_no_chatter() -> None:
    source = Source(BARE)
    for now, anomaly in ((0, 0.9), (1, 0.1), (31, 0.9), (32, 0.1), (61, 0.9)):
        assert Change.CHATTERING not in moves(source.at(now, anomaly))


def test_chatter_is_calm_when_no_raise_came_for_a_minute_and_the_return_is_told_then() -> None:
    source = chattering()
    source.at(5, 0.1)
    assert source.at(63.9, TICK) == ()
    calmed = Move(Change.CALMED, Phase.RETURNED_UNACKNOWLEDGED, Phase.RETURNED_UNACKNOWLEDGED)
    assert source.at(64, TICK) == (calmed, Notify("raised")), "its last raise was not told, and shows the return"


def test_return_of_a_raise_that_was_told_waits_for_the_calm() -> None:
    source = chattering(BARE.model_copy(update={"repeat_interval_seconds": 20.0}))
    assert source.at(20, TICK) == (Notify("raised"),)
    source.at(21, 0.1)
    assert source.state.news == "returned"
    assert source.at(45, TICK) == ()
    assert told(source.at(64, TICK)) == ["returned"]


def test_chattering_alarm_that_stays_is_told_when_it_is_calm() -> None:
    source = chattering()
    assert source.at(64, 0.9) == (
        Move(Change.CALMED, Phase.UNACKNOWLEDGED, Phase.UNACKNOWLEDGED),
        Notify("raised"),
    )


def test_chatter_that_lasts_is_told_once_a_repeat_interval() -> None:
    source = Source(BARE.model_copy(update={"repeat_interval_seconds": 600.0}))
    messages = []
    for crossing in range(1000):
        now = crossing * 1.8
        messages += [now for _ in told(source.at(now, 0.9 if crossing % 2 == 0 else 0.1))]
        messages += [now for _ in told(source.at(now, TICK))]
    assert messages == pytest.approx([0, 600, 1200], abs=4)


def test_new_alarm_of_a_source_that_chatters_is_told_when_the_cooldown_has_passed() -> None:
    source = chattering(BARE.model_copy(update={"repeat_interval_seconds": 600.0}))
    source.at(5, ACK)
    source.at(6, 0.1)
    assert moves(source.at(7, 0.9)) == [Change.RAISED]
    assert source.state.chattering
    assert source.at(9, TICK) == ()
    assert source.at(10, TICK) == (Notify("raised"),)
    source.at(11, 0.1)
    assert moves(source.at(12, 0.9)) == [Change.RAISED_AGAIN]
    assert source.at(60, TICK) == (), "people know of this alarm"


def test_chatter_without_repeat_interval_obeys_the_cooldown() -> None:
    source = chattering(BARE.model_copy(update={"repeat_interval_seconds": 0.0}))
    assert source.state.due == 10


def test_raise_after_the_calm_is_an_alarm_like_any_other() -> None:
    source = chattering()
    source.at(5, 0.1)
    source.at(64, TICK)
    assert moves(source.at(80, 0.9)) == [Change.RAISED_AGAIN]
    assert not source.state.chattering
