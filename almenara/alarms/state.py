"""The alarm state machine: a pure function of state, event, time and rule, after ANSI/ISA-18.2.

Judging. A reading passes a deadband, a count and a delay. It is *above* from ``threshold`` on, *below* under
``threshold - deadband``, and between the two neither. The source is abnormal when k of its last n readings are above,
normal when k are below and it is not abnormal. An abnormal reading starts the on-delay, and one at or after its end
raises the alarm; returning works the same way with the off-delay.

*Unknown* lies over the phases: while nothing can be scored, or no reading has come for ``stale_after_seconds``, the
phase beneath is kept, so that no alarm is cleared for want of pictures. The off-delay starts again after it. The
on-delay is paused, and cancelled when sight was lost for longer than the on-delay itself.

Telling. The state knows what is still to be told (``news``), and every step decides whether it may be told now: not
within the cooldown of the last message, while the source is shelved, silenced or out of service. ``due`` says when a
Tick has to come to decide again. A raise is told even if it has returned meanwhile, unless it was acknowledged first;
a return is told if its raise was. Three raises within a minute are chatter: until no raise has come for a minute, its
returns wait and its raises are told once a repeat interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from almenara.alarms.rule import Rule
from almenara.alarms.vocabulary import Change, Phase

CHATTER_RAISES = 3
CHATTER_SECONDS = 60.0
"""So many raises within this time are chatter; so long without one and it is calm."""


@dataclass(frozen=True)
class Reading:
    """A score, 0 to 1, or None when nothing could be scored."""

    anomaly: float | None


@dataclass(frozen=True)
class Acknowledgement:
    """Somebody has seen the alarm."""


@dataclass(frozen=True)
class Reset:
    """Somebody lets go of a latched alarm."""


@dataclass(frozen=True)
class Shelving:
    """Nobody is to be told for so many seconds from now; it takes the place of an earlier shelving."""

    seconds: float


@dataclass(frozen=True)
class Unshelving:
    """The shelving ends before its time."""


@dataclass(frozen=True)
class Removal:
    """The source goes out of service."""


@dataclass(frozen=True)
class ServiceReturn:
    """The source is in service again."""


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


Event = Reading | Acknowledgement | Reset | Shelving | Unshelving | Removal | ServiceReturn | Tick


@dataclass(frozen=True)
class State:
    """All that one source's next step depends on; times are seconds on the clock that ``now`` is read from.

    Attributes:
        phase: the phase beneath unknown, shelved and out of service; never one of those three.
        since: when the delay in progress began (on-delay while no alarm is active, off-delay while one is).
        blind_since: when sight was lost; None while the source is scored.
        seen_at: when the last reading came.
        peak: highest anomaly of the episode.
        readings: the last n - 1 readings, oldest first: ``1`` above, ``0`` below, ``-`` between.
        raises: times of the last three raises.
        chattering: whether it was raised three times within a minute and is not calm yet.
        known: whether people were told of the standing alarm, by whichever of its raises.
        shelved_until: end of the shelving; None when it is not shelved.
        out_of_service: whether readings are ignored.
        news: what is still to be told.
        told: whether people were told of the latest raise and not yet of its return.
        told_at: when the last message about this source went out.
        due: when a Tick is needed next; None: never, as long as nothing else happens.
    """

    phase: Phase = Phase.NORMAL
    since: float | None = None
    blind_since: float | None = None
    seen_at: float | None = None
    peak: float = 0.0
    readings: str = ""
    raises: tuple[float, ...] = ()
    chattering: bool = False
    known: bool = False
    shelved_until: float | None = None
    out_of_service: bool = False
    news: Literal["raised", "returned"] | None = None
    told: bool = False
    told_at: float | None = None
    due: float | None = None

    @property
    def visible(self) -> Phase:
        """The phase that people are shown."""
        if self.out_of_service:
            return Phase.OUT_OF_SERVICE
        if self.shelved_until is not None:
            return Phase.SHELVED
        return self.phase if self.blind_since is None else Phase.UNKNOWN


@dataclass(frozen=True)
class Move:
    """Effect: write a transition.

    The phases are those beneath; for LOST and REGAINED one of them is UNKNOWN, and for shelving and service they are
    the visible ones.
    """

    change: Change
    previous: Phase
    phase: Phase


@dataclass(frozen=True)
class Notify:
    """Effect: tell every channel now, about the latest raise, its return, or that it still stands."""

    event: Literal["raised", "returned", "reminder"]


Effect = Move | Notify

_Outcome = tuple[State, list[Effect]]
_RESOLUTION = 1e-3  # seconds: times are compared to the millisecond, since they are stored as UTC


def step(
    state: State, event: Event, now: float, rule: Rule, quiet_until: float | None = None
) -> tuple[State, tuple[Effect, ...]]:
    """Advance one source by one event.

    Args:
        state: where the source stands.
        event: what happened.
        now: seconds on a monotonic clock.
        rule: thresholds and delays in force.
        quiet_until: when the silences end that are in force for this source.

    Returns:
        The next state and what has to be done about it: transitions in order, then at most one message.
    """
    state, passed = _let_time_pass(state, now, rule)
    state, moves = _apply(state, event, now, rule)
    state, messages = _tell(state, now, rule, quiet_until)
    return replace(state, due=_due(state, rule, quiet_until)), (*passed, *moves, *messages)


def resume(state: State, now: float) -> State:
    """The state as a process takes it over from another whose clock may have been ahead: nothing began after now."""

    def past(moment: float | None) -> float | None:
        return None if moment is None else min(moment, now)

    return replace(
        state,
        since=past(state.since),
        blind_since=past(state.blind_since),
        seen_at=past(state.seen_at),
        raises=tuple(min(moment, now) for moment in state.raises),
        told_at=past(state.told_at),
    )


def _let_time_pass(state: State, now: float, rule: Rule) -> _Outcome:
    """End what has run out by now: a shelving, chatter, and sight of a source whose input is stale."""
    effects: list[Effect] = []
    if state.shelved_until is not None and _reached(state.shelved_until, now):
        state, effects = _unshelve(state)
    if state.chattering and _reached(state.raises[-1] + CHATTER_SECONDS, now):
        state = replace(state, chattering=False)
        effects = [*effects, Move(Change.CALMED, state.phase, state.phase)]
    stale_at = _stale_at(state, rule)
    if stale_at is not None and _reached(stale_at, now):
        state, lost = _lose(state, min(stale_at, now))
        effects = [*effects, *lost]
    return state, effects


def _apply(state: State, event: Event, now: float, rule: Rule) -> _Outcome:
    match event:
        case Reading() if not state.out_of_service:
            return _read(state, event.anomaly, now, rule)
        case Acknowledgement():
            return _acknowledge(state, rule)
        case Reset() if state.phase is Phase.LATCHED:
            return _end(state, Change.RESET)
        case Shelving():
            return _shelve(state, now + event.seconds, now)
        case Unshelving() if state.shelved_until is not None:
            return _unshelve(state)
        case Removal() if not state.out_of_service:
            removed = replace(state, out_of_service=True, since=None, readings="")
            return removed, [Move(Change.REMOVED_FROM_SERVICE, state.visible, removed.visible)]
        case ServiceReturn() if state.out_of_service:
            returned = replace(state, out_of_service=False, blind_since=now)
            return returned, [Move(Change.RETURNED_TO_SERVICE, state.visible, returned.visible)]
        case _:
            return state, []


def _acknowledge(state: State, rule: Rule) -> _Outcome:
    news = None if state.news == "raised" else state.news
    match state.phase:
        case Phase.UNACKNOWLEDGED:
            return _move(replace(state, news=news), Change.ACKNOWLEDGED, Phase.ACKNOWLEDGED)
        case Phase.RETURNED_UNACKNOWLEDGED if rule.latch:
            return _move(replace(state, news=news), Change.ACKNOWLEDGED, Phase.LATCHED)
        case Phase.RETURNED_UNACKNOWLEDGED:
            return _end(replace(state, news=news), Change.ACKNOWLEDGED)
        case _:
            return state, []


def _end(state: State, change: Change) -> _Outcome:
    """The alarm is over; an on-delay that runs already is the next one's."""
    state, effects = _move(state, change, Phase.NORMAL)
    if state.since is None:
        return state, effects
    state, pending = _move(state, Change.PENDING, Phase.PENDING)
    return state, effects + pending


