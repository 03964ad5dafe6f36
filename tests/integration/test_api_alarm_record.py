"""The plant-wide record: workers report, people act at the record, evidence follows; nothing twice, nothing lost."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from almenara.alarms import AlarmRecord, AlarmStore, Phase, Rule
from almenara.alarms.records import Directives, Report
from almenara.contracts import Observation
from almenara.evidence import LocalEvidence
from tests.support.api import RunningApi, running_api, wait_until

pytestmark = pytest.mark.slow

AT_ONCE = Rule(on_delay_seconds=0, off_delay_seconds=0, cooldown_seconds=0)
FRAME = b"\xff\xd8 a frame"


class Worker:
    """A worker's own store and evidence, on what might be another machine."""

    def __init__(self, folder: Path, api: RunningApi, name: str = "worker-1") -> None:
        self.name = name
        self.api = api
        self.store = AlarmStore(f"sqlite:///{folder / 'worker.db'}", origin=name, monotonic=time.monotonic)
        self.evidence = LocalEvidence(folder / "evidence")

    def observe(self, anomaly: float, source: str = "line-2/outflow") -> None:
        seen = Observation(source=source, kind="vision", anomaly=anomaly, observed_at=datetime.now(UTC))
        self.store.observe(
            seen,
            AT_ONCE,
            now=time.monotonic(),
            evidence=lambda: self.evidence.save(f"{source}/{time.monotonic_ns()}", {"frame.jpg": FRAME}),
        )

    def changes(self) -> list[Report]:
        return [report for _, report in self.store.changes_after(0, 500)]

    def report(self, reports: list[Report] | None = None, origin: str | None = None) -> httpx.Response:
        chosen = self.changes() if reports is None else reports
        body = {"origin": origin or self.name, "reports": [each.model_dump(mode="json") for each in chosen]}
        return self.api.http.post("/v1/alarms/reports", json=body)

    def directives(self) -> Directives:
        answer = self.api.http.get("/v1/alarms/directives", params={"origin": self.name})
        return Directives.model_validate_json(answer.content)

    def wanted(self) -> tuple[str, ...]:
        """Whose evidence it is asked for next."""
        found: list[str] = []

        def asked() -> bool:
            found.extend(self.directives().evidence_wanted)
            return bool(found)

        wait_until(asked, 10, self.api.log)
        return tuple(found)

    def obey(self) -> None:
        found = self.directives()
        for directive in found.directives:
            self.store.apply(directive)
        ids = [directive.id for directive in found.directives]
        answer = self.api.http.post("/v1/alarms/directives/confirm", json={"origin": self.name, "ids": ids})
        assert answer.status_code == 204

    def put(self, alarm: AlarmRecord, content: bytes, sha256: str = "", name: str = "frame.jpg") -> httpx.Response:
        headers = {"X-Content-SHA256": sha256 or hashlib.sha256(content).hexdigest()}
        return self.api.http.put(f"/v1/alarms/{alarm.id}/evidence/{name}", content=content, headers=headers)

    @property
    def alarm(self) -> AlarmRecord:
        return self.store.alarms()[0]

    @property
    def recorded(self) -> AlarmRecord:
        return AlarmRecord.model_validate_json(self.api.http.get(f"/v1/alarms/{self.alarm.id}").content)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    with running_api(tmp_path_factory.mktemp("record") / "var", {}, ready=False) as running:
        yield running


@pytest.fixture
def worker(api: RunningApi, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Worker]:
    name = f"worker-{abs(hash(request.node.name)) % 10**6}"
    worker = Worker(tmp_path, api, name)
    yield worker
    worker.store.close()


