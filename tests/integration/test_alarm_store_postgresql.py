"""Several processes and threads on one alarm database: they do together what one would do alone."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from almenara.alarms import AlarmStore, Change, Phase, Rule, plant
from tests.support.alarms import NOW_RULE, START, Clock, observation, observe
from tests.support.data import ROOT
from tests.support.postgresql import postgresql_server

pytestmark = pytest.mark.slow

WINDOWS = 600
RULE = Rule(on_delay_seconds=3, off_delay_seconds=3, cooldown_seconds=30, k=2, n=3, repeat_interval_seconds=40)

# Windows are judged in their order, each by whichever process is asked: `go N ANOMALY` on its standard input.
CHILD = """
import sys
from datetime import timedelta
from almenara.alarms import AlarmStore
from tests.integration.test_alarm_store_postgresql import RULE
from tests.support.alarms import START, observation
second = 0.0
store = AlarmStore(sys.argv[1], wall_clock=lambda: START + timedelta(seconds=second))
boot = float(sys.argv[2])  # its monotonic clock has an origin of its own
for line in sys.stdin:
    number, anomaly = line.split()
    second = float(number)
    at = START + timedelta(seconds=second)
    store.tick(boot + second)
    store.observe(observation(float(anomaly), at=at), RULE, now=boot + second)
    print("done", flush=True)
"""

RIVAL = """
import sys, time
from almenara.alarms import AlarmStore
from tests.support.alarms import NOW_RULE, START, observation
sys.stdin.readline()
store = AlarmStore(sys.argv[1])
for number in range(40):
    store.observe(observation(0.9 if number % 4 < 2 else 0.1, at=START), NOW_RULE, now=time.monotonic())
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of either kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'alarms.db'}"
        return
    with postgresql_server() as address:
        yield address


def anomaly_of(number: int) -> float:
    """Quiet, flickering, and standing anomalies in turn."""
    phase = number % 120
    return 0.1 if phase < 40 else (0.9 if number % 2 else 0.1) if phase < 70 else 0.9


def outcome(store: AlarmStore) -> tuple[list[Any], list[Any]]:
    log = [(each.change, each.previous, each.phase, each.at) for each in store.transitions(limit=10_000)]
    told = [(each.notification.event, each.notification.at) for each in store.pending_deliveries()]
    return log, told


def test_three_processes_one_of_them_killed_write_the_log_of_one(url: str, tmp_path: Path) -> None:
    now = Clock(seconds=0.0)
    with AlarmStore(f"sqlite:///{tmp_path / 'alone.db'}", wall_clock=now.wall) as alone:
        for number in range(WINDOWS):
            now.seconds = float(number)
            alone.tick(now.seconds)
            observe(alone, now, anomaly_of(number), RULE)
        expected = outcome(alone)
    children = [start(url, boot) for boot in (0.0, 1e6, 77.7)]
    for number in range(WINDOWS):
        if number == WINDOWS // 2:
            children.pop(1).kill()
        child = children[number * 7919 % len(children)]
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(f"{number} {anomaly_of(number)}\n")
        child.stdin.flush()
        assert child.stdout.readline() == "done\n"
    for child in children:
        child.communicate(timeout=30)
    with AlarmStore(url) as store:
        assert outcome(store) == expected
    assert len(expected[0]) > 30
    assert Counter(event for event, _ in expected[1]).keys() == {"raised", "returned", "reminder"}


