"""What the worker is told of alarms: when verdicts become one, and what it shows."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from almenara.alarms.rule import Rule
from almenara.alarms.vocabulary import Priority
from almenara.configuration.values import Duration, Number, Part, WholeNumber


class AlarmConfig(Part):
    """When a camera's verdicts become an alarm."""

    threshold: Number = Field(
        default=0.5, gt=0, le=1, title="Threshold", description="anomaly, 0-1; 0.5 is the model's own threshold"
    )
    deadband: Number = Field(
        default=0.05, ge=0, lt=1, title="Deadband", description="normal again below threshold - deadband"
    )
    k: WholeNumber = Field(
        default=1, ge=1, le=100, title="k of n", description="so many of the last `n` verdicts decide, either way"
    )
    n: WholeNumber = Field(default=1, ge=1, le=100, title="n", description="how many verdicts are looked at")
    on_delay: Duration = Field(
        default=2.0, title="On-delay", description="how long an anomaly lasts before an alarm is raised"
    )
    off_delay: Duration = Field(
        default=5.0, title="Off-delay", description="how long pictures are normal before the alarm returns"
    )
    cooldown: Duration = Field(
        default=60.0, title="Cooldown", description="least time between two messages about one camera"
    )
    repeat_interval: Duration = Field(
        default=14400.0, title="Repeat interval", description="an alarm nobody acknowledges is told again; `0s` never"
    )
    latch: bool = Field(
        default=False, title="Latch", description="an alarm that is over stands until somebody resets it"
    )
    priority: Priority = Field(default="high", title="Priority", description="of its alarms")

    @model_validator(mode="after")
    def _can_return(self) -> Self:
        self.rule()
        return self

    def rule(self, stale_after: float | None = None) -> Rule:
        """The same, as the alarm engine takes it; without a verdict for `stale_after` seconds the source is unknown."""
        return Rule(
            threshold=self.threshold,
            deadband=self.deadband,
            k=self.k,
            n=self.n,
            on_delay_seconds=self.on_delay,
            off_delay_seconds=self.off_delay,
            cooldown_seconds=self.cooldown,
            repeat_interval_seconds=self.repeat_interval,
            latch=self.latch,
            stale_after_seconds=stale_after,
            priority=self.priority,
        )


class EvidenceConfig(Part):
    """What an alarm shows beside the picture that raised it."""

    before: Duration = Field(
        default=5.0, le=60, title="Before", description="length of the strip of pictures before the alarm"
    )
    after: Duration = Field(
        default=5.0, le=60, title="After", description="length of the strip of pictures after the alarm"
    )
