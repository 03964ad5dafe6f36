"""Pacing: what goes out alone, what together, and when."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from almenara.alarms.channels import Pace
from almenara.alarms.pacing import Send, Wait, Waiting, batch_kind, batch_time, decide, new_batch
from tests.support.alarms import START

PACE = Pace(limit=3, window_seconds=600)
GROUPING = Pace(limit=3, window_seconds=600, group_wait_seconds=30)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def rows(*seconds: float, batch: str | None = None) -> list[Waiting]:
    return [Waiting(number, at(second), batch) for number, second in enumerate(seconds, 1)]


def sent(*seconds: float) -> list[datetime]:
    return [at(second) for second in seconds]


def test_machine_gets_everything_one_at_a_time() -> None:
    assert decide(None, rows(*range(100)), sent(*range(100)), at(100)) == Send((1,), "single")


def test_one_at_a_time_while_there_is_room_for_all() -> None:
    assert decide(PACE, rows(0, 1), sent(-1), at(2)) == Send((1,), "single")


def test_more_than_there_is_room_for_goes_out_as_one_digest_at_once() -> None:
    assert decide(PACE, rows(0, 1, 2), sent(-1), at(2)) == Send((1, 2, 3), "digest")


def test_nothing_goes_out_while_the_window_is_full() -> None:
    assert decide(PACE, rows(4), sent(2, 1, 3), at(5)) == Wait(at(601))


def test_what_waited_for_the_window_goes_out_as_one_digest() -> None:
    assert decide(PACE, rows(4, 5), sent(1, 2, 3), at(700)) == Send((1, 2), "digest")


def test_single_message_that_waited_for_the_window_goes_out_alone() -> None:
    assert decide(PACE, rows(4), sent(1, 2, 3), at(601)) == Send((1,), "single")


def test_full_window_holds_back_a_digest_that_failed_before() -> None:
    assert decide(PACE, rows(4, 5, batch="0-0-digest"), sent(6, 7, 8), at(9)) == Wait(at(606))


def test_batch_that_failed_before_goes_out_as_it_was() -> None:
    key = new_batch("group", at(3))
    waiting = [Waiting(1, at(0)), Waiting(2, at(1), key), Waiting(3, at(2), key), Waiting(4, at(4))]
    assert decide(GROUPING, waiting, [], at(5)) == Send((2, 3), "group", key)


def test_messages_wait_for_others_to_go_with_them() -> None:
    assert decide(GROUPING, rows(0, 7), [], at(10)) == Wait(at(30))
    assert decide(GROUPING, rows(0, 7, 30), [], at(30)) == Send((1, 2, 3), "group")


def test_message_that_nothing_joined_goes_out_alone() -> None:
    assert decide(GROUPING, rows(0), [], at(30)) == Send((1,), "single")


def test_group_may_be_larger_than_the_limit_which_counts_messages() -> None:
    assert decide(GROUPING, rows(*range(20)), sent(-1, -2), at(30)) == Send(tuple(range(1, 21)), "group")


def test_groups_that_waited_for_the_window_are_a_digest() -> None:
    assert decide(GROUPING, rows(0, 1), sent(-3, -2, -1), at(597)) == Send((1, 2), "digest")


def test_times_noted_while_the_clock_was_ahead_do_not_count() -> None:
    assert decide(PACE, rows(0), sent(3600, 3601, 3602), at(1)) == Send((1,), "single")
    ahead = [Waiting(1, at(3600))]
    assert decide(GROUPING, ahead, [], at(1)) == Send((1,), "single")


def test_key_of_a_batch_tells_kind_and_time_and_fits_its_column() -> None:
    now = START + timedelta(microseconds=123457)
    for kind in ("group", "digest"):
        key = new_batch(kind, now)
        assert (batch_kind(key), batch_time(key)) == (kind, now)
        assert len(key) <= 36
    assert new_batch("digest", now)[:8] != new_batch("digest", now)[:8], "people see no more of it"


@given(
    st.lists(st.integers(0, 7200), min_size=1, max_size=60),
    st.integers(1, 5),
    st.integers(1, 900),
    st.sampled_from([0.0, 20.0]),
)
def test_everything_is_sent_once_and_never_more_than_the_limit_in_a_window(
    arrivals: list[int], limit: int, window: int, wait: float
) -> None:
    pace, open_rows = Pace(limit, window, wait), rows(*sorted(arrivals))
    now = at(0)
    log: list[datetime] = []
    told: list[int] = []
    while open_rows:
        waiting = [row for row in open_rows if row.created_at <= now]
        step = decide(pace, waiting, log, now) if waiting else Wait(open_rows[0].created_at)
        if isinstance(step, Wait):
            assert step.until > now
            later = [row.created_at for row in open_rows if row.created_at > now]
            now = min([step.until, *later])
            continue
        log.append(now)
        told += step.ids
        open_rows = [row for row in open_rows if row.id not in step.ids]
    assert told == sorted(told)
    assert all(sum(end - timedelta(seconds=window) < at <= end for at in log) <= limit for end in log)
