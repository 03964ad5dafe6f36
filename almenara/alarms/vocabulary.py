"""The words of alarm management: phases, changes and priorities, after ANSI/ISA-18.2. They are stored and sent."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

Priority = Literal["low", "medium", "high", "critical"]
PRIORITIES: tuple[Priority, ...] = ("low", "medium", "high", "critical")
"""From the least to the most urgent."""

Verdict = Literal["true_alarm", "false_alarm"]
"""What a person found when looking into an alarm."""


class Phase(StrEnum):
    """Where a source stands."""

    NORMAL = "normal"
    PENDING = "pending"
    """Above the threshold, the on-delay running; nobody is told."""
    UNACKNOWLEDGED = "unacknowledged"
    ACKNOWLEDGED = "acknowledged"
    RETURNED_UNACKNOWLEDGED = "returned_unacknowledged"
    """Back to normal before anybody acknowledged."""
    LATCHED = "latched"
    """Back to normal and acknowledged; the alarm stands until somebody resets it."""
    UNKNOWN = "unknown"
    """Nothing can be scored: the camera or the API is away, or no input comes."""
    SHELVED = "shelved"
    """Judged, but told nobody, until a time that a person has set."""
    OUT_OF_SERVICE = "out_of_service"
    """Not judged until a person returns it to service."""

    @property
    def active(self) -> bool:
        """Whether an alarm stands and its condition lasts."""
        return self in (Phase.UNACKNOWLEDGED, Phase.ACKNOWLEDGED)


class Change(StrEnum):
    """What a transition was."""

    PENDING = "pending"
    CANCELLED = "cancelled"
    RAISED = "raised"
    RAISED_AGAIN = "raised_again"
    RETURNED = "returned"
    ACKNOWLEDGED = "acknowledged"
    RESET = "reset"
    LOST = "lost"
    """Sight of the source was lost."""
    REGAINED = "regained"
    SHELVED = "shelved"
    UNSHELVED = "unshelved"
    """By a person, or because the time was over."""
    REMOVED_FROM_SERVICE = "removed_from_service"
    RETURNED_TO_SERVICE = "returned_to_service"
    CHATTERING = "chattering"
    """Raised three times within a minute; told once more when it is calm."""
    CALMED = "calmed"
    REMINDED = "reminded"
    """Nobody had acknowledged within the repeat interval."""
    EVIDENCE = "evidence"
    """More evidence was saved."""

    @property
    def raises(self) -> bool:
        """Whether this transition puts an alarm before people."""
        return self in (Change.RAISED, Change.RAISED_AGAIN)
