"""Weekly windows on a local clock: days, midnight, and the two nights a year on which the clock is set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camera_worker.schedule import Schedule, parse_time_zone

MADRID = ZoneInfo("Europe/Madrid")
WEEK = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
ZONES = ["UTC", "Europe/Madrid", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]


def madrid(*active: str) -> Schedule:
    return Schedule.parse("Europe/Madrid", active)


def at(day: int, hour: int, minute: int = 0, *, month: int = 11, fold: int = 0) -> datetime:
    """A moment of 2026 on the clock of Madrid; November 2nd is a Monday."""
    return datetime(2026, month, day, hour, minute, tzinfo=MADRID, fold=fold)


def test_a_window_opens_and_closes_on_its_days() -> None:
    schedule = madrid("mon-fri 06:00-22:00", "sat 08:00-14:00")
    assert not schedule.is_active(at(2, 5, 59))
    assert schedule.is_active(at(2, 6))
    assert schedule.is_active(at(6, 21, 59))
    assert not schedule.is_active(at(6, 22))
    assert not schedule.is_active(at(7, 6))
    assert schedule.is_active(at(7, 8))
    assert not schedule.is_active(at(8, 12))


@pytest.mark.parametrize("days", ["fri-mon", "sun,mon,fri-sat", "SAT-MON,fri"])
def test_days_are_listed_and_ranges_run_past_sunday(days: str) -> None:
    schedule = madrid(f"{days} 10:00-11:00")
    active = [WEEK[number] for number in range(7) if schedule.is_active(at(2 + number, 10, 30))]
    assert active == ["mon", "fri", "sat", "sun"]


def test_a_window_past_midnight_belongs_to_the_day_on_which_it_opens() -> None:
    schedule = madrid("fri 22:00-06:00")
    assert schedule.is_active(at(6, 22))
    assert schedule.is_active(at(7, 5, 59))
    assert not schedule.is_active(at(7, 6))
    assert not schedule.is_active(at(7, 22))
    assert not schedule.is_active(at(6, 5))


def test_the_other_time_zone_of_the_moment_does_not_matter() -> None:
    schedule = madrid("mon 06:00-07:00")
    assert schedule.is_active(at(2, 6, 30).astimezone(timezone(timedelta(hours=9))))


def test_the_next_change_is_told() -> None:
    schedule = madrid("mon-fri 06:00-22:00")
    assert schedule.next_change(at(2, 6)) == at(2, 22)
    assert schedule.next_change(at(6, 22)) == at(9, 6)
    assert schedule.next_change(at(6, 22)).tzinfo is UTC  # type: ignore[union-attr]


def test_windows_that_touch_are_one() -> None:
    assert madrid("mon 06:00-12:00", "mon 12:00-18:00").next_change(at(2, 7)) == at(2, 18)


def test_a_window_until_midnight_meets_the_next_day() -> None:
    assert madrid("mon 22:00-24:00", "tue 00:00-02:00").next_change(at(2, 23)) == at(3, 2)


def test_always_never_changes() -> None:
    assert madrid("daily 00:00-24:00").next_change(at(2, 6)) is None


def test_an_hour_that_the_clock_skips_is_never_shown() -> None:
    """On March 29th the clock goes from 02:00 to 03:00."""
    schedule = madrid("sun 02:15-02:45")
    assert schedule.next_change(at(28, 12, month=3)) == at(5, 2, 15, month=4)
    longer = madrid("sun 02:30-04:00")
    assert longer.next_change(at(28, 12, month=3)) == at(29, 3, month=3)
    assert longer.next_change(at(29, 3, 30, month=3)) == at(29, 4, month=3)


def test_an_hour_that_the_clock_repeats_is_watched_twice() -> None:
    """On October 25th the clock goes from 03:00 back to 02:00."""
    schedule = madrid("sun 02:15-02:45")
    edges = [at(24, 12, month=10)]
    for _ in range(4):
        change = schedule.next_change(edges[-1])
        assert change is not None
        edges.append(change)
    assert edges[1:] == [
        edge.astimezone(UTC)
        for edge in (
            at(25, 2, 15, month=10),
            at(25, 2, 45, month=10),
            at(25, 2, 15, month=10, fold=1),
            at(25, 2, 45, month=10, fold=1),
        )
    ]


def test_a_night_shift_takes_as_long_as_the_clock_makes_it() -> None:
    shift = madrid("daily 22:00-06:00")
    for day, month, hours in ((28, 3, 7), (24, 10, 9), (2, 11, 8)):
        start = at(day, 22, month=month)
        end = shift.next_change(start)
        assert end is not None
        assert end - start.astimezone(UTC) == timedelta(hours=hours)


@given(
    zone=st.sampled_from(ZONES),
    days=st.sampled_from(["daily", "mon-fri", "sat,sun", "sun-tue"]),
    opens=st.integers(0, 24 * 60 - 1),
    length=st.integers(1, 24 * 60 - 1),
    moment=st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)).map(lambda each: each.replace(tzinfo=UTC)),
)
@settings(max_examples=60)
def test_nothing_changes_before_the_next_change(
    zone: str, days: str, opens: int, length: int, moment: datetime
) -> None:
    closes = (opens + length) % (24 * 60)
    schedule = Schedule.parse(zone, [f"{days} {opens // 60:02}:{opens % 60:02}-{closes // 60:02}:{closes % 60:02}"])
    change = schedule.next_change(moment)
    assert change is not None
    now = schedule.is_active(moment)
    assert schedule.is_active(change) is not now
    minutes = int((change - moment) / timedelta(minutes=1))
    assert all(schedule.is_active(moment + timedelta(minutes=n)) is now for n in range(0, minutes, 7))
    assert schedule.is_active(change - timedelta(microseconds=1)) is now


@pytest.mark.parametrize(
    ("active", "words"),
    [
        ("", "is no window"),
        ("mon", "is no window"),
        ("mon 6:00-7:00", "is no window"),
        ("mon 06:00-25:00", "is no window"),
        ("mon 24:00-06:00", "is no window"),
        ("mon 06:60-07:00", "is no window"),
        ("mon-fry 06:00-07:00", "'mon-fry' names no days"),
        ("mon, 06:00-07:00", "'' names no days"),
        ("mon-tue-wed 06:00-07:00", "names no days"),
        ("mon,daily 06:00-07:00", "'daily' names no days"),
        ("mon 06:00-06:00", "closes when it opens"),
    ],
)
def test_what_is_no_window_is_refused_plainly(active: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        madrid(active)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Europe/Madird", "did you mean Europe/Madrid"),
        ("madrid", "did you mean Europe/Madrid"),
        ("New York", "did you mean America/New_York"),
        ("Europe", "there is no time zone 'Europe'"),
        ("", "write an IANA name"),
        ("../../etc/passwd", "there is no time zone"),
        ("x" * 10_000, "write an IANA name"),
        ("a\0b", "there is no time zone"),
    ],
)
def test_an_unknown_zone_names_similar_ones(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_time_zone(name)