def _shelve(state: State, until: float, now: float) -> _Outcome:
    unchanged = state.shelved_until is not None and abs(until - state.shelved_until) < _RESOLUTION
    if unchanged or _reached(until, now):
        return state, []
    shelved = replace(state, shelved_until=until)
    return shelved, [Move(Change.SHELVED, state.visible, shelved.visible)]


def _unshelve(state: State) -> _Outcome:
    unshelved = replace(state, shelved_until=None)
    return unshelved, [Move(Change.UNSHELVED, state.visible, unshelved.visible)]


def _read(state: State, anomaly: float | None, now: float, rule: Rule) -> _Outcome:
    state = replace(state, seen_at=now if state.seen_at is None else max(state.seen_at, now))
    if anomaly is None:
        return _lose(state, now) if state.blind_since is None else (state, [])
    if state.blind_since is None:
        return _judge(state, anomaly, now, rule)
    state = _regain(state, now - state.blind_since, rule)
    regained = Move(Change.REGAINED, Phase.UNKNOWN, state.phase)
    state, judged = _judge(state, anomaly, now, rule)
    return state, [regained, *judged]


def _lose(state: State, at: float) -> _Outcome:
    return replace(state, blind_since=at, readings=""), [Move(Change.LOST, state.phase, Phase.UNKNOWN)]


def _regain(state: State, blind_seconds: float, rule: Rule) -> State:
    """The phase beneath *unknown*, its delay adjusted for the time without sight."""
    seen = replace(state, blind_since=None)
    if seen.phase.active:
        return replace(seen, since=None)
    if seen.since is None or blind_seconds > rule.on_delay_seconds:
        return replace(seen, since=None, phase=Phase.NORMAL if seen.phase is Phase.PENDING else seen.phase)
    return replace(seen, since=seen.since + blind_seconds)


