"""The alarms over HTTP: lists, evidence, what people say of them, shelving, silences, figures."""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
import pytest

from almenara.alarms import AlarmRecord, AlarmStore, Phase, Rule
from almenara.alarms.links import Links
from almenara.alarms.records import Silence, SourceStatus
from almenara.contracts import AlarmKind, Observation
from almenara.evidence import LocalEvidence
from tests.support.api import RunningApi, running_api

pytestmark = pytest.mark.slow

KEY = "correct-horse-battery"
AT_ONCE = Rule(on_delay_seconds=0, off_delay_seconds=0, cooldown_seconds=0)
NAMES = (f"asset-{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    with running_api(
        tmp_path_factory.mktemp("api") / "var",
        {"ALMENARA_API_KEY": KEY, "ALMENARA_VIBRATION_STALE_SECONDS": "3600"},
        ready=False,
    ) as running:
        running.http.headers["X-API-Key"] = KEY
        yield running


@pytest.fixture(scope="module")
def plant(api: RunningApi) -> Iterator[AlarmStore]:
    """Another process on the API's alarm database."""
    with AlarmStore(f"sqlite:///{api.log.parent / 'alarms' / 'api.db'}", monotonic=time.monotonic) as store:
        yield store


def observe(
    store: AlarmStore,
    source: str,
    anomaly: float,
    *,
    kind: AlarmKind = "vibration",
    rule: Rule = AT_ONCE,
    evidence: dict[str, bytes] | None = None,
    api: RunningApi | None = None,
) -> None:
    saved = None
    if api is not None and evidence is not None:
        saved = LocalEvidence(api.log.parent / "evidence").save(f"test/{source}", evidence)
    seen = Observation(source=source, kind=kind, anomaly=anomaly, reason="impacts", observed_at=datetime.now(UTC))
    store.observe(seen, rule, now=time.monotonic(), evidence=None if saved is None else lambda: saved)


def raised(
    api: RunningApi, store: AlarmStore, rule: Rule = AT_ONCE, evidence: dict[str, bytes] | None = None
) -> AlarmRecord:
    """A new alarm of a new asset."""
    source = next(NAMES)
    observe(store, source, 0.9, rule=rule, evidence=evidence, api=api)
    [alarm] = alarms_of(api, source=source)
    return alarm


def alarms_of(api: RunningApi, **query: str | float | list[str]) -> list[AlarmRecord]:
    answer = api.http.get("/v1/alarms", params=query)
    assert answer.status_code == 200, answer.text
    return [AlarmRecord.model_validate(each) for each in answer.json()]


