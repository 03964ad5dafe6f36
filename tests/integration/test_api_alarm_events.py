"""The stream of alarms over a real connection: live, resumed, ended by the service, refused before it begins."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from almenara.alarms import AlarmStore, Rule
from almenara.alarms.records import Report
from almenara.contracts import Observation
from tests.support.api import RunningApi, running_api

pytestmark = pytest.mark.slow

AT_ONCE = Rule(on_delay_seconds=0, off_delay_seconds=0, cooldown_seconds=0)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[RunningApi]:
    with running_api(tmp_path / "var", {}, ready=False) as running:
        yield running


@pytest.fixture
def store(api: RunningApi) -> Iterator[AlarmStore]:
    with AlarmStore(f"sqlite:///{api.log.parent / 'alarms' / 'api.db'}", monotonic=time.monotonic) as opened:
        yield opened


def observe(store: AlarmStore, anomaly: float) -> None:
    seen = Observation(source="pump-1", kind="vibration", anomaly=anomaly, observed_at=datetime.now(UTC))
    store.observe(seen, AT_ONCE, now=time.monotonic())


Event = dict[str, str]


def events(lines: Iterator[str]) -> Iterator[Event]:
    """What a browser would dispatch, without comments."""
    event: Event = {}
    for line in lines:
        if line == "":
            if "data" in event:
                yield event
            event = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            event[name] = value


def listening(answer: httpx.Response) -> Iterator[str]:
    """The stream's lines once the service says that it listens."""
    lines = answer.iter_lines()
    assert next(lines) == ": listening"
    return lines


def test_what_happens_comes_at_once_as_an_event(api: RunningApi, store: AlarmStore) -> None:
    with api.http.stream("GET", "/v1/alarms/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = events(listening(answer))
        begin = time.monotonic()
        observe(store, 0.9)
        event = next(each for each in found if each["event"] == "raised")
        assert time.monotonic() - begin < 2
    report = Report.model_validate_json(event["data"])
    assert report.alarm is not None
    assert report.alarm.source == "pump-1"
    assert int(event["id"]) > 0


def test_a_client_that_comes_back_misses_nothing(api: RunningApi, store: AlarmStore) -> None:
    with api.http.stream("GET", "/v1/alarms/events") as answer:
        found = events(listening(answer))
        observe(store, 0.9)
        last = next(each for each in found if each["event"] == "raised")
    observe(store, 0.0)
    observe(store, 0.9)
    with api.http.stream("GET", "/v1/alarms/events", headers={"Last-Event-ID": last["id"]}) as answer:
        found = events(listening(answer))
        assert [next(found)["event"] for _ in range(2)] == ["returned", "raised_again"]


def test_a_cursor_that_is_none_is_a_problem_and_no_stream(api: RunningApi) -> None:
    answer = api.http.get("/v1/alarms/events", headers={"Last-Event-ID": "yesterday"})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_open_stream_does_not_hold_the_service_up_when_it_ends(api: RunningApi) -> None:
    with api.http.stream("GET", "/v1/alarms/events") as answer:
        lines = listening(answer)
        begin = time.monotonic()
        api.process.send_signal(signal.SIGTERM)
        assert list(lines)[-1:] in ([], [""])
        assert api.process.wait(10) == 0
        assert time.monotonic() - begin < 6
    assert "Traceback" not in api.log.read_text()