def problem_of(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["type"].removeprefix("urn:almenara:problem:")


def test_a_reported_alarm_is_at_the_record_with_its_worker_and_its_history(worker: Worker) -> None:
    worker.observe(0.9)
    worker.observe(0.0)
    assert worker.report().json() == {"accepted": len(worker.changes())}
    assert worker.recorded.model_dump(exclude={"origin"}) == worker.alarm.model_dump(exclude={"origin"})
    assert worker.recorded.origin == worker.name
    history = worker.api.http.get(f"/v1/alarms/{worker.alarm.id}/history").json()
    assert [each["key"] for each in history] == [each.key for each in worker.store.history(worker.alarm.id)]
    sources = worker.api.http.get("/v1/alarms/sources").json()
    [own] = [each for each in sources if each["origin"] == worker.name]
    assert (own["source"], own["phase"]) == ("line-2/outflow", "returned_unacknowledged")


def test_a_report_that_comes_twice_changes_nothing(worker: Worker) -> None:
    worker.observe(0.9)
    worker.report()
    before = worker.recorded
    assert worker.report().json() == {"accepted": 0}
    assert worker.recorded == before


def test_an_acknowledgement_at_the_record_reaches_the_worker(worker: Worker) -> None:
    worker.observe(0.9)
    worker.report()
    body = {"user": "maria", "comment": "on my way", "verdict": "true_alarm"}
    answer = worker.api.http.post(f"/v1/alarms/{worker.alarm.id}/acknowledge", json=body)
    assert answer.json()["phase"] == "acknowledged"
    worker.obey()
    assert (worker.alarm.phase, worker.alarm.acknowledged_by) == (Phase.ACKNOWLEDGED, "maria")
    assert worker.alarm.verdict == "true_alarm"
    assert worker.directives().directives == ()
    worker.report()
    history = worker.api.http.get(f"/v1/alarms/{worker.alarm.id}/history").json()
    assert [each["change"] for each in history].count("acknowledged") == 1


def test_another_worker_cannot_confirm_what_is_not_for_it(worker: Worker) -> None:
    worker.observe(0.9)
    worker.report()
    worker.api.http.post(f"/v1/alarms/{worker.alarm.id}/acknowledge", json={"user": "maria"})
    [directive] = worker.directives().directives
    body = {"origin": "worker-x", "ids": [directive.id]}
    assert worker.api.http.post("/v1/alarms/directives/confirm", json=body).status_code == 204
    assert worker.directives().directives == (directive,)


def test_a_shelving_and_a_silence_at_the_record_reach_the_worker(worker: Worker) -> None:
    source = f"{worker.name}/outflow"
    worker.observe(0.1, source)
    worker.report()
    shelved = worker.api.http.post("/v1/alarms/shelve", json={"source": source, "user": "maria", "seconds": 600}).json()
    assert (shelved["origin"], shelved["phase"]) == (worker.name, "shelved")
    silence = worker.api.http.post(
        "/v1/alarms/silences", json={"sources": "line-9/*", "user": "maria", "seconds": 600}
    ).json()
    assert silence["id"] in [each.id for each in worker.directives().silences]
    worker.obey()
    assert worker.store.phase(source) is Phase.SHELVED


def test_a_report_of_somebody_else_is_refused(worker: Worker) -> None:
    worker.observe(0.9)
    assert problem_of(worker.report(origin="worker-x")) == (422, "parameters-invalid")
    reports = [worker.changes()[0]] * 501
    assert problem_of(worker.report(reports)) == (422, "parameters-invalid")


def test_evidence_that_cannot_be_read_here_is_wanted_until_it_is_handed_over(worker: Worker) -> None:
    worker.observe(0.9)
    worker.report()
    path = f"/v1/alarms/{worker.alarm.id}/evidence/frame.jpg"
    assert problem_of(worker.api.http.get(path)) == (404, "evidence-gone")
    assert worker.wanted() == (worker.alarm.id,)
    assert worker.put(worker.alarm, FRAME).status_code == 204
    assert worker.put(worker.alarm, FRAME).status_code == 204
    assert worker.directives().evidence_wanted == ()
    assert worker.api.http.get(path).content == FRAME
    worker.observe(0.0)
    worker.report()
    assert worker.api.http.get(path).content == FRAME, "a later report does not hide the copy"
    copies = list((worker.api.log.parent / "evidence" / worker.name).rglob("frame.jpg"))
    assert len(copies) == 1


def test_evidence_that_is_not_what_the_alarm_names_is_refused(worker: Worker) -> None:
    worker.observe(0.9)
    worker.report()
    wrong = hashlib.sha256(b"another").hexdigest()
    assert problem_of(worker.put(worker.alarm, FRAME, wrong)) == (422, "evidence-hash")
    assert problem_of(worker.put(worker.alarm, b"another")) == (409, "evidence-unexpected")
    assert problem_of(worker.put(worker.alarm, FRAME, name="other.jpg")) == (409, "evidence-unexpected")
    too_large = b"\0" * (16 * 2**20 + 1)
    assert problem_of(worker.put(worker.alarm, too_large)) == (413, "body-too-large")
    assert worker.wanted() == (worker.alarm.id,)


def test_the_frame_of_a_false_alarm_becomes_a_confirmed_normal_also_when_it_comes_late(worker: Worker) -> None:
    source = f"{worker.name}-belt"
    worker.observe(0.9, source)
    worker.report()
    body = {"user": "maria", "verdict": "false_alarm"}
    assert worker.api.http.post(f"/v1/alarms/{worker.alarm.id}/acknowledge", json=body).status_code == 200
    normals = worker.api.log.parent / "confirmed-normal" / "vision" / source / "good"
    assert not normals.exists()
    worker.put(worker.alarm, FRAME)
    assert [path.read_bytes() for path in normals.iterdir()] == [FRAME]
