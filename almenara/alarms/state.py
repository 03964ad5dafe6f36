"""The alarm state machine: a pure function of state, event, time and rule, after ANSI/ISA-18.2.

A reading passes a deadband first and a delay second. It counts as *above* from ``threshold`` on, as *below* under
``threshold - deadband``, and between the two it changes nothing. A reading above starts the on-delay; one above at
or after its end raises the alarm. A reading below starts the off-delay in the same way.

*Unknown* lies over the other phases: when nothing can be scored the phase beneath is kept, so that an alarm is never
cleared for want of pictures. The off-delay starts again after it. The on-delay is paused, and cancelled when sight
was lost for longer than the on-delay itself.

The cooldown holds a message back, it never swallows one. Within ``cooldown_seconds`` of the last told raise of a
source a new raise is recorded at once with a message that is due when the cooldown ends, whether or not anything is
observed until then. Acknowledged first, it is not told; raised again first, the newer raise is told in its place. An
alarm that returns to normal unacknowledged and comes again is the same alarm: it is raised again under its own id.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from almenara.contracts import Contract

Priority = Literal["low", "medium", "high", "critical"]


class Phase(StrEnum):
    """Where a source stands. The values are stored and sent: do not change them."""

    NORMAL = "normal"
    PENDING = "pending"
    """Above the threshold, the on-delay running; nobody is told."""
    UNACKNOWLEDGED = "unacknowledged"
    ACKNOWLEDGED = "acknowledged"
    RETURNED_UNACKNOWLEDGED = "returned_unacknowledged"
    """Back to normal before anybody acknowledged."""
    UNKNOWN = "unknown"
    """Nothing can be scored: the camera or the API is away."""

    @property
    def active(self) -> bool:
        """Whether an alarm stands and its condition lasts."""
        return self in (Phase.UNACKNOWLEDGED, Phase.ACKNOWLEDGED)


class Change(StrEnum):
    """What a transition was. The values are stored: do not change them."""

    PENDING = "pending"
    CANCELLED = "cancelled"
    RAISED = "raised"
    RAISED_AGAIN = "raised_again"
    RETURNED = "returned"
    ACKNOWLEDGED = "acknowledged"
    LOST = "lost"
    """Sight of the source was lost."""
    REGAINED = "regained"

    @property
    def raises(self) -> bool:
        """Whether this transition puts an alarm before people."""
        return self in (Change.RAISED, Change.RAISED_AGAIN)


class Rule(Contract):
    """When a source's readings become an alarm."""

    threshold: float = Field(default=0.5, gt=0, le=1, description="anomaly, 0-1; .5 is the model card's threshold")
    deadband: float = Field(default=0.05, ge=0, lt=1, description="below threshold - deadband a reading is normal")
    on_delay_seconds: float = Field(default=2.0, ge=0, description="how long it lasts before an alarm is raised")
    off_delay_seconds: float = Field(default=5.0, ge=0, description="how long it is normal before an alarm returns")
    cooldown_seconds: float = Field(default=60.0, ge=0, description="least time between two told raises of a source")
    priority: Priority = "high"

    @model_validator(mode="after")
    def _can_return(self) -> Self:
        if self.deadband >= self.threshold:
            raise ValueError(
                f"deadband {self.deadband:g} is not below threshold {self.threshold:g}: the alarm could never return"
            )
        return self


@dataclass(frozen=True)
class Reading:
    """A score, 0 to 1, or None when nothing could be scored."""

    anomaly: float | None


@dataclass(frozen=True)
class Acknowledgement:
    """Somebody has seen the alarm."""


Event = Reading | Acknowledgement


@dataclass(frozen=True)
class State:
    """All that one source's next step depends on; times are seconds on the clock that ``now`` is read from.

    Attributes:
        phase: the phase beneath *unknown*; never UNKNOWN itself.
        since: when the delay in progress began (on-delay while no alarm is active, off-delay while one is).
        blind_since: when sight was lost; None while the source is scored.
        peak: highest anomaly of the episode.
        told: whether the raise of ``told_at`` was told; while it is not, it is held back or was acknowledged first.
        told_at: when the latest raise was told or is to be told; the cooldown counts from one that was told.
    """

    phase: Phase = Phase.NORMAL
    since: float | None = None
    blind_since: float | None = None
    peak: float = 0.0
    told: bool = False
    told_at: float | None = None

    @property
    def visible(self) -> Phase:
        """The phase that people are shown."""
        return self.phase if self.blind_since is None else Phase.UNKNOWN

    @property
    def held_back(self) -> bool:
        """Whether the latest raise waits to be told."""
        return self.phase in (Phase.UNACKNOWLEDGED, Phase.RETURNED_UNACKNOWLEDGED) and not self.told


@dataclass(frozen=True)
class Move:
    """Effect: write a transition."""

    change: Change
    previous: Phase
    phase: Phase


@dataclass(frozen=True)
class Notify:
    """Effect: tell every channel, about the latest raise or about the return of the standing alarm.

    Attributes:
        event: what to tell.
        delay_seconds: how long the cooldown holds it back; until then an acknowledgement or a newer raise withdraws it.
    """

    event: Literal["raised", "returned"]
    delay_seconds: float = 0.0


Effect = Move | Notify

_RESOLUTION = 1e-3  # seconds: delays are compared to the millisecond, since they are stored as UTC


