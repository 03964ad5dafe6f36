"""A source of the alarm state machine, driven event by event."""

from __future__ import annotations

from dataclasses import dataclass, field

from almenara.alarms.rule import Rule
from almenara.alarms.state import Effect, Event, Move, Notify, Reading, State, step
from almenara.alarms.vocabulary import Change, Phase

RULE = Rule(threshold=0.5, deadband=0.1, on_delay_seconds=2, off_delay_seconds=5, cooldown_seconds=60)


@dataclass
class Source:
    """A source under a rule; a number is a reading of this anomaly, None one that could not be scored."""

    rule: Rule = RULE
    state: State = field(default_factory=State)
    quiet_until: float | None = None

    def at(self, now: float, event: float | Event | None) -> tuple[Effect, ...]:
        if event is None or isinstance(event, (int, float)):
            event = Reading(event)
        self.state, effects = step(self.state, event, now, self.rule, self.quiet_until)
        return effects

    def raised(self) -> Source:
        """Raised and told at 2 s."""
        self.at(0, 0.9)
        self.at(2, 0.9)
        assert self.state.visible is Phase.UNACKNOWLEDGED
        return self

    def returned(self) -> Source:
        """Raised and told at 2 s, back to normal at 8 s; the cooldown holds this news until 62 s."""
        self.raised()
        self.at(3, 0.1)
        self.at(8, 0.1)
        assert self.state.visible is Phase.RETURNED_UNACKNOWLEDGED
        return self


def moves(effects: tuple[Effect, ...]) -> list[Change]:
    return [effect.change for effect in effects if isinstance(effect, Move)]


def told(effects: tuple[Effect, ...]) -> list[str]:
    return [effect.event for effect in effects if isinstance(effect, Notify)]
