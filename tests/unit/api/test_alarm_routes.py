"""The alarm routes when something behind them hangs or refuses: the others answer, and the refusal says what it is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DataError, IntegrityError, OperationalError

from almenara.alarms import AlarmStore
from almenara.alarms.records import EvidenceFile, SourceStatus
from almenara.alarms.vocabulary import Phase
from almenara.settings import Settings
from almenara_api import judging, record
from almenara_api.alarm_bodies import Shelving
from almenara_api.metrics import Metrics
from almenara_api.problems import Problem
from almenara_api.routes import alarms, suppression
from almenara_api.services import Services
from tests.support.api import NOWHERE, reported

NOW = datetime(2026, 3, 4, tzinfo=UTC)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    settings = Settings(var_dir=tmp_path, mlflow_tracking_uri=NOWHERE, request_timeout_seconds=3)
    started = Services.start(settings, Metrics())
    yield started
    started.close()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


def while_busy(
    services: Services, gate: threading.Event, call: Callable[[], Coroutine[Any, Any, object]], count: int
) -> list[Problem]:
    """Make many calls that hang, see that the list of sources still comes, and return what some were refused with."""

    async def run() -> list[Problem]:
        calls = [asyncio.create_task(call()) for _ in range(count)]
        await asyncio.sleep(0.1)
        async with asyncio.timeout(1):
            await alarms.sources(services)
        gate.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        return [answer for answer in answers if isinstance(answer, Problem)]

    return asyncio.run(run())


def test_figures_that_take_long_hold_no_alarm_up_and_too_many_are_told_to_come_later(
    services: Services, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "figures", lambda *_: gate.wait())
    refused = while_busy(services, gate, partial(alarms.kpi, services, 24, 1), 20)
    assert len(refused) == 15
    assert {(each.status, each.headers["Retry-After"]) for each in refused} == {(503, "1")}
    assert "wait for the figures" in refused[0].fact


def test_evidence_that_hangs_holds_no_alarm_up(
    services: Services, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = reported("line-2/outflow", NOW)
    services.office.store.merge([report])

    def hang(_: EvidenceFile) -> bytes:
        gate.wait()
        return b""

    monkeypatch.setattr(services.office.evidence, "read", hang)
    assert report.alarm is not None
    read = partial(alarms.evidence, services, report.alarm.id, "frame.jpg")
    assert while_busy(services, gate, read, 10) == []


@pytest.mark.parametrize(
    "error",
    [
        ValueError("A string literal cannot contain NUL (0x00) characters."),
        OverflowError("Python int too large to convert to SQLite INTEGER"),
        DataError("INSERT", {}, Exception("value too long for type character varying(200)")),
        IntegrityError("INSERT", {}, Exception("violates foreign key constraint")),
    ],
)
def test_a_report_that_the_database_cannot_keep_is_422(
    services: Services, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr(services.office.store, "merge", fail)
    with pytest.raises(Problem) as problem:
        record.merge(services.office.store, [])
    assert (problem.value.status, problem.value.code) == (422, "report-unstorable")
    assert str(getattr(error, "orig", error)).rstrip(".") in problem.value.fact


def test_a_number_that_is_too_large_for_the_database_is_422(services: Services) -> None:
    report = reported("line-2/outflow", NOW)
    assert report.alarm is not None
    large = report.model_copy(update={"alarm": report.alarm.model_copy(update={"revision": 2**63})})
    with pytest.raises(Problem) as problem:
        record.merge(services.office.store, [large])
    assert problem.value.code == "report-unstorable"
    assert services.office.store.merge([report]) == 1, "the one that is to blame alone is left out"


def test_a_database_that_is_away_is_no_fault_of_the_report(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> int:
        raise OperationalError("INSERT", {}, Exception("server closed the connection"))

    monkeypatch.setattr(services.office.store, "merge", fail)
    with pytest.raises(OperationalError):
        record.merge(services.office.store, [])


def report_status(store: AlarmStore, origin: str, since: datetime) -> None:
    report = reported("line-2/outflow", NOW, origin)
    status = SourceStatus(source="line-2/outflow", origin=origin, revision=1, phase=Phase.NORMAL, since=since)
    store.merge([report.model_copy(update={"status": status})])


def test_of_two_workers_with_the_same_source_the_answer_is_about_the_one_that_was_acted_on(services: Services) -> None:
    store = services.office.store
    report_status(store, "worker-1", NOW)
    report_status(store, "worker-2", NOW + timedelta(hours=1))
    body = Shelving(source="line-2/outflow", user="maria", seconds=600)
    status = asyncio.run(suppression.shelve(services, body))
    assert (status.origin, status.phase) == ("worker-2", Phase.SHELVED)
    assert [each.origin for each in store.directives("worker-2")] == ["worker-2"]
