"""What holds for the alarm state machine whatever happens."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

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
    step,
)

OPEN = (Phase.UNACKNOWLEDGED, Phase.RETURNED_UNACKNOWLEDGED)

seconds = st.integers(0, 12).map(lambda quarter: quarter / 4)
rules = st.builds(
    Rule,
    threshold=st.just(0.5),
    deadband=st.sampled_from([0.0, 0.1]),
    on_delay_seconds=seconds,
    off_delay_seconds=seconds,
    cooldown_seconds=st.sampled_from([0.0, 2.0, 10.0]),
)
readings = st.sampled_from([0.1, 0.2, 0.45, 0.5, 0.8, 0.9, None]).map(Reading)
events = st.lists(st.tuples(seconds, st.one_of(readings, readings, readings, st.just(Acknowledgement()))), max_size=60)


@dataclass(frozen=True)
class Step:
    """One step of a run."""

    now: float
    event: Event
    before: State
    after: State
    effects: tuple[Effect, ...]

    def changes(self) -> list[Change]:
        return [effect.change for effect in self.effects if isinstance(effect, Move)]

    def told(self) -> list[str]:
        return [effect.event for effect in self.effects if isinstance(effect, Notify)]


def run(rule: Rule, happenings: list[tuple[float, Event]]) -> list[Step]:
    state, now, steps = State(), 0.0, []
    for pause, event in happenings:
        now += pause
        after, effects = step(state, event, now, rule)
        steps.append(Step(now, event, state, after, effects))
        state = after
    return steps


@given(rules, events)
@settings(max_examples=200, deadline=None)
def test_only_an_acknowledgement_ends_an_unacknowledged_alarm(
    rule: Rule, happenings: list[tuple[float, Event]]
) -> None:
    for taken in run(rule, happenings):
        if taken.before.phase in OPEN and taken.after.phase not in OPEN:
            assert isinstance(taken.event, Acknowledgement)


@given(rules, events)
@settings(max_examples=200, deadline=None)
def test_no_raise_is_told_twice_and_no_cooldown_is_broken(rule: Rule, happenings: list[tuple[float, Event]]) -> None:
    raises_untold, last_told = 0, None
    for taken in run(rule, happenings):
        if any(change.raises for change in taken.changes()):
            raises_untold = 1
        for event in taken.told():
            if event == "raised":
                assert raises_untold == 1, "told without a raise, or twice for one"
                assert last_told is None or taken.now - last_told >= rule.cooldown_seconds - 1e-3
                raises_untold, last_told = 0, taken.now
        assert len(taken.told()) <= 2
        assert len(taken.told()) == len(set(taken.told()))


@given(rules, events)
@settings(max_examples=200, deadline=None)
def test_unknown_never_clears_an_alarm(rule: Rule, happenings: list[tuple[float, Event]]) -> None:
    regained_at: float | None = None
    for taken in run(rule, happenings):
        if taken.event == Reading(None):
            assert taken.after.phase is taken.before.phase
            assert Change.RETURNED not in taken.changes()
        if Change.REGAINED in taken.changes():
            regained_at = taken.now
        if Change.RETURNED in taken.changes() and regained_at is not None:
            assert taken.now - regained_at >= rule.off_delay_seconds - 1e-3


@given(rules, events)
@settings(max_examples=200, deadline=None)
def test_every_raise_follows_an_unbroken_anomaly_of_the_on_delay(
    rule: Rule, happenings: list[tuple[float, Event]]
) -> None:
    steps = run(rule, happenings)
    for index, taken in enumerate(steps):
        if not any(change.raises for change in taken.changes()):
            continue
        assert isinstance(taken.event, Reading)
        assert taken.event.anomaly is not None
        assert taken.event.anomaly >= rule.threshold
        onset = taken.now
        for earlier in reversed(steps[: index + 1]):
            if isinstance(earlier.event, Reading) and earlier.event.anomaly is not None:
                if earlier.event.anomaly < rule.threshold - rule.deadband:
                    break
                onset = earlier.now
        assert taken.now - onset >= rule.on_delay_seconds - 1e-3


@given(rules, events, st.floats(0.5, 1))
@settings(max_examples=200, deadline=None)
def test_sustained_anomaly_is_raised_and_told_from_any_state(
    rule: Rule, happenings: list[tuple[float, Event]], anomaly: float
) -> None:
    lasting: list[tuple[float, Event]] = [(0.0, Reading(anomaly))]
    lasting += [(0.5, Reading(anomaly)) for _ in range(30)]
    end = run(rule, happenings + lasting)[-1].after
    assert end.phase.active
    assert end.told or end.phase is Phase.ACKNOWLEDGED


@given(rules, events)
@settings(max_examples=200, deadline=None)
def test_transitions_form_an_unbroken_chain(rule: Rule, happenings: list[tuple[float, Event]]) -> None:
    beneath = Phase.NORMAL
    for taken in run(rule, happenings):
        for effect in taken.effects:
            if isinstance(effect, Move):
                if effect.change is Change.LOST:
                    assert effect.previous is beneath
                elif effect.change is Change.REGAINED:
                    beneath = effect.phase
                else:
                    assert effect.previous is beneath
                    beneath = effect.phase
        assert beneath is taken.after.phase
