"""The alarm state machine: every phase, delay, deadband and message."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from pydantic import ValidationError

from almenara.alarms.state import (
    Acknowledgement,
    Change,
    Effect,
    Event,
    Move,
    Notify,
    Phase,
    Reading,
    Rule,
    State,
    resume,
    step,
)

RULE = Rule(threshold=0.5, deadband=0.1, on_delay_seconds=2, off_delay_seconds=5, cooldown_seconds=60)
ACK = Acknowledgement()


@dataclass
class Source:
    """A source under a rule, driven by (seconds, anomaly) pairs."""

    rule: Rule = RULE
    state: State = field(default_factory=State)

    def at(self, now: float, event: float | Event | None) -> tuple[Effect, ...]:
        if event is None or isinstance(event, (int, float)):
            event = Reading(event)
        self.state, effects = step(self.state, event, now, self.rule)
        return effects

    def raised(self) -> Source:
        self.at(0, 0.9)
        self.at(2, 0.9)
        assert self.state.visible is Phase.UNACKNOWLEDGED
        return self


def moves(effects: tuple[Effect, ...]) -> list[Change]:
    return [effect.change for effect in effects if isinstance(effect, Move)]


def told(effects: tuple[Effect, ...]) -> list[str]:
    return [effect.event for effect in effects if isinstance(effect, Notify)]


def test_normal_readings_change_nothing() -> None:
    source = Source()
    assert source.at(0, 0.1) == ()
    assert source.state == State()


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


def test_alarm_returns_after_the_off_delay_and_its_return_is_told() -> None:
    source = Source().raised()
    assert source.at(3, 0.1) == ()
    assert source.at(7.9, 0.1) == ()
    assert source.at(8, 0.1) == (
        Move(Change.RETURNED, Phase.UNACKNOWLEDGED, Phase.RETURNED_UNACKNOWLEDGED),
        Notify("returned"),
    )


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
    effects = source.at(9, 0.1)
    assert effects == (Move(Change.RETURNED, Phase.ACKNOWLEDGED, Phase.NORMAL), Notify("returned"))


def test_acknowledging_a_returned_alarm_ends_it() -> None:
    source = Source().raised()
    source.at(3, 0.1)
    source.at(8, 0.1)
    effects = source.at(9, ACK)
    assert effects == (Move(Change.ACKNOWLEDGED, Phase.RETURNED_UNACKNOWLEDGED, Phase.NORMAL),)


def test_acknowledging_a_returned_alarm_keeps_the_on_delay_that_runs() -> None:
    source = Source().raised()
    source.at(3, 0.1)
    source.at(8, 0.1)
    source.at(9, 0.9)
    source.at(10, ACK)
    assert source.state.visible is Phase.PENDING
    assert moves(source.at(11, 0.9)) == [Change.RAISED]


@pytest.mark.parametrize("anomaly", [0.1, 0.9, None])
def test_acknowledging_without_an_alarm_does_nothing(anomaly: float | None) -> None:
    source = Source()
    source.at(0, anomaly)
    before = source.state
    assert source.at(1, ACK) == ()
    assert source.state == before


def test_unacknowledged_alarm_that_comes_again_is_the_same_alarm() -> None:
    source = Source().raised()
    source.at(3, 0.1)
    source.at(8, 0.1)
    source.at(70, 0.9)
    assert source.at(72, 0.9) == (
        Move(Change.RAISED_AGAIN, Phase.RETURNED_UNACKNOWLEDGED, Phase.UNACKNOWLEDGED),
        Notify("raised"),
    )


def test_spike_on_a_returned_alarm_does_not_raise_it_again() -> None:
    source = Source().raised()
    source.at(3, 0.1)
    source.at(8, 0.1)
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
    source = Source().raised()
    source.at(3, 0.1)
    source.at(8, 0.1)
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


def test_new_alarm_within_the_cooldown_is_raised_now_and_told_when_it_ends() -> None:
    source = Source().raised()
    source.at(3, ACK)
    source.at(4, 0.1)
    source.at(9, 0.1)
    source.at(10, 0.9)
    effects = source.at(12, 0.9)
    assert moves(effects) == [Change.RAISED]
    assert effects[-1] == Notify("raised", delay_seconds=50), "due 60 s after the raise that was told at 2"
    assert source.at(61, 0.9) == ()
    assert not source.state.told
    assert source.at(62, 0.9) == ()
    assert source.state.told


def test_alarm_held_back_keeps_its_time_when_it_returns() -> None:
    source = Source().raised()
    source.at(3, 0.1)
    source.at(8, 0.1)
    source.at(9, 0.9)
    source.at(11, 0.9)
    source.at(12, 0.1)
    effects = source.at(17, 0.1)
    assert moves(effects) == [Change.RETURNED]
    assert told(effects) == [], "the raise has not been told yet, and its message will show the return"
    assert source.at(62, 0.1) == ()
    assert source.state.told


def test_alarm_raised_again_while_held_back_waits_no_longer_than_the_first() -> None:
    source = Source().raised()
    source.at(3, 0.1)
    source.at(8, 0.1)
    source.at(9, 0.9)
    assert source.at(11, 0.9)[-1] == Notify("raised", delay_seconds=51)
    source.at(12, 0.1)
    source.at(17, 0.1)
    source.at(18, 0.9)
    assert source.at(20, 0.9)[-1] == Notify("raised", delay_seconds=42)


def test_return_of_a_raise_whose_time_came_unobserved_is_told() -> None:
    source = Source().raised()
    source.at(3, 0.1)
    source.at(8, 0.1)
    source.at(9, 0.9)
    source.at(11, 0.9)
    source.at(70, 0.1)
    assert told(source.at(75, 0.1)) == ["returned"]


def test_acknowledged_raise_that_was_never_told_starts_no_cooldown() -> None:
    source = Source().raised()
    source.at(3, ACK)
    source.at(4, 0.1)
    source.at(9, 0.1)
    source.at(10, 0.9)
    source.at(12, 0.9)
    source.at(13, ACK)
    source.at(14, 0.1)
    source.at(19, 0.1)
    source.at(70, 0.9)
    assert source.at(72, 0.9)[-1] == Notify("raised")


def test_alarm_held_back_is_told_in_time_although_sight_was_lost() -> None:
    source = Source().raised()
    source.at(3, ACK)
    source.at(4, 0.1)
    source.at(9, 0.1)
    source.at(10, 0.9)
    source.at(12, 0.9)
    source.at(13, None)
    assert source.at(62, None) == ()
    assert source.state.told


def test_acknowledged_alarm_is_not_told_afterwards() -> None:
    source = Source().raised()
    source.at(3, ACK)
    source.at(4, 0.1)
    source.at(9, 0.1)
    source.at(10, 0.9)
    source.at(12, 0.9)
    source.at(13, ACK)
    assert source.at(100, 0.9) == ()


def test_resuming_restarts_delays_and_keeps_the_rest() -> None:
    source = Source()
    source.at(0, 0.9)
    source.state = resume(source.state, 50)
    assert source.at(50, 0.9) == ()
    assert moves(source.at(52, 0.9)) == [Change.RAISED]
    assert resume(source.state, 60) == source.state


def test_resuming_leaves_no_time_in_the_future() -> None:
    state = State(phase=Phase.ACKNOWLEDGED, blind_since=90, told=True, told_at=80)
    assert resume(state, 10) == State(phase=Phase.ACKNOWLEDGED, blind_since=10, told=True, told_at=10)


def test_rule_whose_alarm_could_never_return_is_refused() -> None:
    with pytest.raises(ValidationError, match="could never return"):
        Rule(threshold=0.1, deadband=0.1)
