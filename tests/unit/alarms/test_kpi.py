"""KPIs of alarm management, from alarms and transitions of known times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from almenara.alarms.kpi import Kpi, SourceShare, kpi
from almenara.alarms.records import AlarmRecord, Transition
from almenara.alarms.vocabulary import Change, Phase
from almenara.errors import InputError

SINCE = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)
UNTIL = SINCE + timedelta(hours=4)


def at(minutes: float) -> datetime:
    return SINCE + timedelta(minutes=minutes)


def transition(minutes: float, source: str = "pump", change: Change = Change.RAISED) -> Transition:
    return Transition(
        key=f"{source}-{minutes}",
        source=source,
        alarm_id=None,
        change=change,
        previous=Phase.PENDING,
        phase=Phase.UNACKNOWLEDGED,
        at=at(minutes),
        anomaly=0.9,
        reason="",
    )


def alarm(minutes: float, **values: Any) -> AlarmRecord:
    given: dict[str, Any] = {
        "id": f"alarm-{minutes}",
        "source": "pump",
        "kind": "vibration",
        "priority": "high",
        "phase": Phase.UNACKNOWLEDGED,
        "score": 0.9,
        "peak": 0.9,
        "reason": "",
        "model": None,
        "evidence": (),
        "raised_at": at(minutes),
        "idempotency_key": str(minutes),
    }
    return AlarmRecord(**{**given, **values})


def of_raises(*minutes: float, operators: int = 1) -> Kpi:
    return kpi([], [transition(minute) for minute in minutes], SINCE, UNTIL, operators)


def test_quiet_period_has_no_figures_to_worry_about() -> None:
    quiet = kpi([], [], SINCE, UNTIL)
    assert (quiet.raises, quiet.peak_in_10_minutes, quiet.floods, quiet.time_in_flood) == (0, 0, 0, 0)
    assert quiet.median_seconds_to_acknowledgement is None
    assert quiet.false_alarm_share is None
    assert quiet.priorities == {"low": 0, "medium": 0, "high": 0, "critical": 0}


def test_rate_counts_raises_an_operator_and_hour() -> None:
    changes = [transition(10), transition(20, change=Change.RAISED_AGAIN), transition(30, change=Change.RETURNED)]
    figures = kpi([], changes, SINCE, UNTIL, operators=2)
    assert figures.raises == 2
    assert figures.alarms_per_operator_hour == 0.25


def test_period_ends_before_its_end() -> None:
    assert of_raises(-1, 0, 239, 240).raises == 2


def test_rate_and_flood_time_count_from_where_the_record_begins() -> None:
    changes = [transition(180 + minute / 2) for minute in range(12)]
    whole, late = kpi([], changes, SINCE, UNTIL), kpi([], changes, SINCE, UNTIL, begins=at(180))
    assert (whole.known_since, late.known_since) == (None, at(180))
    assert (whole.alarms_per_operator_hour, late.alarms_per_operator_hour) == (3, 12)
    assert late.time_in_flood == pytest.approx(4 * whole.time_in_flood)


def test_record_that_is_older_than_the_period_does_not_change_it() -> None:
    changes = [transition(10)]
    assert kpi([], changes, SINCE, UNTIL, begins=SINCE) == kpi([], changes, SINCE, UNTIL)


def test_record_that_has_just_begun_counts_as_ten_minutes() -> None:
    assert kpi([], [transition(239)], SINCE, UNTIL, begins=at(239)).alarms_per_operator_hour == pytest.approx(6)


def test_peak_is_found_across_the_clock_s_ten_minutes() -> None:
    assert of_raises(0, 8, 9, 11, 12, 17.9, 18, 40).peak_in_10_minutes == 5


def test_ten_alarms_in_ten_minutes_are_no_flood() -> None:
    assert of_raises(*(minute / 2 for minute in range(10))).floods == 0


def test_flood_lasts_from_the_eleventh_alarm_until_there_are_fewer_than_five() -> None:
    figures = of_raises(*(minute / 2 for minute in range(11)))
    assert figures.floods == 1
    begin, end = 5.0, 13.0  # the seventh alarm, of minute 3, has left the ten minutes: four are in them
    assert figures.time_in_flood == pytest.approx((end - begin) / 240)


def test_flood_at_the_end_lasts_no_longer_than_the_period() -> None:
    figures = of_raises(*(239 + second / 60 for second in range(11)))
    assert figures.time_in_flood == pytest.approx((60 - 10) / (4 * 3600))


def test_flood_is_measured_an_operator() -> None:
    minutes = [minute / 2 for minute in range(15)]
    assert of_raises(*minutes).floods == 1
    assert of_raises(*minutes, operators=2).floods == 0


def test_sources_that_chattered_are_named_once() -> None:
    changes = [
        transition(1, "b", Change.CHATTERING),
        transition(2, "a", Change.CHATTERING),
        transition(3, "b", Change.CHATTERING),
        transition(300, "late", Change.CHATTERING),
    ]
    assert kpi([], changes, SINCE, UNTIL).chattering_sources == ("a", "b")


def test_alarm_that_stands_for_more_than_a_day_is_stale() -> None:
    day = 24 * 60
    alarms = [alarm(240 - day), alarm(239 - day), alarm(200 - day, phase=Phase.NORMAL)]
    assert kpi(alarms, [], SINCE, UNTIL).stale_alarms == (f"alarm-{239 - day}",)


def test_top_ten_sources_come_with_their_share() -> None:
    changes = [transition(minute, f"s{minute}") for minute in range(11)] + [
        transition(100 + n, "bad") for n in range(9)
    ]
    top = kpi([], changes, SINCE, UNTIL).top_sources
    assert len(top) == 10
    assert top[0] == SourceShare(source="bad", raises=9, share=0.45)


def test_priorities_are_shares_of_the_alarms_raised() -> None:
    alarms = [alarm(1), alarm(2, priority="low"), alarm(3, priority="low"), alarm(4, priority="low"), alarm(-1)]
    assert kpi(alarms, [], SINCE, UNTIL).priorities == {"low": 0.75, "medium": 0, "high": 0.25, "critical": 0}


def test_time_to_acknowledgement_is_that_of_acknowledged_alarms() -> None:
    waits = [1, 2, 3, 4, 100]
    alarms = [alarm(n, acknowledged_at=at(n + wait)) for n, wait in enumerate(waits)] + [alarm(50)]
    figures = kpi(alarms, [], SINCE, UNTIL)
    assert figures.median_seconds_to_acknowledgement == 180
    assert figures.p95_seconds_to_acknowledgement == pytest.approx(60 * (4 + 0.8 * 96))


def test_acknowledgement_of_an_earlier_raise_does_not_count() -> None:
    figures = kpi([alarm(10, acknowledged_at=at(9))], [], SINCE, UNTIL)
    assert figures.median_seconds_to_acknowledgement is None


def test_unacknowledged_alarms_count_whenever_they_were_raised() -> None:
    phases = [Phase.UNACKNOWLEDGED, Phase.RETURNED_UNACKNOWLEDGED, Phase.ACKNOWLEDGED, Phase.LATCHED, Phase.NORMAL]
    alarms = [alarm(-1000 - n, phase=phase) for n, phase in enumerate(phases)]
    assert kpi(alarms, [], SINCE, UNTIL).unacknowledged == 2


def test_false_alarms_are_a_share_of_those_judged() -> None:
    alarms = [alarm(1, verdict="false_alarm"), alarm(2, verdict="true_alarm"), alarm(3, verdict="true_alarm"), alarm(4)]
    figures = kpi(alarms, [], SINCE, UNTIL)
    assert figures.judged == 3
    assert figures.false_alarm_share == pytest.approx(1 / 3)


@pytest.mark.parametrize(("until", "operators", "code"), [(SINCE, 1, "period-empty"), (UNTIL, 0, "operators-missing")])
def test_figures_of_nothing_are_refused(until: datetime, operators: int, code: str) -> None:
    with pytest.raises(InputError) as error:
        kpi([], [], SINCE, until, operators)
    assert error.value.code == code


@given(st.lists(st.floats(0, 239.9), max_size=80), st.integers(1, 3))
@settings(max_examples=100)
def test_peak_and_floods_agree(minutes: list[float], operators: int) -> None:
    figures = of_raises(*minutes, operators=operators)
    assert figures.peak_in_10_minutes <= figures.raises
    assert (figures.floods > 0) == (figures.peak_in_10_minutes > 10 * operators)
    assert 0 <= figures.time_in_flood <= 1
