"""What holds for the alarm state machine whatever happens, when a Tick comes whenever one is due."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from almenara.alarms.rule import Rule
from almenara.alarms.state import (
    Acknowledgement,
    Effect,
    Event,
    Move,
    Notify,
    Reading,
    Removal,
    Reset,
    ServiceReturn,
    Shelving,
    State,
    Tick,
    Unshelving,
    resume,
    step,
)
from almenara.alarms.vocabulary import Change, Phase

OPEN = (Phase.UNACKNOWLEDGED, Phase.RETURNED_UNACKNOWLEDGED)
SUPPRESSION = (Change.SHELVED, Change.UNSHELVED, Change.REMOVED_FROM_SERVICE, Change.RETURNED_TO_SERVICE)
MILLISECOND = 1e-3


@dataclass(frozen=True)
class Silence:
    """Not an event of the machine: from now on nobody is to be told for so many seconds."""

    seconds: float


seconds = st.integers(0, 12).map(lambda quarter: quarter / 4)
rules = st.builds(
    Rule,
    threshold=st.just(0.5),
    deadband=st.sampled_from([0.0, 0.1]),
    k=st.sampled_from([1, 1, 2]),
    n=st.sampled_from([2, 3]),
    on_delay_seconds=seconds,
    off_delay_seconds=seconds,
    latch=st.booleans(),
    cooldown_seconds=st.sampled_from([0.0, 2.0, 10.0]),
    repeat_interval_seconds=st.sampled_from([0.0, 5.0, 40.0]),
    stale_after_seconds=st.sampled_from([None, 2.5]),
) | st.builds(
    Rule, on_delay_seconds=seconds, off_delay_seconds=seconds, cooldown_seconds=st.sampled_from([0.0, 2.0, 10.0])
)
readings = st.sampled_from([0.1, 0.2, 0.45, 0.5, 0.8, 0.9, None]).map(Reading)
others = st.sampled_from(
    [Acknowledgement(), Acknowledgement(), Reset(), Shelving(4), Unshelving(), Removal(), ServiceReturn(), Silence(6)]
)
happenings = st.lists(st.tuples(seconds, st.one_of(readings, readings, readings, others)), max_size=60)
Happenings = list[tuple[float, Event | Silence]]


@dataclass(frozen=True)
class Step:
    """One step of a run."""

    now: float
    event: Event
    before: State
    after: State
    effects: tuple[Effect, ...]
    quiet_until: float

    def changes(self) -> list[Change]:
        return [effect.change for effect in self.effects if isinstance(effect, Move)]

    def told(self) -> list[str]:
        return [effect.event for effect in self.effects if isinstance(effect, Notify)]


@dataclass
class Run:
    """A source under a rule; between the events it is given a Tick whenever one is due."""

    rule: Rule
    now: float = 0.0
    state: State = field(default_factory=State)
    quiet_until: float = 0.0
    steps: list[Step] = field(default_factory=list)

    def take(self, event: Event) -> None:
        after, effects = step(self.state, event, self.now, self.rule, self.quiet_until)
        self.steps.append(Step(self.now, event, self.state, after, effects, self.quiet_until))
        self.state = after

    def forward(self, seconds: float) -> None:
        end = self.now + seconds
        while self.state.due is not None and self.state.due <= end:
            assert self.state.due > self.now, "a tick makes progress"
            self.now = self.state.due
            self.take(Tick())
        self.now = end

    def through(self, happenings: Happenings) -> Run:
        for pause, event in happenings:
            self.forward(pause)
            if isinstance(event, Silence):
                self.quiet_until = self.now + event.seconds
            else:
                self.take(event)
        return self


@given(rules, happenings)
@settings(max_examples=150)
def test_only_an_acknowledgement_ends_an_unacknowledged_alarm_and_only_a_reset_a_latched_one(
    rule: Rule, happenings: Happenings
) -> None:
    for taken in Run(rule).through(happenings).steps:
        if taken.before.phase in OPEN and taken.after.phase not in OPEN:
            assert isinstance(taken.event, Acknowledgement)
        if taken.before.phase is Phase.LATCHED and taken.after.phase is not Phase.LATCHED:
            assert isinstance(taken.event, Reset) or Change.RAISED_AGAIN in taken.changes()


@given(rules, happenings)
@settings(max_examples=300)
def test_raise_is_told_once_suppression_and_cooldown_are_over_unless_it_was_acknowledged(
    rule: Rule, happenings: Happenings
) -> None:
    run = Run(rule).through(happenings)
    run.quiet_until = run.now
    run.take(Unshelving())
    run.take(ServiceReturn())
    run.forward(max(rule.cooldown_seconds, rule.repeat_interval_seconds))
    told, open_raise = True, False
    for taken in run.steps:
        if any(change.raises for change in taken.changes()):
            told, open_raise = False, True
        if Change.ACKNOWLEDGED in taken.changes():
            open_raise = False
        told = told or "raised" in taken.told()
    assert told or not open_raise


@given(rules, happenings)
@settings(max_examples=150)
def test_no_transition_is_told_twice(rule: Rule, happenings: Happenings) -> None:
    untold = {"raised": 0, "returned": 0, "reminder": 0}
    for taken in Run(rule).through(happenings).steps:
        changes = taken.changes()
        assert sum(change.raises for change in changes) <= 1
        if any(change.raises for change in changes):
            untold = {"raised": 1, "returned": 0, "reminder": 0}
        untold["returned"] += changes.count(Change.RETURNED)
        untold["reminder"] += changes.count(Change.REMINDED)
        assert len(taken.told()) <= 1
        for event in taken.told():
            untold[event] -= 1
        assert min(untold.values()) >= 0
        assert untold["reminder"] == 0


@given(rules, happenings)
@settings(max_examples=150)
def test_return_is_told_only_after_its_raise(rule: Rule, happenings: Happenings) -> None:
    raise_told = False
    for taken in Run(rule).through(happenings).steps:
        if any(change.raises for change in taken.changes()):
            raise_told = False
        assert raise_told or "returned" not in taken.told()
        raise_told = raise_told or "raised" in taken.told()


@given(rules, happenings)
@settings(max_examples=150)
def test_there_is_at_most_one_message_a_cooldown_and_none_while_it_is_suppressed(
    rule: Rule, happenings: Happenings
) -> None:
    last: float | None = None
    new = True
    for taken in Run(rule).through(happenings).steps:
        new = new or Change.RAISED in taken.changes()
        if not taken.told():
            continue
        chatters = taken.after.chattering and not new
        pause = max(rule.cooldown_seconds, rule.repeat_interval_seconds if chatters else 0.0)
        assert last is None or taken.now - last >= pause - MILLISECOND
        assert taken.after.visible not in (Phase.SHELVED, Phase.OUT_OF_SERVICE)
        assert taken.now >= taken.quiet_until - MILLISECOND
        last, new = taken.now, False


@given(rules, happenings)
@settings(max_examples=150)
def test_unknown_never_clears_an_alarm(rule: Rule, happenings: Happenings) -> None:
    regained_at = -1e6
    for taken in Run(rule).through(happenings).steps:
        if taken.after.blind_since is not None:
            assert Change.RETURNED not in taken.changes()
        if Change.REGAINED in taken.changes():
            regained_at = taken.now
        if Change.RETURNED in taken.changes():
            assert taken.now - regained_at >= rule.off_delay_seconds - MILLISECOND


@given(rules, happenings)
@settings(max_examples=150)
def test_every_raise_follows_an_unbroken_anomaly_of_the_on_delay(rule: Rule, happenings: Happenings) -> None:
    assume(rule.n == 1)
    onset: float | None = None
    for taken in Run(rule).through(happenings).steps:
        if taken.before.out_of_service or not isinstance(taken.event, Reading) or taken.event.anomaly is None:
            continue
        if taken.event.anomaly < rule.threshold - rule.deadband:
            onset = None
        elif onset is None and taken.event.anomaly >= rule.threshold:
            onset = taken.now
        if any(change.raises for change in taken.changes()):
            assert taken.event.anomaly >= rule.threshold
            assert onset is not None
            assert taken.now - onset >= rule.on_delay_seconds - MILLISECOND


@given(rules, st.lists(st.tuples(st.floats(0.05, 1), st.floats(0.5, 1)), min_size=12, max_size=12))
@settings(max_examples=100)
def test_sustained_anomaly_is_told_within_the_on_delay_and_a_second(
    rule: Rule, anomalies: list[tuple[float, float]]
) -> None:
    run = Run(rule)
    run.take(Reading(0.1))
    onset = None
    for pause, anomaly in anomalies:
        run.forward(pause)
        if onset is None and rule.k == 1:
            onset = run.now
        run.take(Reading(anomaly))
        onset = run.now if onset is None and run.state.phase is not Phase.NORMAL else onset  # k readings were above
        if "raised" in run.steps[-1].told():
            assert onset is not None
            assert run.now - onset <= rule.on_delay_seconds + 1 + MILLISECOND
            return
    assert onset is not None
    assert run.now - onset <= rule.on_delay_seconds + 1


@given(rules, happenings, st.floats(0.5, 1))
@settings(max_examples=100)
def test_sustained_anomaly_is_raised_from_any_state(rule: Rule, happenings: Happenings, anomaly: float) -> None:
    run = Run(rule).through(happenings)
    run.take(ServiceReturn())
    run.through([(0.5, Reading(anomaly)) for _ in range(20)])
    assert run.state.phase.active


@given(rules, happenings)
@settings(max_examples=100)
def test_alarm_of_normal_readings_ends_when_people_do_their_part(rule: Rule, happenings: Happenings) -> None:
    run = Run(rule).through([*happenings, (0.0, ServiceReturn()), *[(0.5, Reading(0.1)) for _ in range(20)]])
    run.take(Acknowledgement())
    run.take(Reset())
    assert run.state.phase is Phase.NORMAL


@given(rules, happenings, st.floats(0, 1))
@settings(max_examples=150)
def test_tick_before_its_time_or_once_more_changes_nothing(rule: Rule, happenings: Happenings, part: float) -> None:
    for taken in Run(rule).through(happenings).steps:
        end = taken.now + 100 if taken.after.due is None else taken.after.due - 2 * MILLISECOND
        moment = max(taken.now, taken.now + part * (end - taken.now))
        assert step(taken.after, Tick(), moment, rule, taken.quiet_until) == (taken.after, ())


@given(rules, happenings)
@settings(max_examples=100)
def test_resuming_on_the_same_clock_changes_nothing(rule: Rule, happenings: Happenings) -> None:
    for taken in Run(rule).through(happenings).steps:
        assert resume(taken.after, taken.now) == taken.after


@given(rules, happenings)
@settings(max_examples=150)
def test_transitions_form_an_unbroken_chain(rule: Rule, happenings: Happenings) -> None:
    beneath = Phase.NORMAL
    for taken in Run(rule).through(happenings).steps:
        for effect in taken.effects:
            if not isinstance(effect, Move) or effect.change in SUPPRESSION:
                continue
            if effect.change is Change.REGAINED:
                beneath = effect.phase
                continue
            assert effect.previous is beneath
            if effect.change is not Change.LOST:
                beneath = effect.phase
        assert beneath is taken.after.phase


@given(st.lists(st.floats(0.1, 3.5), min_size=200, max_size=400), rules)
@settings(max_examples=50)
def test_crossings_without_end_are_told_once_a_repeat_interval(pauses: list[float], rule: Rule) -> None:
    bare = {"k": 1, "n": 1, "on_delay_seconds": 0.0, "off_delay_seconds": 0.0, "stale_after_seconds": None}
    rule = rule.model_copy(update={**bare, "cooldown_seconds": 20.0, "repeat_interval_seconds": 300.0})
    run = Run(rule)
    for index, pause in enumerate(pauses):
        run.forward(pause)
        run.take(Reading(0.9 if index % 2 == 0 else 0.1))
    assert sum(len(taken.told()) for taken in run.steps) <= 1 + run.now / 300