def _judge(state: State, anomaly: float, now: float, rule: Rule) -> _Outcome:
    """Apply a score to a source that is in sight."""
    state, above, below = _count(state, anomaly, rule)
    if state.phase.active:
        state = replace(state, peak=max(state.peak, anomaly))
        return _judge_active(state, above=above, below=below, now=now, rule=rule)
    if below:
        state = replace(state, since=None)
        return _move(state, Change.CANCELLED, Phase.NORMAL) if state.phase is Phase.PENDING else (state, [])
    if not above:
        return state, []
    since = now if state.since is None else state.since
    fresh = state.phase is Phase.NORMAL
    state = replace(state, since=since, peak=anomaly if fresh else max(state.peak, anomaly))
    if _reached(since + rule.on_delay_seconds, now):
        return _raise(state, now)
    return _move(state, Change.PENDING, Phase.PENDING) if fresh else (state, [])


def _judge_active(state: State, *, above: bool, below: bool, now: float, rule: Rule) -> _Outcome:
    if above:
        return replace(state, since=None), []
    if not below:
        return state, []
    since = now if state.since is None else state.since
    if not _reached(since + rule.off_delay_seconds, now):
        return replace(state, since=since), []
    returned = replace(state, since=None, news="returned" if state.told else state.news)
    if state.phase is Phase.UNACKNOWLEDGED:
        return _move(returned, Change.RETURNED, Phase.RETURNED_UNACKNOWLEDGED)
    return _move(returned, Change.RETURNED, Phase.LATCHED if rule.latch else Phase.NORMAL)


def _count(state: State, anomaly: float, rule: Rule) -> tuple[State, bool, bool]:
    """The state with this reading among its last ones, and whether the source counts as above and as below."""
    mark = "1" if anomaly >= rule.threshold else "0" if anomaly < rule.threshold - rule.deadband else "-"
    window = (state.readings + mark)[-rule.n :]
    above = window.count("1") >= rule.k
    below = not above and window.count("0") >= rule.k
    return replace(state, readings=window[-(rule.n - 1) :] if rule.n > 1 else ""), above, below


def _raise(state: State, now: float) -> _Outcome:
    again = state.phase in (Phase.RETURNED_UNACKNOWLEDGED, Phase.LATCHED)
    raises = (*state.raises, now)[-CHATTER_RAISES:]
    state = replace(state, since=None, news="raised", told=False, raises=raises, known=again and state.known)
    state, effects = _move(state, Change.RAISED_AGAIN if again else Change.RAISED, Phase.UNACKNOWLEDGED)
    if state.chattering or len(raises) < CHATTER_RAISES or raises[-1] - raises[0] > CHATTER_SECONDS:
        return state, effects
    return replace(state, chattering=True), [*effects, Move(Change.CHATTERING, state.phase, state.phase)]


def _tell(state: State, now: float, rule: Rule, quiet_until: float | None) -> _Outcome:
    allowed_at = _telling_at(state, rule, quiet_until)
    if allowed_at is None or not _reached(allowed_at, now):
        return state, []
    if state.news is None:
        return replace(state, told_at=now), [Move(Change.REMINDED, state.phase, state.phase), Notify("reminder")]
    active = state.news == "raised" and state.phase.active  # the message of a raise that has returned says so
    return replace(state, news=None, told=active, known=True, told_at=now), [Notify(state.news)]


def _telling_at(state: State, rule: Rule, quiet_until: float | None) -> float | None:
    """From when on the news, or a reminder, may be told; None: not before something else happens."""
    reminds = state.phase is Phase.UNACKNOWLEDGED and state.told and rule.repeat_interval_seconds > 0
    if state.out_of_service or (state.news is None and not reminds) or (state.news == "returned" and state.chattering):
        return None
    pause = rule.cooldown_seconds
    if state.news is None or (state.chattering and state.known):
        pause = max(pause, rule.repeat_interval_seconds)
    after_last = None if state.told_at is None else state.told_at + pause
    moments = (after_last, state.shelved_until, quiet_until)
    return max((moment for moment in moments if moment is not None), default=-math.inf)


def _stale_at(state: State, rule: Rule) -> float | None:
    """When sight of the source counts as lost for want of readings."""
    if state.out_of_service or state.blind_since is not None or state.seen_at is None:
        return None
    return None if rule.stale_after_seconds is None else state.seen_at + rule.stale_after_seconds


def _due(state: State, rule: Rule, quiet_until: float | None) -> float | None:
    """The earliest moment at which a Tick does something."""
    moments = (
        state.shelved_until,
        state.raises[-1] + CHATTER_SECONDS if state.chattering else None,
        _stale_at(state, rule),
        _telling_at(state, rule, quiet_until),
    )
    return min((moment for moment in moments if moment is not None), default=None)


def _move(state: State, change: Change, phase: Phase) -> _Outcome:
    return replace(state, phase=phase), [Move(change, state.phase, phase)]


def _reached(moment: float, now: float) -> bool:
    return now >= moment - _RESOLUTION
