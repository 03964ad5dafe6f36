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
    last_told, due = None, None
    for taken in run(rule, happenings):
        if due is not None and taken.now >= due - 1e-3:
            last_told, due = due, None
        if Change.ACKNOWLEDGED in taken.changes():
            due = None  # withdrawn
        raises = sum(change.raises for change in taken.changes())
        messages = [e for e in taken.effects if isinstance(e, Notify) and e.event == "raised"]
        assert len(messages) == raises <= 1, "each raise has one message, written with it"
        for message in messages:
            due = taken.now + message.delay_seconds  # in place of one that still waited
            assert message.delay_seconds <= rule.cooldown_seconds
            assert last_told is None or due - last_told >= rule.cooldown_seconds - 1e-3
            if message.delay_seconds == 0:
                last_told, due = due, None
        assert taken.told().count("returned") <= 1
        assert "returned" not in taken.told() or due is None, "a return is told only after its raise"


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
