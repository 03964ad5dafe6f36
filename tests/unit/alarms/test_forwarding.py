"""A worker's way to the plant-wide record and back, over HTTP."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from almenara.alarms import AlarmRecord, AlarmStore, Phase, Rule
from almenara.alarms.forwarding import CURSOR, Forwarder
from almenara.alarms.record_client import RecordAwayError
from almenara.alarms.records import Directive, EvidenceFile, Silence
from almenara.evidence import LocalEvidence
from almenara.processes import free_port
from tests.support.alarms import observation
from tests.support.camera import wait_for
from tests.support.record import RecordServer, record_server

RULE = Rule(on_delay_seconds=0, off_delay_seconds=0, cooldown_seconds=0)
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


class Worker:
    """A worker's store and evidence, and its forwarder."""

    def __init__(self, folder: Path, record: str) -> None:
        self.store = AlarmStore(f"sqlite:///{folder / 'worker.db'}", origin="worker-1")
        self.evidence = LocalEvidence(folder / "evidence")
        self.forwarder = Forwarder(self.store, record, api_key="the-key", origin="worker-1", evidence=self.evidence)

    def see(self, anomaly: float, *, source: str = "outflow-1", files: dict[str, bytes] | None = None) -> AlarmRecord:
        """The newest alarm after a reading."""

        def save() -> tuple[EvidenceFile, ...]:
            return self.evidence.save(f"{source}/now", files) if files else ()

        self.store.observe(observation(anomaly, source=source), RULE, now=time.monotonic(), evidence=save)
        return self.store.alarms()[0]

    @property
    def keys(self) -> list[str]:
        return [transition.key for transition in self.store.transitions()]


@pytest.fixture
def record() -> Iterator[RecordServer]:
    with record_server() as server:
        yield server


@pytest.fixture
def worker(tmp_path: Path, record: RecordServer) -> Iterator[Worker]:
    made = Worker(tmp_path, record.url)
    yield made
    made.forwarder.stop(5)
    made.store.close()


def test_every_transition_is_reported_once_and_in_order(worker: Worker, record: RecordServer) -> None:
    worker.see(0.9)
    worker.forwarder.report()
    worker.see(0.1)
    worker.forwarder.report()
    worker.forwarder.report()
    assert [report.transition.key for report in record.reports] == worker.keys
    assert record.reports[-1].alarm == worker.store.alarms()[0]
    assert record.keys == {"the-key"}
    assert record.origins == {"worker-1"}


def test_what_was_reported_but_not_answered_is_reported_again_with_the_same_key(
    worker: Worker, record: RecordServer
) -> None:
    worker.see(0.9)
    worker.forwarder.report()
    worker.store.move_cursor(CURSOR, 0)  # as a worker that was killed before it noted the answer
    worker.forwarder.report()
    assert [report.transition.key for report in record.reports] == worker.keys * 2


def test_a_connection_that_the_record_has_ended_is_made_again(worker: Worker, record: RecordServer) -> None:
    record.hangs_up = True
    for source in ("a", "b", "c"):
        worker.see(0.9, source=source)
        worker.forwarder.report()
    assert [report.transition.key for report in record.reports] == worker.keys


@pytest.mark.parametrize("status", [301, 401, 404, 500, 503])
def test_a_record_that_does_not_serve_keeps_the_worker_waiting(
    worker: Worker, record: RecordServer, status: int
) -> None:
    worker.see(0.9)
    record.status = status
    with pytest.raises(RecordAwayError, match=f"POST /reports: {status}"):
        worker.forwarder.report()
    record.status = 200
    worker.forwarder.report()
    assert [report.transition.key for report in record.reports] == worker.keys


def test_a_report_that_is_refused_is_logged_and_holds_up_no_other(
    worker: Worker, record: RecordServer, caplog: pytest.LogCaptureFixture
) -> None:
    for index in range(5):
        worker.see(0.9, source=f"outflow-{index}")
    keys = worker.keys
    record.refused = {keys[2]}
    worker.forwarder.report()
    assert [report.transition.key for report in record.reports] == keys[:2] + keys[3:]
    assert f"refuses transition {keys[2]}" in caplog.text
    worker.forwarder.report()
    assert len(record.reports) == len(keys) - 1


def test_an_acknowledgement_at_the_record_is_carried_out_and_confirmed(worker: Worker, record: RecordServer) -> None:
    alarm = worker.see(0.9)
    record.directives = (directive(alarm),)
    worker.forwarder.obey()
    (acknowledged,) = worker.store.alarms()
    assert (acknowledged.phase, acknowledged.acknowledged_by) == (Phase.ACKNOWLEDGED, "ana")
    assert record.confirmed == ["d-1"]


def test_a_directive_that_comes_twice_is_carried_out_once(worker: Worker, record: RecordServer) -> None:
    record.directives = (directive(worker.see(0.9)),)
    worker.forwarder.obey()
    record.confirmed.clear()  # the confirmation was lost
    count = len(worker.keys)
    worker.forwarder.obey()
    assert len(worker.keys) == count
    assert record.confirmed == ["d-1"]


def test_a_directive_that_cannot_be_carried_out_holds_up_no_other(worker: Worker, record: RecordServer) -> None:
    alarm = worker.see(0.9)
    lost = directive(alarm).model_copy(update={"id": "d-0", "alarm_id": "gone", "source": "gone"})
    record.directives = (lost, directive(alarm))
    worker.forwarder.obey()
    assert record.confirmed == ["d-0", "d-1"]
    assert worker.store.phase("outflow-1") is Phase.ACKNOWLEDGED


