"""Alarms over several processes: killed at any moment, started together, driving one source."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from almenara.alarms import AlarmStore, Change, Phase
from tests.support.data import ROOT

CHILD = ROOT / "tests" / "support" / "alarm_child.py"
KILLS = 12

START_AND_OBSERVE = """
import sys, time
from datetime import UTC, datetime
from almenara.alarms import AlarmStore, Rule
from almenara.contracts import Observation
rule = Rule(on_delay_seconds=0, off_delay_seconds=0, cooldown_seconds=0)
sys.stdin.readline()
store = AlarmStore(sys.argv[1])
for number in range(40):
    anomaly = 0.9 if number % 4 < 2 else 0.1
    seen = Observation(source="pump-1", kind="vibration", anomaly=anomaly, observed_at=datetime.now(UTC))
    store.observe(seen, rule, now=time.monotonic())
"""


def start(directory: Path, seed: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(CHILD), str(directory), str(seed)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


@pytest.mark.slow
def test_no_alarm_is_lost_over_a_dozen_kills_and_a_receiver_that_fails_four_times_in_ten(tmp_path: Path) -> None:
    (tmp_path / "raise").touch()
    printed: set[str] = set()
    pauses = random.Random(7)
    for seed in range(KILLS):
        child = start(tmp_path, seed)
        assert child.stdout is not None
        printed.add(child.stdout.readline().strip())
        time.sleep(pauses.uniform(0.2, 1.2))
        child.kill()
        printed |= {line.strip() for line in child.stdout if line.endswith("\n")}
        child.wait()
    (tmp_path / "raise").unlink()
    last = start(tmp_path, KILLS)
    assert last.wait(120) == 0

    store = AlarmStore(f"sqlite:///{tmp_path / 'alarms.db'}")
    alarms = {alarm.id for alarm in store.alarms(limit=100_000)}
    raised = {t.key for t in store.transitions(limit=100_000) if t.raised}
    store.close()
    received = [line.split() for line in (tmp_path / "received").read_text(encoding="utf-8").splitlines()]
    messages = {key: (event, alarm) for key, event, alarm in received}
    copies = Counter(key for key, _, _ in received)
    assert len(alarms) > 5 * KILLS
    assert printed <= alarms, "an alarm that was announced is not in the database"
    assert {key for key, (event, _) in messages.items() if event == "raised"} == raised, "an alarm was not told"
    assert {alarm for event, alarm in messages.values() if event == "raised"} == alarms
    assert sum(copies.values()) > len(copies), "no duplicate came, so that none was recognised by its key"
    assert all(messages[key] == (event, alarm) for key, event, alarm in received), "one key, two messages"
    first_told: dict[tuple[str, str], int] = {}
    for position, (_, event, alarm) in enumerate(received):
        first_told.setdefault((alarm, event), position)
    for alarm, event in first_told:
        if event == "returned":
            assert first_told[alarm, "raised"] < first_told[alarm, "returned"], "told out of order"


def test_processes_that_start_together_share_one_source_without_losing_a_step(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'alarms.db'}"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", START_AND_OBSERVE, url],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(3)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        _, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors
    with AlarmStore(url) as store:
        log = store.transitions("pump-1")
        [alarm] = store.alarms()
        pending = store.pending_deliveries()
    assert log[0].change is Change.REGAINED
    assert all(later.previous is earlier.phase for earlier, later in itertools.pairwise(log))
    told = [t.key for t in log if t.change is not Change.REGAINED]
    assert [delivery.notification.key for delivery in pending] == told
    assert alarm.phase in {Phase.UNACKNOWLEDGED, Phase.RETURNED_UNACKNOWLEDGED}
