"""The reserve of disk space: held, given up once for a full disk, taken again when there is room."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from almenara.evidence import DiskReserve, committing

SIZE = 1 << 20


@pytest.fixture
def reserve(tmp_path: Path) -> DiskReserve:
    made = DiskReserve(tmp_path / "alarms" / "reserve", SIZE)
    assert made.restore()
    return made


def test_the_reserve_takes_its_space(reserve: DiskReserve, tmp_path: Path) -> None:
    assert (tmp_path / "alarms" / "reserve").stat().st_blocks * 512 >= SIZE
    assert reserve.restore()
    assert [path.name for path in (tmp_path / "alarms").iterdir()] == ["reserve"]


def test_it_is_given_up_once(reserve: DiskReserve) -> None:
    assert reserve.release()
    assert not reserve.release()


def test_it_is_not_taken_when_too_little_would_be_left(tmp_path: Path) -> None:
    reserve = DiskReserve(tmp_path / "reserve", shutil.disk_usage(tmp_path).free // 2 + (64 << 20))
    assert not reserve.restore()
    assert list(tmp_path.iterdir()) == []


def test_a_reserve_of_another_size_is_made_anew(reserve: DiskReserve, tmp_path: Path) -> None:
    larger = DiskReserve(tmp_path / "alarms" / "reserve", 2 * SIZE)
    assert larger.restore()
    assert (tmp_path / "alarms" / "reserve").stat().st_size == 2 * SIZE


def test_what_a_kill_left_of_it_is_removed_unless_it_is_being_written(tmp_path: Path) -> None:
    old, fresh, foreign = (tmp_path / name for name in (".reserve.0123abcd", ".reserve.4567cdef", ".reserve.old"))
    for path in (old, fresh, foreign):
        path.write_bytes(bytes(SIZE))
    for path in (old, foreign):
        os.utime(path, (0, 0))
    reserve = DiskReserve(tmp_path / "reserve", SIZE)
    for _ in range(2):
        assert reserve.restore()
        assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "reserve", fresh, foreign])
        os.utime(fresh, None)


def sqlite_full() -> Exception:
    cause = sqlite3.OperationalError("database or disk is full")
    cause.sqlite_errorcode = sqlite3.SQLITE_FULL
    return OperationalError("INSERT", {}, cause)


def no_space() -> Exception:
    return OSError(errno.ENOSPC, "No space left on device")


def failing(error: Exception, times: int) -> Callable[[], str]:
    left = [error] * times

    def call() -> str:
        if left:
            raise left.pop()
        return "committed"

    return call


@pytest.mark.parametrize("error", [sqlite_full(), no_space()])
def test_what_fails_on_a_full_disk_is_tried_again_without_the_reserve(reserve: DiskReserve, error: Exception) -> None:
    assert committing(reserve, failing(error, 1)) == "committed"
    assert not reserve.release()


def test_it_is_tried_only_once_more(reserve: DiskReserve) -> None:
    with pytest.raises(OperationalError):
        committing(reserve, failing(sqlite_full(), 2))


def test_without_a_reserve_the_error_goes_up(reserve: DiskReserve) -> None:
    reserve.release()
    with pytest.raises(OperationalError):
        committing(reserve, failing(sqlite_full(), 1))


def test_another_error_keeps_the_reserve(reserve: DiskReserve) -> None:
    with pytest.raises(OperationalError):
        committing(reserve, failing(OperationalError("INSERT", {}, sqlite3.OperationalError("locked")), 1))
    assert reserve.release()