def start(url: str, boot: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, url, str(boot)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def test_processes_that_start_together_lose_no_step(url: str) -> None:
    rivals = [
        subprocess.Popen(
            [sys.executable, "-c", RIVAL, url], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        for _ in range(3)
    ]
    for rival in rivals:
        assert rival.stdin is not None
        rival.stdin.write("\n")
        rival.stdin.flush()
    for rival in rivals:
        _, errors = rival.communicate(timeout=60)
        assert rival.returncode == 0, errors
    with AlarmStore(url) as store:
        assert_whole(store)
        assert len(store.alarms()) == 1


def assert_whole(store: AlarmStore) -> None:
    """Every step begins where the one before ended, and no message is told twice."""
    log = [each for each in store.transitions(limit=10_000) if each.change is not Change.CHATTERING]
    assert log[0].change is Change.REGAINED
    assert all(later.previous is earlier.phase for earlier, later in itertools.pairwise(log))
    assert {each.alarm_id for each in log if each.raised} == {alarm.id for alarm in store.alarms(limit=10_000)}
    keys = [each.notification.key for each in store.pending_deliveries()]
    assert 0 < len(keys) == len(set(keys))
    assert set(keys) <= {each.key for each in log}


def test_threads_that_hammer_one_source_lose_no_step(url: str) -> None:
    clock, ready = Clock(), threading.Barrier(6)
    stores = [AlarmStore(url, wall_clock=clock.wall) for _ in range(3)]

    def hammer(worker: int) -> None:
        ready.wait()
        store = stores[worker % 3]
        for number in range(25):
            if worker == 5:
                for alarm in store.alarms(limit=1):
                    store.acknowledge(alarm.id, "eva")
            else:
                store.observe(observation(0.9 if number % 4 < 2 else 0.1, at=START), NOW_RULE, now=clock.seconds)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(hammer, range(6)))
    assert_whole(stores[0])
    assert len([alarm for alarm in stores[0].alarms(limit=10_000) if alarm.stands]) <= 1
    for store in stores:
        store.close()


def test_two_processes_of_the_record_take_over_the_same_reports_once(url: str, tmp_path: Path) -> None:
    clock = Clock()
    with AlarmStore(f"sqlite:///{tmp_path / 'worker.db'}", origin="worker-1", wall_clock=clock.wall) as worker:
        for number in range(40):
            clock.forward(1)
            observe(worker, clock, 0.9 if number % 4 < 2 else 0.1, source=f"camera-{number % 5}")
        reports = [report for _, report in worker.changes_after(0)]
        records = [AlarmStore(url, wall_clock=clock.wall) for _ in range(2)]
        ready = threading.Barrier(4)

        def merge(number: int) -> int:
            ready.wait()
            return sum(records[number % 2].merge(reports[first : first + 7]) for first in range(0, len(reports), 7))

        with ThreadPoolExecutor(4) as pool:
            accepted = list(pool.map(merge, range(4)))
        assert sum(accepted) >= len(reports)
        assert sorted(each.key for each in records[0].transitions()) == sorted(
            each.key for each in worker.transitions()
        )
        assert records[0].alarms() == worker.alarms()
        assert records[0].sources() == worker.sources()
    records[0].acknowledge(records[1].alarms()[0].id, "eva")
    assert records[1].directives("worker-1")[0].user == "eva"
    assert records[1].alarms()[0].phase in {Phase.ACKNOWLEDGED, Phase.NORMAL}
    for record in records:
        record.close()


def test_source_is_shelved_at_the_record_while_its_alarm_is_reported(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, merging, shelved = Clock(), threading.Event(), threading.Event()
    keep_status = plant._keep_status

    def keep_status_late(*arguments: Any) -> None:
        merging.set()
        shelved.wait(0.5)
        keep_status(*arguments)

    worker = AlarmStore(f"sqlite:///{tmp_path / 'worker.db'}", origin="worker-1", wall_clock=clock.wall)
    with worker, AlarmStore(url, wall_clock=clock.wall) as record, ThreadPoolExecutor(1) as pool:
        observe(worker, clock, 0.9)
        record.merge([report for _, report in worker.changes_after(0)])
        observe(worker, clock, 0.1)
        monkeypatch.setattr(plant, "_keep_status", keep_status_late)
        merged = pool.submit(record.merge, [report for _, report in worker.changes_after(2)])
        assert merging.wait(5)
        assert record.shelve("outflow-1", "eva", 600) is Phase.SHELVED
        shelved.set()
        assert merged.result(10) == 1
        assert [each.action for each in record.directives("worker-1")] == ["shelve"]
