"""When a source's readings become an alarm, and how often people are told of it."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from almenara.alarms.vocabulary import Priority
from almenara.contracts import Contract


class Rule(Contract):
    """Of one source. The state machine takes it at every step, so it may change at any time."""

    threshold: float = Field(default=0.5, gt=0, le=1, description="anomaly, 0-1; .5 is the model card's threshold")
    deadband: float = Field(default=0.05, ge=0, lt=1, description="below threshold - deadband a reading is normal")
    k: int = Field(default=1, ge=1, le=100, description="so many of the last n readings make it abnormal, or normal")
    n: int = Field(default=1, ge=1, le=100, description="how many readings are looked at")
    on_delay_seconds: float = Field(default=2.0, ge=0, description="how long it lasts before an alarm is raised")
    off_delay_seconds: float = Field(default=5.0, ge=0, description="how long it is normal before an alarm returns")
    latch: bool = Field(default=False, description="an alarm that has returned stands until it is reset")
    cooldown_seconds: float = Field(default=60.0, ge=0, description="least time between two messages about a source")
    repeat_interval_seconds: float = Field(
        default=4 * 3600.0, ge=0, description="an alarm nobody acknowledges is told again after this; 0: never"
    )
    stale_after_seconds: float | None = Field(
        default=None, gt=0, description="without a reading for so long the source is unknown; null: never"
    )
    priority: Priority = "high"

    @model_validator(mode="after")
    def _can_return(self) -> Self:
        if self.deadband >= self.threshold:
            raise ValueError(
                f"deadband {self.deadband:g} is not below threshold {self.threshold:g}: the alarm could never return"
            )
        if self.k > self.n:
            raise ValueError(f"k {self.k} is more than n {self.n}: the alarm could never be raised")
        return self