def step(state: State, event: Event, now: float, rule: Rule) -> tuple[State, tuple[Effect, ...]]:
    """Advance one source by one event.

    Args:
        state: where the source stands.
        event: what happened.
        now: seconds on a monotonic clock.
        rule: thresholds and delays in force.

    Returns:
        The next state and, in order, what has to be done about it.
    """
    state = settle(state, now)
    if isinstance(event, Acknowledgement):
        return _acknowledge(state)
    effects: list[Effect] = []
    if event.anomaly is None:
        if state.blind_since is None:
            effects.append(Move(Change.LOST, state.phase, Phase.UNKNOWN))
            state = replace(state, blind_since=now)
    else:
        if state.blind_since is not None:
            state = _regain(state, now, rule)
            effects.append(Move(Change.REGAINED, Phase.UNKNOWN, state.phase))
        state, judged = _judge(state, event.anomaly, now, rule)
        effects += judged
    return state, tuple(effects)


def settle(state: State, now: float) -> State:
    """The state with a raise that was held back counted as told once it is due: its message was written with it."""
    due = state.held_back and state.told_at is not None and _elapsed(state.told_at, now, 0.0)
    return replace(state, told=True) if due else state


def resume(state: State, now: float) -> State:
    """The state as a process takes it over from another: delays in progress start again, all else stands.

    No time lies in the future afterwards, whatever the wall clock did between the two processes, but that of a raise
    which is held back: its message has this time too.
    """
    return replace(
        state,
        since=None if state.since is None else now,
        blind_since=None if state.blind_since is None else min(state.blind_since, now),
        told_at=min(state.told_at, now) if state.told and state.told_at is not None else state.told_at,
    )


def _acknowledge(state: State) -> tuple[State, tuple[Effect, ...]]:
    match state.phase:
        case Phase.UNACKNOWLEDGED:
            phase = Phase.ACKNOWLEDGED
        case Phase.RETURNED_UNACKNOWLEDGED:
            phase = Phase.NORMAL if state.since is None else Phase.PENDING
        case _:
            return state, ()
    return replace(state, phase=phase), (Move(Change.ACKNOWLEDGED, state.phase, phase),)


def _regain(state: State, now: float, rule: Rule) -> State:
    """The phase beneath *unknown*, its delay adjusted for the time without sight."""
    blind = now - (now if state.blind_since is None else state.blind_since)
    seen = replace(state, blind_since=None)
    if seen.since is None:
        return seen
    if seen.phase.active:
        return replace(seen, since=None)
    if blind > rule.on_delay_seconds:
        return replace(seen, since=None, phase=Phase.NORMAL if seen.phase is Phase.PENDING else seen.phase)
    return replace(seen, since=seen.since + blind)


def _judge(state: State, anomaly: float, now: float, rule: Rule) -> tuple[State, list[Effect]]:
    """Apply a score to a source that is in sight."""
    above = anomaly >= rule.threshold
    below = anomaly < rule.threshold - rule.deadband
    if state.phase.active:
        state = replace(state, peak=max(state.peak, anomaly))
        return _judge_active(state, above=above, below=below, now=now, rule=rule)
    if below:
        if state.phase is Phase.PENDING:
            return replace(state, phase=Phase.NORMAL, since=None), [Move(Change.CANCELLED, Phase.PENDING, Phase.NORMAL)]
        return replace(state, since=None), []
    if not above:
        return state, []
    since = now if state.since is None else state.since
    fresh = state.phase is Phase.NORMAL
    state = replace(state, since=since, peak=anomaly if fresh else max(state.peak, anomaly))
    if _elapsed(since, now, rule.on_delay_seconds):
        again = state.phase is Phase.RETURNED_UNACKNOWLEDGED
        change = Change.RAISED_AGAIN if again else Change.RAISED
        delay = _hold_back(state, now, rule)
        raised = replace(state, phase=Phase.UNACKNOWLEDGED, since=None, told=delay == 0, told_at=now + delay)
        return raised, [Move(change, state.phase, raised.phase), Notify("raised", delay)]
    if fresh:
        return replace(state, phase=Phase.PENDING), [Move(Change.PENDING, Phase.NORMAL, Phase.PENDING)]
    return state, []


def _judge_active(state: State, *, above: bool, below: bool, now: float, rule: Rule) -> tuple[State, list[Effect]]:
    if above:
        return replace(state, since=None), []
    if not below:
        return state, []
    since = now if state.since is None else state.since
    if not _elapsed(since, now, rule.off_delay_seconds):
        return replace(state, since=since), []
    unacknowledged = state.phase is Phase.UNACKNOWLEDGED
    phase = Phase.RETURNED_UNACKNOWLEDGED if unacknowledged else Phase.NORMAL
    effects: list[Effect] = [Move(Change.RETURNED, state.phase, phase)]
    if state.told:
        effects.append(Notify("returned"))
    return replace(state, phase=phase, since=None), effects


def _hold_back(state: State, now: float, rule: Rule) -> float:
    """How long a raise has to wait until it is told, in seconds; a new one takes the place of one that waits."""
    if state.told_at is None:
        return 0.0
    due = state.told_at + (rule.cooldown_seconds if state.told else 0.0)
    return 0.0 if _elapsed(due, now, 0.0) else min(due - now, rule.cooldown_seconds)


def _elapsed(since: float, now: float, seconds: float) -> bool:
    return now - since >= seconds - _RESOLUTION