def problem_of(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["type"].removeprefix("urn:almenara:problem:")


def act(api: RunningApi, what: str, **body: object) -> httpx.Response:
    return api.http.post(f"/v1/alarms/{what}", json={"user": "maria", **body})


# --- lists ------------------------------------------------------------------------------------------------


def test_alarms_are_found_by_source_kind_phase_priority_and_time(api: RunningApi, plant: AlarmStore) -> None:
    urgent = Rule(on_delay_seconds=0, off_delay_seconds=0, priority="critical")
    observe(plant, "hall/fan-1", 0.9)
    observe(plant, "hall/fan-2", 0.9, rule=urgent)
    observe(plant, "hall/door", 0.9, kind="vision")
    observe(plant, "hall/door", 0.0, kind="vision")

    def found(**query: str | list[str]) -> list[str]:
        return [alarm.source for alarm in alarms_of(api, **({"source": "hall/*"} | query))]

    assert found() == ["hall/door", "hall/fan-2", "hall/fan-1"]
    assert found(source="hall/fan-?") == ["hall/fan-2", "hall/fan-1"]
    assert found(kind="vision") == found(phase="returned_unacknowledged") == ["hall/door"]
    assert len(found(phase=["returned_unacknowledged", "unacknowledged"])) == 3
    assert found(priority="critical") == ["hall/fan-2"]
    assert len(found(standing="true")) == 3
    assert found(standing="false") == []
    later = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    assert found(since=later) == []
    assert len(found(until=later)) == 3


def test_a_long_list_comes_in_pages_that_lead_to_each_other(api: RunningApi, plant: AlarmStore) -> None:
    for number in range(7):
        observe(plant, f"belt/{number}", 0.9)
    pages, url = [], "/v1/alarms?source=belt/*&limit=3"
    while url:
        answer = api.http.get(url)
        pages.append([each["source"] for each in answer.json()])
        url = answer.links["next"]["url"] if "next" in answer.links else ""
    assert pages == [["belt/6", "belt/5", "belt/4"], ["belt/3", "belt/2", "belt/1"], ["belt/0"]]


@pytest.mark.parametrize("query", [{"limit": "1001"}, {"phase": "loud"}, {"since": "2026-03-01T06:00:00"}])
def test_a_filter_that_cannot_be_is_named(api: RunningApi, query: dict[str, str]) -> None:
    answer = api.http.get("/v1/alarms", params=query)
    assert problem_of(answer) == (422, "parameters-invalid")
    assert next(iter(query)) in answer.json()["detail"]


def test_one_alarm_and_what_happened_to_it(api: RunningApi, plant: AlarmStore) -> None:
    alarm = raised(api, plant)
    observe(plant, alarm.source, 0.0)
    assert api.http.get(f"/v1/alarms/{alarm.id}").json()["phase"] == "returned_unacknowledged"
    history = api.http.get(f"/v1/alarms/{alarm.id}/history").json()
    assert [each["change"] for each in history][-2:] == ["raised", "returned"]
    newest = api.http.get(f"/v1/alarms/{alarm.id}/history", params={"limit": 1}).json()
    assert newest == history[-1:]
    too_many = api.http.get(f"/v1/alarms/{alarm.id}/history", params={"limit": 1001})
    assert problem_of(too_many) == (422, "parameters-invalid")


@pytest.mark.parametrize("path", ["", "/history", "/evidence/frame.jpg"])
def test_an_alarm_that_is_not_there_is_404(api: RunningApi, path: str) -> None:
    assert problem_of(api.http.get(f"/v1/alarms/no-such-alarm{path}")) == (404, "alarm-unknown")


def test_every_source_shows_where_it_stands(api: RunningApi, plant: AlarmStore) -> None:
    alarm = raised(api, plant)
    rows = {row["source"]: SourceStatus.model_validate(row) for row in api.http.get("/v1/alarms/sources").json()}
    assert (rows[alarm.source].phase, rows[alarm.source].alarm_id) == (Phase.UNACKNOWLEDGED, alarm.id)


def test_nothing_is_shown_without_the_key(api: RunningApi, plant: AlarmStore) -> None:
    alarm = raised(api, plant)
    for path in ("", "/sources", "/kpi", "/silences", "/events", f"/{alarm.id}", f"/{alarm.id}/history"):
        assert problem_of(api.http.get(f"/v1/alarms{path}", headers={"X-API-Key": ""})) == (401, "api-key"), path
    answer = api.http.post(f"/v1/alarms/{alarm.id}/acknowledge", json={"user": "x"}, headers={"X-API-Key": ""})
    assert problem_of(answer) == (401, "api-key")


# --- evidence ---------------------------------------------------------------------------------------------


def test_evidence_is_opened_with_the_key_or_a_signed_link(api: RunningApi, plant: AlarmStore) -> None:
    alarm = raised(api, plant, evidence={"frame.jpg": b"\xff\xd8picture"})
    path = f"/v1/alarms/{alarm.id}/evidence/frame.jpg"
    answer = api.http.get(path)
    assert (answer.content, answer.headers["content-type"]) == (b"\xff\xd8picture", "image/jpeg")
    token = Links(KEY).sign(path)
    linked = httpx.get(f"{api.http.base_url}{path}", params={"token": token})
    assert (linked.status_code, linked.content) == (200, b"\xff\xd8picture")
    assert problem_of(httpx.get(f"{api.http.base_url}{path}")) == (401, "api-key")
    old = Links(KEY, clock=lambda: time.time() - 8 * 86400).sign(path)
    for wrong in ("x", old, Links("another").sign(path)):
        assert problem_of(httpx.get(f"{api.http.base_url}{path}", params={"token": wrong})) == (403, "link-invalid")
    assert token not in api.log.read_text()


def test_evidence_that_is_not_there_says_why(api: RunningApi, plant: AlarmStore) -> None:
    alarm = raised(api, plant, evidence={"frame.jpg": b"picture"})
    assert problem_of(api.http.get(f"/v1/alarms/{alarm.id}/evidence/other.jpg")) == (404, "evidence-unknown")
    (api.log.parent / "evidence" / "test" / alarm.source / "frame.jpg").unlink()
    assert problem_of(api.http.get(f"/v1/alarms/{alarm.id}/evidence/frame.jpg")) == (404, "evidence-gone")


def test_evidence_is_never_a_page_that_a_browser_runs(api: RunningApi, plant: AlarmStore) -> None:
    alarm = raised(api, plant, evidence={"page.html": b"<script>alert(1)</script>"})
    plant.revise_evidence(alarm.id, tuple(f.model_copy(update={"media_type": "text/html"}) for f in alarm.evidence))
    answer = api.http.get(f"/v1/alarms/{alarm.id}/evidence/page.html")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "sandbox"


# --- what people say of them ------------------------------------------------------------------------------


def test_an_acknowledgement_carries_user_comment_and_verdict(api: RunningApi, plant: AlarmStore) -> None:
    alarm = raised(api, plant)
    answer = act(api, f"{alarm.id}/acknowledge", comment="bearing replaced", verdict="true_alarm")
    seen = AlarmRecord.model_validate(answer.json())
    assert (seen.phase, seen.acknowledged_by, seen.comment, seen.verdict) == (
        Phase.ACKNOWLEDGED,
        "maria",
        "bearing replaced",
        "true_alarm",
    )


def test_a_false_alarm_is_kept_as_a_confirmed_normal(api: RunningApi, plant: AlarmStore) -> None:
    window = io.BytesIO()
    np.savez(window, signal=np.zeros(4, np.float32), sampling_rate_hz=np.float64(12_000), posted_unit=np.asarray("g"))
    alarm = raised(api, plant, evidence={"window.npz": window.getvalue()})
    assert act(api, f"{alarm.id}/acknowledge", verdict="false_alarm").status_code == 200
    folder = api.log.parent / "confirmed-normal" / "vibration" / alarm.source
    [kept] = folder.glob("*.npz")
    assert kept.read_bytes() == window.getvalue()
    assert kept.name in (folder / "manifest.csv").read_text()


@pytest.mark.parametrize("body", [{"user": " "}, {}, {"user": "maria", "verdict": "maybe"}, {"user": "m", "extra": 1}])
def test_an_acknowledgement_that_cannot_be_is_refused(
    api: RunningApi, plant: AlarmStore, body: dict[str, object]
) -> None:
    alarm = raised(api, plant)
    answer = api.http.post(f"/v1/alarms/{alarm.id}/acknowledge", json=body)
    assert problem_of(answer) == (422, "parameters-invalid")
    assert api.http.get(f"/v1/alarms/{alarm.id}").json()["acknowledged_at"] is None


def test_only_a_latched_alarm_is_reset(api: RunningApi, plant: AlarmStore) -> None:
    latching = Rule(on_delay_seconds=0, off_delay_seconds=0, latch=True)
    alarm = raised(api, plant, latching)
    assert problem_of(act(api, f"{alarm.id}/reset")) == (409, "alarm-not-latched")
    act(api, f"{alarm.id}/acknowledge")
    observe(plant, alarm.source, 0.0, rule=latching)
    assert alarms_of(api, source=alarm.source)[0].phase is Phase.LATCHED
    assert act(api, f"{alarm.id}/reset").json()["phase"] == "normal"


# --- suppression ------------------------------------------------------------------------------------------


def test_a_source_is_shelved_and_unshelved(api: RunningApi, plant: AlarmStore) -> None:
    alarm = raised(api, plant)
    shelved = SourceStatus.model_validate(act(api, "shelve", source=alarm.source, seconds=3600).json())
    assert shelved.phase is Phase.SHELVED
    assert shelved.shelved_until is not None
    assert abs(shelved.shelved_until - datetime.now(UTC) - timedelta(hours=1)) < timedelta(seconds=10)
    assert act(api, "unshelve", source=alarm.source).json()["phase"] == "unacknowledged"


def test_a_source_is_taken_out_of_service_and_returned(api: RunningApi, plant: AlarmStore) -> None:
    source = next(NAMES)
    observe(plant, source, 0.1)
    assert act(api, "out-of-service", source=source, comment="overhaul").json()["phase"] == "out_of_service"
    observe(plant, source, 0.9)
    assert alarms_of(api, source=source) == []
    assert act(api, "in-service", source=source).json()["phase"] == "unknown"


@pytest.mark.parametrize("path", ["?source=a%00b", "?before=a%00b", "/a%00b", "/a%00b/history"])
def test_what_no_database_can_look_for_is_refused(api: RunningApi, path: str) -> None:
    assert problem_of(api.http.get(f"/v1/alarms{path}")) == (422, "parameters-invalid")


@pytest.mark.parametrize("what", ["shelve", "unshelve", "out-of-service", "in-service"])
def test_a_source_that_nobody_judges_is_404(api: RunningApi, what: str) -> None:
    body = {"source": "no/such/source"} | ({"seconds": 60} if what == "shelve" else {})
    assert problem_of(act(api, what, **body)) == (404, "source-unknown")


@pytest.mark.parametrize("seconds", [59, 7 * 86400 + 1])
def test_shelving_lasts_a_minute_to_a_week(api: RunningApi, plant: AlarmStore, seconds: int) -> None:
    answer = act(api, "shelve", source="any", seconds=seconds)
    assert problem_of(answer) == (422, "parameters-invalid")


def test_a_silence_is_planned_listed_and_ended(api: RunningApi) -> None:
    begin = datetime.now(UTC) + timedelta(hours=1)
    times = {"starts_at": begin.isoformat(), "ends_at": (begin + timedelta(hours=8)).isoformat()}
    planned = Silence.model_validate(act(api, "silences", sources="line-2/*", comment="shutdown", **times).json())
    now = Silence.model_validate(act(api, "silences", sources="line-3/*", seconds=600).json())
    listed = [each["id"] for each in api.http.get("/v1/alarms/silences").json()]
    assert listed == [now.id, planned.id]
    ended = api.http.delete(f"/v1/alarms/silences/{now.id}", params={"user": "jose"}).json()
    assert ended["ended_by"] == "jose"
    assert [each["id"] for each in api.http.get("/v1/alarms/silences").json()] == [planned.id]
    missing = api.http.delete("/v1/alarms/silences/none", params={"user": "jose"})
    assert problem_of(missing) == (404, "silence-unknown")


@pytest.mark.parametrize(
    "times",
    [
        {},
        {"seconds": 600, "starts_at": "2026-03-01T06:00:00Z"},
        {"starts_at": "2026-03-01T06:00:00Z"},
        {"starts_at": "2026-03-01T06:00:00Z", "ends_at": "2026-03-01T05:00:00Z"},
        {"starts_at": "2020-03-01T06:00:00Z", "ends_at": "2020-03-01T07:00:00Z"},
        {"seconds": 91 * 86400},
    ],
)
def test_a_silence_without_a_clear_time_is_refused(api: RunningApi, times: dict[str, object]) -> None:
    assert problem_of(act(api, "silences", sources="*", **times)) == (422, "parameters-invalid")


# --- figures and documentation ----------------------------------------------------------------------------


def test_the_figures_count_what_was_raised(api: RunningApi, plant: AlarmStore) -> None:
    before = api.http.get("/v1/alarms/kpi").json()["raises"]
    raised(api, plant)
    figures = api.http.get("/v1/alarms/kpi", params={"hours": 2, "operators": 4}).json()
    assert figures["raises"] == before + 1
    begin, end = (
        datetime.fromisoformat(moment) for moment in (figures["known_since"] or figures["since"], figures["until"])
    )
    hours = max(end - begin, timedelta(minutes=10)) / timedelta(hours=1)
    assert figures["alarms_per_operator_hour"] == pytest.approx((before + 1) / hours / 4)
    assert problem_of(api.http.get("/v1/alarms/kpi", params={"hours": 10_000})) == (422, "parameters-invalid")
    times = {"since": "2026-03-02T00:00:00Z", "until": "2026-03-01T00:00:00Z"}
    assert problem_of(api.http.get("/v1/alarms/kpi", params=times)) == (422, "kpi-time")


def test_the_openapi_documents_every_route_of_alarms_with_examples(api: RunningApi) -> None:
    document = api.http.get("/openapi.json").json()
    paths = {path: set(item) for path, item in document["paths"].items() if path.startswith("/v1/alarms")}
    assert len(paths) == 18
    assert paths["/v1/alarms/{alarm_id}/evidence/{name}"] == {"get", "put"}
    for schema in ("Acknowledgement", "Shelving", "NewSilence", "AboutSource"):
        assert "example" in document["components"]["schemas"][schema]
    assert "text/event-stream" in document["paths"]["/v1/alarms/events"]["get"]["responses"]["200"]["content"]
