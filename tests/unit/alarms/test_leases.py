"""Leases: one holder at a time, whoever dies, hangs or has a wrong clock."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from almenara.alarms.database import open_database
from almenara.alarms.leases import Lease, Leases
from tests.support.alarms import START, Clock
from tests.support.data import ROOT

HOLD_AND_WAIT = """
import sys
from datetime import datetime
from almenara.alarms.database import open_database
from almenara.alarms.leases import Leases
leases = Leases(open_database(sys.argv[1]))
now = datetime.fromisoformat(sys.argv[2])
print(leases.hold("ticks", "child", now, 30) and leases.hold("channel:log", "child", now, 30), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = open_database(url)
    yield engine
    engine.dispose()


def test_lease_has_one_holder(engine: Engine) -> None:
    one, two = Leases(engine), Leases(engine)
    assert one.hold("ticks", "one", START, 30)
    assert not two.hold("ticks", "two", START + timedelta(seconds=29.9), 30)
    assert two.hold("channel:log", "two", START, 30)


def test_holder_may_hold_longer(engine: Engine) -> None:
    leases = Leases(engine)
    assert leases.hold("ticks", "one", START, 30)
    assert leases.hold("ticks", "one", START + timedelta(seconds=20), 30)
    assert not leases.hold("ticks", "two", START + timedelta(seconds=49), 30)


def test_lease_of_a_holder_that_hangs_runs_out(engine: Engine) -> None:
    leases = Leases(engine)
    assert leases.hold("ticks", "one", START, 30)
    assert leases.hold("ticks", "two", START + timedelta(seconds=30), 30)
    assert not leases.hold("ticks", "one", START + timedelta(seconds=31), 30)


def test_released_lease_is_free_at_once(engine: Engine) -> None:
    leases = Leases(engine)
    assert leases.hold("ticks", "one", START, 30)
    leases.release("ticks", "one")
    assert leases.hold("ticks", "two", START, 30)


def test_release_by_somebody_else_changes_nothing(engine: Engine) -> None:
    leases = Leases(engine)
    assert leases.hold("ticks", "one", START, 30)
    leases.release("ticks", "two")
    assert not leases.hold("ticks", "two", START, 30)


def test_lease_taken_while_the_clock_was_ahead_does_not_count(engine: Engine) -> None:
    leases = Leases(engine)
    assert leases.hold("ticks", "one", START + timedelta(hours=1), 30)
    assert leases.hold("ticks", "two", START, 30)


def test_leases_of_a_killed_process_are_free_at_once(engine: Engine, url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD_AND_WAIT, url, START.isoformat()]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    leases = Leases(engine)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "True\n"
        assert not leases.hold("ticks", "parent", START, 30)
    finally:
        child.kill()
        child.communicate()
    assert leases.hold("ticks", "parent", START, 30)
    assert leases.hold("channel:log", "parent", START, 30)
    assert [path.name for path in (tmp_path / "alarms").glob("*.alive")] == ["alarms.db.parent.alive"]


def test_files_of_processes_that_died_are_removed_and_those_of_others_stay(engine: Engine, tmp_path: Path) -> None:
    folder, living = tmp_path / "alarms", Leases(engine)
    assert living.hold("ticks", "lives", START, 30)
    for name in ("alarms.db.died.alive", "other.db.died.alive"):
        (folder / name).touch()
    assert Leases(engine).hold("channel:log", "new", START, 30)
    left = {path.name for path in folder.glob("*.alive")}
    assert left == {"alarms.db.lives.alive", "alarms.db.new.alive", "other.db.died.alive"}


def test_holder_whose_file_is_swept_before_it_is_locked_is_seen_to_live(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, lock = tmp_path / "alarms" / "alarms.db.one.alive", fcntl.flock
    swept = threading.Event()

    def sweep_first(*arguments: Any) -> None:
        if not swept.is_set():
            file.unlink()
            swept.set()
        lock(*arguments)

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    assert Leases(engine).hold("ticks", "one", START, 30)
    assert swept.is_set()
    assert file.exists()


def test_nothing_is_left_beside_the_database_of_a_holder_that_let_go(engine: Engine, tmp_path: Path) -> None:
    leases = Leases(engine)
    for name in ("ticks", "channel:log"):
        assert leases.hold(name, "one", START, 30)
    leases.release("ticks", "one")
    assert not Leases(engine).hold("channel:log", "two", START, 30), "it lives, and still has the other"
    leases.release("channel:log", "one")
    assert list((tmp_path / "alarms").glob("*.alive")) == []


def test_of_many_that_ask_at_once_one_gets_it(engine: Engine) -> None:
    ready, holders = threading.Barrier(8), []

    def ask(owner: str) -> None:
        leases = Leases(engine)
        ready.wait(5)
        if leases.hold("ticks", owner, START, 30):
            holders.append((owner, leases))

    threads = [threading.Thread(target=ask, args=(f"owner-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(holders) == 1


def test_holder_writes_only_when_half_of_its_time_is_over(engine: Engine, clock: Clock) -> None:
    leases = Leases(engine)
    lease = Lease(leases, "ticks", owner="one", seconds=30, wall_clock=clock.wall)

    def until() -> object:
        with engine.begin() as connection:
            return connection.exec_driver_sql("SELECT until FROM alarm_leases").scalar()

    assert lease.held()
    first = until()
    clock.forward(14)
    assert lease.held()
    assert until() == first
    clock.forward(1)
    assert lease.held()
    assert until() != first


def test_holder_that_lost_its_lease_knows_it(engine: Engine, clock: Clock) -> None:
    leases = Leases(engine)
    lease = Lease(leases, "ticks", owner="one", seconds=30, wall_clock=clock.wall)
    assert lease.held()
    clock.forward(40)
    assert leases.hold("ticks", "two", clock.wall(), 30)
    assert not lease.held()
    assert not lease.known
    lease.release()
    assert not lease.held(), "what it does not have it does not release"
