"""How much the alarms ask of people: the figures of ANSI/ISA-18.2 and EEMUA 191 over a period.

The targets in the descriptions are theirs, for one operator in normal operation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
from pydantic import Field

from almenara.alarms.records import AlarmRecord, Transition
from almenara.alarms.vocabulary import PRIORITIES, Change, Phase, Priority
from almenara.contracts import Contract
from almenara.errors import InputError

WINDOW = timedelta(minutes=10)
FLOOD_ABOVE = 10
FLOOD_ENDS_BELOW = 5
STALE_AFTER = timedelta(hours=24)
_UNACKNOWLEDGED = (Phase.UNACKNOWLEDGED, Phase.RETURNED_UNACKNOWLEDGED)


class SourceShare(Contract):
    """What one source contributed."""

    source: str
    raises: int
    share: float = Field(ge=0, le=1, description="of all raises of the period")


class Kpi(Contract):
    """Figures of one period. Shares are 0 to 1; null: nothing to compute it from."""

    since: datetime
    until: datetime = Field(description="not part of the period")
    known_since: datetime | None = Field(
        default=None,
        description="the record begins here, within the period, and rates and shares of time count from here on, over "
        "at least 10 minutes; null: it is older",
    )
    operators: int = Field(ge=1)
    raises: int = Field(description="alarms raised, and raised again")
    alarms_per_operator_hour: float = Field(description="target: about 6; more than 12 are too many")
    peak_in_10_minutes: int = Field(description="most raises in any 10 minutes; target: at most 10 an operator")
    floods: int = Field(description="more than 10 raises an operator in 10 minutes, until there are fewer than 5")
    time_in_flood: float = Field(ge=0, le=1, description="share of the period; target: less than .01")
    chattering_sources: tuple[str, ...] = Field(description="raised three times within a minute; target: none")
    stale_alarms: tuple[str, ...] = Field(description="ids of those that stand for over 24 h; target: fewer than 5")
    top_sources: tuple[SourceShare, ...] = Field(description="at most ten, worst first; target: .01 to .05 in sum")
    priorities: dict[Priority, float] = Field(
        description="share of the alarms raised; target: .8 low, .15 medium, .05 high, under .01 critical"
    )
    median_seconds_to_acknowledgement: float | None
    p95_seconds_to_acknowledgement: float | None = Field(description="one in twenty alarms waited longer")
    unacknowledged: int = Field(description="alarms that nobody has acknowledged yet, whenever they were raised")
    judged: int = Field(description="alarms that a person found true or false")
    false_alarm_share: float | None = Field(description="of those judged")


def kpi(
    alarms: Sequence[AlarmRecord],
    transitions: Sequence[Transition],
    since: datetime,
    until: datetime,
    operators: int = 1,
    *,
    begins: datetime | None = None,
) -> Kpi:
    """Compute the figures of a period.

    Args:
        alarms: all raised in the period and all that stand; others may be among them.
        transitions: all of the period; others may be among them.
        since: begin of the period.
        until: its end.
        operators: how many people share the alarms.
        begins: when the record begins; None: before the period.

    Raises:
        InputError: the period is empty, or nobody is there.
    """
    if since >= until:
        raise InputError("period-empty", f"No time lies between {since} and {until}.", "Let since be before until.")
    if operators < 1:
        raise InputError("operators-missing", f"{operators} operators cannot answer alarms.", "Give at least 1.")
    counted_from = since if begins is None else max(since, min(begins, until - WINDOW))
    raises = sorted((t for t in transitions if t.raised and since <= t.at < until), key=lambda raised: raised.at)
    raised = [alarm for alarm in alarms if since <= alarm.raised_at < until]
    times = [transition.at for transition in raises]
    floods = _floods(times, until, operators)
    waits = [wait for alarm in raised if (wait := _seconds_to_acknowledgement(alarm)) is not None]
    verdicts = [alarm.verdict for alarm in raised if alarm.verdict is not None]
    counts = Counter(alarm.priority for alarm in raised)
    return Kpi(
        since=since,
        until=until,
        known_since=None if begins is None or begins <= since else begins,
        operators=operators,
        raises=len(raises),
        alarms_per_operator_hour=len(raises) / operators / ((until - counted_from) / timedelta(hours=1)),
        peak_in_10_minutes=_peak(times),
        floods=len(floods),
        time_in_flood=sum((end - begin for begin, end in floods), timedelta()) / (until - counted_from),
        chattering_sources=tuple(
            sorted({t.source for t in transitions if t.change is Change.CHATTERING and since <= t.at < until})
        ),
        stale_alarms=tuple(alarm.id for alarm in alarms if alarm.stands and until - alarm.raised_at > STALE_AFTER),
        top_sources=_top_sources(raises),
        priorities={priority: counts[priority] / max(1, len(raised)) for priority in PRIORITIES},
        median_seconds_to_acknowledgement=float(np.median(waits)) if waits else None,
        p95_seconds_to_acknowledgement=float(np.quantile(waits, 0.95)) if waits else None,
        unacknowledged=sum(alarm.phase in _UNACKNOWLEDGED for alarm in alarms),
        judged=len(verdicts),
        false_alarm_share=verdicts.count("false_alarm") / len(verdicts) if verdicts else None,
    )


def _peak(times: Sequence[datetime]) -> int:
    """Most of the sorted times within any 10 minutes."""
    first, most = 0, 0
    for last, time in enumerate(times):
        while time - times[first] >= WINDOW:
            first += 1
        most = max(most, last - first + 1)
    return most


def _floods(times: Sequence[datetime], until: datetime, operators: int) -> list[tuple[datetime, datetime]]:
    """Begin and end of each flood; a raise counts for 10 minutes."""
    changes = sorted([*((time + WINDOW, -1) for time in times), *((time, 1) for time in times)])
    floods: list[tuple[datetime, datetime]] = []
    begin: datetime | None = None
    count = 0
    for time, change in changes:
        count += change
        if begin is None and count > FLOOD_ABOVE * operators:
            begin = time
        elif begin is not None and count < FLOOD_ENDS_BELOW * operators:
            floods.append((begin, min(time, until)))
            begin = None
    return floods


def _top_sources(raises: Sequence[Transition]) -> tuple[SourceShare, ...]:
    ranking = sorted(Counter(raised.source for raised in raises).items(), key=lambda entry: (-entry[1], entry[0]))
    return tuple(SourceShare(source=source, raises=n, share=n / len(raises)) for source, n in ranking[:10])


def _seconds_to_acknowledgement(alarm: AlarmRecord) -> float | None:
    if alarm.acknowledged_at is None or alarm.acknowledged_at < alarm.raised_at:
        return None
    return (alarm.acknowledged_at - alarm.raised_at).total_seconds()
