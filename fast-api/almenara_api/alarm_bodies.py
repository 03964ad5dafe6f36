"""What people and workers post about alarms, and the short answers to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from almenara.alarms.records import Report, Silence
from almenara.alarms.vocabulary import Verdict
from almenara.contracts import Contract

MOST_REPORTS = 500
LONGEST_SILENCE_SECONDS = 90 * 86400

NO_NUL = r"^[^\x00]*$"
"""What PostgreSQL can keep as text."""


def _utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("moment", "it lies outside the years 1 to 9999") from None


Moment = Annotated[AwareDatetime, AfterValidator(_utc)]
"""A time with its offset; brought to UTC."""

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=NO_NUL)]
Origin = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=NO_NUL)]


class Signed(Contract):
    """Who does it, and why."""

    user: Name = Field(description="name of the person")
    comment: str = Field(default="", max_length=2000, pattern=NO_NUL)


class Acknowledgement(Signed):
    """Somebody has seen an alarm, and may have looked into it."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"user": "maria", "comment": "belt tracked", "verdict": "true_alarm"}}
    )

    verdict: Verdict | None = Field(
        default=None, description="false_alarm keeps its frame or window as a confirmed normal, for recalibration"
    )


class Reset(Signed):
    """Somebody ends an alarm that is latched."""


class AboutSource(Signed):
    """Somebody does something with a source."""

    model_config = ConfigDict(json_schema_extra={"example": {"source": "line-2/outflow", "user": "maria"}})

    source: Name = Field(description="camera or asset")


class Shelving(AboutSource):
    """Nobody is told of a source for a while."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"source": "line-2/outflow", "user": "maria", "seconds": 7200, "comment": "hopper is cleaned"}
        }
    )

    seconds: float = Field(ge=60, le=7 * 86400, description="how long, from now")


class NewSilence(Signed):
    """A planned time in which nobody is told of some sources: `seconds` from now, or from one moment to another."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"sources": "line-2/*", "seconds": 28800, "user": "maria", "comment": "shutdown of line 2"}
        }
    )

    sources: Name = Field(description="glob, such as line-2/* or *")
    seconds: float | None = Field(default=None, ge=60, le=LONGEST_SILENCE_SECONDS)
    starts_at: Moment | None = None
    ends_at: Moment | None = None

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        if self.seconds is None:
            if self.starts_at is None or self.ends_at is None:
                raise ValueError("give seconds, or starts_at and ends_at")
            if not timedelta(0) < self.ends_at - self.starts_at <= timedelta(seconds=LONGEST_SILENCE_SECONDS):
                raise ValueError("ends_at is after starts_at, at most 90 days")
            if self.ends_at <= datetime.now(UTC):
                raise ValueError("ends_at is over already")
        elif self.starts_at is not None or self.ends_at is not None:
            raise ValueError("give seconds, or starts_at and ends_at, not both")
        return self

    def silence(self) -> Silence:
        """As the store takes it."""
        starts_at = (self.starts_at or datetime.now(UTC)).astimezone(UTC)
        ends_at = starts_at + timedelta(seconds=self.seconds or 0) if self.ends_at is None else self.ends_at
        return Silence(
            sources=self.sources,
            starts_at=starts_at,
            ends_at=ends_at.astimezone(UTC),
            user=self.user,
            comment=self.comment,
        )


class Reports(Contract):
    """What happened at a worker, oldest first."""

    origin: Origin = Field(description="name of the worker")
    reports: tuple[Report, ...] = Field(max_length=MOST_REPORTS)

    @model_validator(mode="after")
    def _own(self) -> Self:
        for index, report in enumerate(self.reports):
            alarm = self.origin if report.alarm is None else report.alarm.origin
            if {report.transition.origin, alarm} != {self.origin}:
                raise ValueError(f"reports.{index} is not of {self.origin}")
        return self


class Accepted(Contract):
    """How many of the reports were new."""

    accepted: int


class Confirmation(Contract):
    """Which directives a worker has carried out."""

    origin: Origin
    ids: tuple[Annotated[str, Field(max_length=36, pattern=NO_NUL)], ...] = Field(max_length=1000)
