"""Vibration in operation: repeats, late windows and trends of two API processes that share one alarm database."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from almenara.api_keys import create_key
from tests.support.api import (
    RunningApi,
    cache_champions,
    faulty_signal,
    healthy_features,
    healthy_signal,
    running_api,
)
from tests.support.packages import classifier_candidate, novelty_candidate
from tests.support.postgresql import postgresql_server

pytestmark = pytest.mark.slow

PREDICT = "/v1/vibration/bearing/predict"
POSTED: dict[str, str | float] = {"sampling_rate_hz": 12_000, "shaft_rpm": 1772, "bearing": "6205-2RS"}
AT_ONCE = {f"ALMENARA_VIBRATION_{name}_SECONDS": "0" for name in ("ON_DELAY", "OFF_DELAY", "COOLDOWN")}
HEALTHY, FAULTY = healthy_signal(40), faulty_signal(0)


@pytest.fixture(scope="module")
def apis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RunningApi]]:
    folder = tmp_path_factory.mktemp("assets")
    healthy = healthy_features()
    baselines = [novelty_candidate(healthy, f"pump-{n}", f"bearing-baseline-pump-{n}") for n in (1, 2, 3)]
    settings = {"ALMENARA_ALARMS_URL": f"sqlite:///{folder / 'alarms.db'}", **AT_ONCE}
    with ExitStack() as stack:
        for name in ("a", "b"):
            cache_champions(folder / name, [classifier_candidate(), *baselines])
        yield [stack.enter_context(running_api(folder / name, settings)) for name in ("a", "b")]


def post(
    api: RunningApi, signal: np.ndarray, key: str | bytes = "", caller: str | None = None, **told: Any
) -> httpx.Response:
    headers = [(b"content-type", b"application/octet-stream")]
    if key:
        headers.append((b"idempotency-key", key if isinstance(key, bytes) else key.encode()))
    if caller is not None:
        headers.append((b"x-api-key", caller.encode()))
    return api.http.post(PREDICT, content=signal.astype("<f4").tobytes(), headers=headers, params={**POSTED, **told})


def replayed(answer: httpx.Response) -> bool:
    assert answer.status_code == 200, answer.text
    return bool(answer.headers.get("idempotent-replayed") == "true")


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].removeprefix("urn:almenara:problem:")


def trend(api: RunningApi, asset: str, **query: str | int) -> list[dict[str, Any]]:
    answer = api.http.get(f"/v1/assets/{quote(asset, safe='')}/trend", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def phase(api: RunningApi, asset: str) -> str:
    return str(next(each["phase"] for each in api.http.get("/v1/alarms/sources").json() if each["source"] == asset))


def test_a_repeat_at_another_process_gets_the_first_verdict_and_moves_no_alarm(apis: list[RunningApi]) -> None:
    one, other = apis
    key = str(uuid.uuid4())
    first = post(one, FAULTY, key, asset="pump-1")
    assert not replayed(first)
    assert phase(one, "pump-1") == "unacknowledged"
    assert not replayed(post(other, HEALTHY, asset="pump-1"))
    assert phase(one, "pump-1") == "returned_unacknowledged"
    for api in (other, one, other):
        again = post(api, FAULTY, key, asset="pump-1")
        assert replayed(again)
        assert again.content == first.content
    assert phase(one, "pump-1") == "returned_unacknowledged"
    assert len(trend(other, "pump-1")) == 2


def test_repeats_at_the_same_moment_are_one(apis: list[RunningApi]) -> None:
    rounds = 12
    with ThreadPoolExecutor(4) as pool:
        for number in range(rounds):
            signal = FAULTY if number == 0 else healthy_signal(number)
            told = {"asset": "pump-2", "record_id": f"record {number}"}
            futures = [pool.submit(post, api, signal, **told) for api in (*apis, *apis)]
            answers = [future.result() for future in futures]
            assert sorted(map(replayed, answers)) == [False, True, True, True]
            assert len({answer.content for answer in answers}) == 1
    assert len(apis[0].http.get("/v1/alarms", params={"source": "pump-2"}).json()) == 1
    assert len(trend(apis[0], "pump-2")) == rounds


def test_a_recording_is_known_by_asset_channel_and_record(apis: list[RunningApi]) -> None:
    api = apis[0]
    content = {**POSTED, "signals": [HEALTHY.tolist()] * 2, "asset": "mill-1", "record_id": "r1"}
    first = api.http.post(PREDICT, json=content)
    again = apis[1].http.post(PREDICT, json=content)
    assert (replayed(first), replayed(again)) == (False, True)
    assert again.json() == first.json()
    assert len(again.json()["verdicts"]) == 2
    assert not replayed(api.http.post(PREDICT, json=content | {"channel": "fan end"}))
    assert not replayed(api.http.post(PREDICT, json=content, headers={"Idempotency-Key": "mill-1 r1"}))
    assert code_of(api.http.post(PREDICT, json=content | {"unit": "g"})) == (422, "idempotency-mismatch")
    assert len(trend(api, "mill-1")) == 6


def test_a_key_stands_for_one_request_and_is_plain_text(apis: list[RunningApi]) -> None:
    key = "line 2, 2026-11-22 #1"
    assert not replayed(post(apis[0], HEALTHY, key))
    assert replayed(post(apis[1], HEALTHY, key))
    assert code_of(post(apis[1], FAULTY, key)) == (422, "idempotency-mismatch")
    assert code_of(post(apis[1], HEALTHY, key, unit="g")) == (422, "idempotency-mismatch")
    for bad in (b"x" * 201, b"tab\tbed", "clé".encode()):
        assert code_of(post(apis[0], HEALTHY, bad)) == (422, "parameters-invalid")


def test_late_windows_join_the_trend_and_leave_the_newer_alarm(apis: list[RunningApi]) -> None:
    one, other = apis
    channel = {"asset": "pump-3", "channel": "drive end"}
    post(one, FAULTY, **channel, measured_at=ago(5), record_id="new")
    for number in range(3):
        late = post(other, HEALTHY, **channel, measured_at=ago(30 - number), record_id=f"old {number}")
        assert "late" in late.json()["quality"]
    assert phase(one, "pump-3") == "unacknowledged"
    kept = trend(one, "pump-3", channel="drive end")
    assert [(each["record_id"], each["late"]) for each in kept] == [
        ("new", False),
        ("old 2", True),
        ("old 1", True),
        ("old 0", True),
    ]
    assert kept[0]["novelty"]["label"] == "anomaly"
    post(other, HEALTHY, **channel, measured_at=ago(1))
    assert phase(one, "pump-3") == "returned_unacknowledged"


def test_a_trend_is_read_page_by_page_whatever_the_asset_is_called(apis: list[RunningApi]) -> None:
    asset = "hall 3/línea/trend"
    for second in range(5):
        post(apis[second % 2], HEALTHY, asset=asset, measured_at=ago(100 - second), unit="g")
    address: str | None = f"/v1/assets/{quote(asset, safe='')}/trend?limit=2"
    pages: list[list[dict[str, Any]]] = []
    while address:
        answer = apis[0].http.get(address)
        pages.append(answer.json())
        address = answer.links.get("next", {}).get("url")
    assert [len(page) for page in pages] == [2, 2, 1]
    times = [each["measured_at"] for page in pages for each in page]
    assert times == sorted(times, reverse=True)
    assert {each["asset"] for page in pages for each in page} == {asset}
    assert len(trend(apis[0], asset, since=times[3], until=times[0])) == 3
    plain = apis[0].http.get(f"/v1/assets/{asset}/trend")
    assert len(plain.json()) == 5, "slashes need no escape"
    assert trend(apis[0], "nobody") == []
    assert code_of(apis[0].http.get("/v1/assets/nobody/trend?before=yesterday")) == (422, "parameters-invalid")
    assert trend(apis[0], asset, limit=1, before=f"{'9' * 17}-{'9' * 18}") == trend(apis[0], asset, limit=1)
    assert code_of(apis[0].http.get("/v1/assets/nobody/trend?since=0001-01-01T00:00:00%2B14:00"))[0] == 422


def test_assets_are_listed_with_what_is_known_of_each(apis: list[RunningApi]) -> None:
    for name in ("fan-a", "fan-b", "fan-c"):
        post(apis[0], HEALTHY, asset=name, channel="drive end")
    first = apis[1].http.get("/v1/assets", params={"after": "fan-", "limit": 2})
    assert [each["asset"] for each in first.json()] == ["fan-a", "fan-b"]
    second = apis[1].http.get(first.links["next"]["url"])
    assert second.json()[0]["asset"] == "fan-c"
    [channel] = second.json()[0]["channels"]
    assert (channel["channel"], channel["anomaly"]) == ("drive end", None)
    metrics = apis[0].http.get("/metrics").text
    assert 'almenara_asset_windows_total{outcome="kept"}' in metrics


def test_without_a_unit_the_level_has_none(apis: list[RunningApi]) -> None:
    bare, told = post(apis[0], HEALTHY, asset="saw-1"), post(apis[0], HEALTHY, asset="saw-1", unit="g")
    assert (bare.json()["unit"], told.json()["unit"]) == (None, "g")
    assert bare.json()["rms"] == pytest.approx(float(HEALTHY.std()), rel=1e-4), "nothing was converted"
    assert [each["unit"] for each in trend(apis[0], "saw-1")] == ["g", None]


def test_keys_of_clients_open_their_own_routes_and_do_not_share_repeats(tmp_path: Path) -> None:
    cache_champions(tmp_path, [classifier_candidate()])
    keys = tmp_path / "api-keys.json"
    line, mill = (create_key(keys, name, ["predict"]) for name in ("line-2", "mill-1"))
    room = create_key(keys, "control-room", ["operate"])
    with running_api(tmp_path, {}) as api:
        assert not replayed(post(api, HEALTHY, "k", line, asset="pump-1"))
        assert not replayed(post(api, HEALTHY, "k", mill, asset="pump-1"))
        assert replayed(post(api, HEALTHY, "k", line, asset="pump-1"))
        for path in ("/v1/assets", "/v1/assets/pump-1/trend"):
            assert code_of(api.http.get(path, headers={"X-API-Key": line})) == (403, "key-scope")
            assert api.http.get(path, headers={"X-API-Key": room}).status_code == 200
            assert api.http.get(path).status_code == 401


def test_without_the_database_only_what_hangs_on_it_is_refused(tmp_path: Path) -> None:
    cache_champions(tmp_path, [classifier_candidate(), novelty_candidate(healthy_features(), "pump-1")])
    with ExitStack() as stack:
        server = stack.enter_context(ExitStack())
        url = server.enter_context(postgresql_server())
        api = stack.enter_context(running_api(tmp_path, {"ALMENARA_ALARMS_URL": url}))
        assert post(api, HEALTHY, asset="pump-1").status_code == 200
        server.close()
        refused = post(api, HEALTHY, asset="pump-1")
        assert code_of(refused) == (503, "alarms-unavailable")
        assert int(refused.headers["retry-after"]) > 0
        for asked in (post(api, HEALTHY, "k"), post(api, HEALTHY, record_id="r1")):
            assert code_of(asked) == (503, "alarms-unavailable")
        for asked in (post(api, HEALTHY, asset="mill-1"), post(api, HEALTHY)):
            assert asked.status_code == 200
        told = [line for line in api.lines() if line["message"] == "a verdict joins no trend"]
        assert [line["asset"] for line in told] == ["mill-1"]
        assert 'almenara_asset_windows_total{outcome="lost"} 1.0' in api.http.get("/metrics").text
