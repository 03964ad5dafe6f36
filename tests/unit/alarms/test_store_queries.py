"""What can be read from the alarm store."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import column, create_engine, literal, select

from almenara.alarms import AlarmFilter, AlarmStore, Change, Phase
from almenara.alarms.globs import like, matches
from almenara.errors import InputError
from tests.support.alarms import NOW_RULE, SLOW_RULE, Clock, observation, observe


@pytest.fixture
def filled(store: AlarmStore, clock: Clock) -> AlarmStore:
    """Three alarms a second apart: a (ended), b (returned), line-2/c (stands)."""
    for source, rule in (("a", NOW_RULE), ("b", NOW_RULE), ("line-2/c", SLOW_RULE.model_copy(update=_AT_ONCE))):
        observe(store, clock, 0.9, rule, source=source)
        clock.forward(1)
    observe(store, clock, 0.1, source="a")
    observe(store, clock, 0.1, source="b")
    store.acknowledge(store.alarms(AlarmFilter(source="a"))[0].id, "eva")
    return store


_AT_ONCE = {"on_delay_seconds": 0.0}


def named(store: AlarmStore, **where: object) -> list[str]:
    return [alarm.source for alarm in store.alarms(AlarmFilter(**where))]  # type: ignore[arg-type]


def test_alarms_are_listed_newest_first_up_to_a_limit(filled: AlarmStore) -> None:
    assert [alarm.source for alarm in filled.alarms()] == ["line-2/c", "b", "a"]
    assert [alarm.source for alarm in filled.alarms(limit=2)] == ["line-2/c", "b"]


def test_alarms_are_listed_page_by_page(filled: AlarmStore) -> None:
    first = filled.alarms(limit=2)
    assert [alarm.source for alarm in filled.alarms(before=first[-1].id)] == ["a"]


def test_pages_hold_alarms_of_one_moment_too(store: AlarmStore, clock: Clock) -> None:
    for source in "abcd":
        observe(store, clock, 0.9, source=source)
    first = store.alarms(limit=3)
    assert {alarm.source for alarm in first + store.alarms(before=first[-1].id)} == set("abcd")


def test_page_before_an_alarm_that_is_not_known_is_refused(store: AlarmStore) -> None:
    with pytest.raises(InputError, match="no alarm 17"):
        store.alarms(before="17")


def test_alarms_may_be_filtered(filled: AlarmStore, clock: Clock) -> None:
    assert named(filled, source="line-*") == ["line-2/c"]
    assert named(filled, kind="vibration") == []
    assert named(filled, phases=(Phase.RETURNED_UNACKNOWLEDGED, Phase.NORMAL)) == ["b", "a"]
    assert named(filled, priority="critical") == ["line-2/c"]
    assert named(filled, standing=True) == ["line-2/c", "b"]
    assert named(filled, standing=False) == ["a"]
    begin = clock.wall() - timedelta(seconds=3)
    assert named(filled, since=begin + timedelta(seconds=1)) == ["line-2/c", "b"]
    assert named(filled, until=begin + timedelta(seconds=1)) == ["a"]


def test_history_is_all_that_became_of_one_alarm(filled: AlarmStore) -> None:
    [alarm] = filled.alarms(AlarmFilter(source="a"))
    changes = [each.change for each in filled.history(alarm.id)]
    assert changes == [Change.RAISED, Change.RETURNED, Change.ACKNOWLEDGED]
    with pytest.raises(InputError, match="no alarm 17"):
        filled.history("17")


def test_transitions_may_be_asked_for_by_source_and_time(filled: AlarmStore, clock: Clock) -> None:
    assert {each.source for each in filled.transitions("b")} == {"b"}
    begin = clock.wall() - timedelta(seconds=3)
    assert {each.source for each in filled.transitions(until=begin + timedelta(seconds=1))} == {"a"}
    assert {each.source for each in filled.transitions(since=begin + timedelta(seconds=1))} == {"a", "b", "line-2/c"}
    assert [each.change for each in filled.transitions(limit=1)] == [Change.ACKNOWLEDGED]


def test_sources_say_where_they_stand_and_since_when(filled: AlarmStore, clock: Clock) -> None:
    standing = {each.source: (each.phase, each.alarm_id is not None) for each in filled.sources()}
    assert standing == {
        "a": (Phase.NORMAL, False),
        "b": (Phase.RETURNED_UNACKNOWLEDGED, True),
        "line-2/c": (Phase.UNACKNOWLEDGED, True),
    }
    assert [each.since for each in filled.sources()][2] == clock.wall() - timedelta(seconds=1)


def test_changes_can_be_followed_from_any_place(filled: AlarmStore) -> None:
    changes = filled.changes_after(0)
    assert [report.transition for _, report in changes] == filled.transitions()
    places = [place for place, _ in changes]
    assert places == sorted(set(places))
    assert filled.changes_after(places[2], 2) == changes[3:5]
    assert filled.changes_after(places[-1]) == []


def test_change_brings_its_alarm_and_its_source_as_they_stand_now(filled: AlarmStore) -> None:
    report = next(report for _, report in filled.changes_after(0) if report.transition.change is Change.RAISED)
    assert report.alarm == filled.alarms(AlarmFilter(source="a"))[0]
    assert report.status == filled.sources()[0]


def test_change_without_an_alarm_brings_none(store: AlarmStore, clock: Clock) -> None:
    store.observe(observation(0.1), NOW_RULE, now=clock.seconds)
    [(_, report)] = store.changes_after(0)
    assert report.alarm is None


def test_cursors_keep_a_place(store: AlarmStore) -> None:
    assert store.cursor("record") == 0
    store.move_cursor("record", 7)
    store.move_cursor("record", 9)
    store.move_cursor("stream", 2)
    assert (store.cursor("record"), store.cursor("stream")) == (9, 2)


@pytest.mark.parametrize(
    ("glob", "source", "fits"),
    [
        ("*", "line-2/pump", True),
        ("line-2/*", "line-2/pump", True),
        ("line-2/*", "line-20/pump", False),
        ("line-?/pump", "line-2/pump", True),
        ("Line-2/*", "line-2/pump", False),
        ("pump[1]", "pump[1]", True),
        ("pump[12]", "pump1", False),
        ("100%_a\\b", "100%_a\\b", True),
        ("a%", "ab", False),
    ],
)
def test_glob_means_the_same_to_a_silence_and_to_a_query(glob: str, source: str, fits: bool) -> None:
    assert matches(glob, source) is fits
    assert _in_sqlite(glob, source) is fits


@given(st.text("ab*?[]%_\\", max_size=6), st.text("ab[]%_\\", max_size=6))
def test_any_glob_means_the_same_to_a_silence_and_to_a_query(glob: str, source: str) -> None:
    assert _in_sqlite(glob, source) is matches(glob, source)


def _in_sqlite(glob: str, source: str) -> bool:
    with _ENGINE.connect() as connection:
        return bool(connection.execute(select(like(literal(source), glob, "sqlite"))).scalar())


def test_glob_is_a_pattern_of_like_for_postgresql() -> None:
    condition = like(column("source"), "line_1/*?", "postgresql").compile()
    assert list(condition.params.values()) == ["line\\_1/%_"]


_ENGINE = create_engine("sqlite://")


def test_history_of_an_alarm_gives_the_newest_that_were_asked_for(filled: AlarmStore) -> None:
    alarm = next(each for each in filled.alarms() if len(filled.history(each.id)) > 2)
    assert filled.history(alarm.id, limit=2) == filled.history(alarm.id)[-2:]