def test_silences_of_the_record_replace_those_of_the_worker(worker: Worker, record: RecordServer) -> None:
    now = datetime.now(UTC)
    silence = Silence(id="s-1", sources="*", starts_at=now, ends_at=now + timedelta(hours=1), user="ana")
    record.silences = (silence,)
    worker.forwarder.obey()
    assert worker.store.silences() == [silence]
    record.silences = ()
    worker.forwarder.obey()
    assert worker.store.silences() == []


def test_the_record_gets_the_evidence_it_wants(worker: Worker, record: RecordServer) -> None:
    alarm = worker.see(0.9, files={"frame.jpg": b"picture", "verdict.json": b"{}"})
    record.wanted = (alarm.id,)
    worker.forwarder.obey()
    worker.forwarder.report()
    assert record.evidence == {(alarm.id, "frame.jpg"): b"picture", (alarm.id, "verdict.json"): b"{}"}


def test_evidence_that_is_gone_holds_up_nothing(
    worker: Worker, record: RecordServer, caplog: pytest.LogCaptureFixture
) -> None:
    alarm = worker.see(0.9, files={"frame.jpg": b"picture", "verdict.json": b"{}"})
    Path(alarm.evidence[0].uri).unlink()
    record.wanted = (alarm.id, "unknown")
    worker.forwarder.obey()
    worker.forwarder.report()
    assert record.evidence == {(alarm.id, "verdict.json"): b"{}"}
    assert "does not get frame.jpg" in caplog.text
    assert "wants evidence that is not here" in caplog.text


def test_a_running_forwarder_goes_on_when_the_record_comes_back(
    tmp_path: Path, record: RecordServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    worker = Worker(tmp_path, record.url)
    record.status = 503
    worker.forwarder.start()
    alarm = worker.see(0.9)
    record.directives = (directive(alarm),)
    wait_for(lambda: "does not answer as it should: POST /reports: 503" in caplog.text, 10)
    record.status = 200
    wait_for(lambda: [report.transition.key for report in record.reports] == worker.keys, 10)
    wait_for(lambda: record.confirmed == ["d-1"], 10)
    worker.forwarder.stop(5)
    assert not {"alarms-to-record", "alarms-from-record"} & {thread.name for thread in threading.enumerate()}
    assert "answers again" in caplog.text
    assert caplog.text.count("POST /reports: 503") == 1


def test_more_directives_than_one_request_may_confirm_are_confirmed(worker: Worker, record: RecordServer) -> None:
    alarm = worker.see(0.9)
    record.directives = tuple(directive(alarm).model_copy(update={"id": f"d-{number}"}) for number in range(1001))
    worker.forwarder.obey()
    assert record.confirmed == [f"d-{number}" for number in range(1001)]


def test_evidence_that_the_record_cannot_take_now_holds_up_no_other_alarm(
    worker: Worker, record: RecordServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr("almenara.alarms.forwarding.time", SimpleNamespace(monotonic=lambda: now))
    for source in ("a", "b"):
        worker.see(0.9, source=source, files={"frame.jpg": source.encode()})
    alarms = worker.store.alarms()
    record.evidence_status = 503
    for _ in range(3):
        record.wanted = tuple(alarm.id for alarm in alarms)
        worker.forwarder.obey()
        worker.forwarder.report()
    assert caplog.text.count("does not get frame.jpg") == len(alarms)
    record.evidence_status = 200
    now += 61
    worker.forwarder.obey()
    worker.forwarder.report()
    assert record.evidence == {(alarm.id, "frame.jpg"): alarm.source.encode() for alarm in alarms}


def test_a_stopped_forwarder_leaves_the_backlog_to_the_next_start(worker: Worker, record: RecordServer) -> None:
    worker.see(0.9)
    worker.forwarder.stop(1)
    worker.forwarder.report()
    assert record.reports == []


def test_a_record_that_is_not_there_is_away(tmp_path: Path) -> None:
    worker = Worker(tmp_path, f"http://127.0.0.1:{free_port()}")
    worker.see(0.9)
    with pytest.raises(RecordAwayError, match="ConnectionRefusedError"):
        worker.forwarder.report()


def directive(alarm: AlarmRecord) -> Directive:
    return Directive(
        id="d-1",
        origin="worker-1",
        action="acknowledge",
        source=alarm.source,
        alarm_id=alarm.id,
        raise_key=alarm.idempotency_key,
        user="ana",
        at=NOON,
    )


def test_the_record_gives_out_five_hundred_directives_at_a_time(worker: Worker, tmp_path: Path) -> None:
    """More would make an answer, and then a confirmation, that is larger than either side takes."""
    worker.see(0.9)
    with AlarmStore(f"sqlite:///{tmp_path / 'record.db'}") as record:
        record.merge([report for _, report in worker.store.changes_after(0, 100)])
        for number in range(501):
            (record.unshelve if number % 2 else partial(record.shelve, seconds=3600))("outflow-1", "ana")
        first = record.directives("worker-1")
        record.confirm_directives([directive.id for directive in first], "worker-1")
        assert (len(first), len(record.directives("worker-1"))) == (500, 1)
