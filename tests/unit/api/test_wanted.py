"""Which evidence of workers is asked for: found beside the requests, and what is gone for good hides nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from almenara.alarms import AlarmRecord, AlarmStore
from almenara.alarms.records import EvidenceFile
from almenara_api.record import Wanted
from tests.support.api import reported, wait_until


class Storage:
    """Evidence that is gone, all but some files; it can be made to hang."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.reads = 0
        self.answers = threading.Event()
        self.answers.set()

    def read(self, file: EvidenceFile) -> bytes:
        self.reads += 1
        self.answers.wait()
        if file.uri not in self.there:
            raise FileNotFoundError(file.uri)
        return b""


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AlarmStore]:
    with AlarmStore(f"sqlite:///{tmp_path / 'alarms.db'}") as opened:
        yield opened


@pytest.fixture
def storage() -> Iterator[Storage]:
    storage = Storage()
    yield storage
    storage.answers.set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def wanted(store: AlarmStore, storage: Storage, clock: Clock) -> Iterator[Wanted]:
    wanted = Wanted(store, storage, clock)
    wanted.start()
    yield wanted
    wanted.close()


def report(store: AlarmStore, count: int) -> list[AlarmRecord]:
    """Alarms of worker-1, the oldest first."""
    begin = datetime.now(UTC) - timedelta(hours=1)
    reports = [reported(f"camera-{number}", begin + timedelta(seconds=number)) for number in range(count)]
    store.merge(reports)
    return [each.alarm for each in reports if each.alarm is not None]


def asked(wanted: Wanted) -> tuple[str, ...]:
    """What a worker is asked for next."""
    found: list[str] = []

    def some() -> bool:
        found.extend(wanted.of("worker-1"))
        return bool(found)

    wait_until(some, 5)
    return tuple(found)


def settled(wanted: Wanted) -> None:
    """Wait until the searches that were begun have ended."""
    wait_until(lambda: not wanted._sought, 5)


def test_storage_that_hangs_keeps_no_request_waiting(store: AlarmStore, storage: Storage, wanted: Wanted) -> None:
    [alarm] = report(store, 1)
    storage.answers.clear()
    begin = time.monotonic()
    assert [wanted.of("worker-1") for _ in range(5)] == [()] * 5
    assert time.monotonic() - begin < 0.5
    wait_until(lambda: storage.reads == 1, 5)
    storage.answers.set()
    assert asked(wanted) == (alarm.id,)


def test_alarms_whose_evidence_is_gone_for_good_do_not_hide_older_ones(store: AlarmStore, wanted: Wanted) -> None:
    alarms = report(store, 45)
    newest_first = [alarm.id for alarm in reversed(alarms)]
    assert [asked(wanted) for _ in range(3)] == [
        tuple(newest_first[:20]),
        tuple(newest_first[20:40]),
        tuple(newest_first[40:]),
    ]


def test_what_was_asked_for_is_asked_for_again_after_a_pause_that_doubles(
    store: AlarmStore, wanted: Wanted, clock: Clock
) -> None:
    [alarm] = report(store, 1)
    times: list[float] = []
    while len(times) < 4:
        wanted.of("worker-1")
        settled(wanted)
        if wanted.of("worker-1") == (alarm.id,):
            times.append(clock.seconds)
        settled(wanted)
        clock.seconds += 10
    assert times == [0, 30, 90, 210]


def test_evidence_that_has_come_is_not_asked_for_again(
    store: AlarmStore, storage: Storage, wanted: Wanted, clock: Clock
) -> None:
    [alarm] = report(store, 1)
    assert asked(wanted) == (alarm.id,)
    storage.there = {file.uri for file in alarm.evidence}
    clock.seconds += 3600
    for _ in range(3):
        settled(wanted)
        assert wanted.of("worker-1") == ()


def test_a_search_that_fails_is_made_again(
    store: AlarmStore, wanted: Wanted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    [alarm] = report(store, 1)
    alarms: Callable[..., list[AlarmRecord]] = store.alarms

    def fail_once(*args: object, **kwargs: object) -> list[AlarmRecord]:
        monkeypatch.setattr(store, "alarms", alarms)
        raise OperationalError("SELECT 1", {}, Exception("away"))

    monkeypatch.setattr(store, "alarms", fail_once)
    assert asked(wanted) == (alarm.id,)
    assert "which evidence of worker-1 lacks" in caplog.text
