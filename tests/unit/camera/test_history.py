"""A camera's last seconds: what is kept, for how long, and when a mark is finished."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from camera_worker.history import History, Moment, Moments
from camera_worker.quality import Condition

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def moment(at: float, *, size: int = 10, anomaly: float | None = None) -> Moment:
    return Moment(at, NOON + timedelta(seconds=at), b"x" * size, Condition.GOOD, anomaly)


def filled(history: History, *times: float) -> History:
    for at in times:
        history.add(moment(at))
    return history


def times(moments: Moments) -> list[float]:
    return [moment.monotonic for moment in moments]


def test_only_the_seconds_before_and_after_are_kept() -> None:
    history = filled(History(before=3, after=2), *range(20))
    assert times(history.around(18)) == [15, 16, 17, 18, 19]
    assert times(history.around(0)) == []


def test_of_pictures_in_quick_succession_no_more_than_48_are_kept() -> None:
    history = filled(History(before=5, after=5), *(index / 60 for index in range(1200)))
    kept = times(history.around(15))
    assert 20 < len(kept) <= 48
    assert kept[-1] > 19.7
    assert kept[0] < 10.3


def test_large_pictures_leave_the_ring_before_their_time() -> None:
    history = History(before=60, after=0)
    for at in range(10):
        history.add(moment(at * 2.0, size=5 * 2**20))
    assert times(history.around(18)) == [12, 14, 16, 18]


def test_a_picture_larger_than_the_ring_is_kept_alone() -> None:
    history = filled(History(before=60, after=0), 0)
    history.add(moment(10, size=30 * 2**20))
    assert times(history.around(10)) == [10]


def test_another_clock_begins_a_new_history() -> None:
    history = filled(History(before=10, after=0), 1000, 1001, 5)
    assert times(history.around(5)) == [5]
    assert times(history.around(1001)) == []


def test_a_mark_is_finished_once_when_its_seconds_have_passed() -> None:
    history = filled(History(before=2, after=3), 0, 1, 2, 3)
    finished: list[list[float]] = []
    history.mark(3, lambda moments: finished.append(times(moments)))
    filled(history, 4, 5, 6)
    assert finished == []
    filled(history, 7, 8, 9)
    assert finished == [[1, 2, 3, 4, 5, 6]]


def test_a_mark_in_file_time_has_its_seconds_however_fast_the_file_is_read() -> None:
    history = filled(History(before=5, after=5), *(index / 25 for index in range(250)))
    finished: list[Moments] = []
    history.mark(9.96, finished.append)
    filled(history, *(index / 25 for index in range(250, 2500)))
    (moments,) = finished
    assert times(moments)[0] < 5.3
    assert times(moments)[-1] > 14.6


def test_a_fifth_mark_finishes_the_first() -> None:
    history = filled(History(before=5, after=50), 0)
    finished: list[int] = []
    for number in range(5):
        history.mark(0, lambda _, number=number: finished.append(number))  # type: ignore[misc]
    assert finished == [0]


def test_at_the_end_every_mark_is_finished_with_what_there_is() -> None:
    history = filled(History(before=5, after=50), 0, 2)
    finished: list[list[float]] = []
    for _ in range(2):
        history.mark(0, lambda moments: finished.append(times(moments)))
    history.finish()
    history.finish()
    assert finished == [[0, 2], [0, 2]]
