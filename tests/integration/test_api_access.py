"""Keys of clients at a running API: scopes, rotation, rate, browsers, and where the service may listen."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from almenara.alarms import AlarmStore, Rule
from almenara.api_keys import create_key, revoke_key
from almenara.contracts import Observation
from tests.support.api import RunningApi, cache_champions, running_api, wait_until
from tests.support.packages import vision_candidate

pytestmark = pytest.mark.slow

OWN = "correct-horse-battery"
AT_ONCE = Rule(on_delay_seconds=0, off_delay_seconds=0, cooldown_seconds=0)
ORIGIN = "https://panel.plant.example"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    var = tmp_path_factory.mktemp("api") / "var"
    cache_champions(var, [vision_candidate()])
    settings = {"ALMENARA_API_KEY": OWN, "ALMENARA_CORS_ORIGINS": f"{ORIGIN}, https://other.example:8443"}
    with running_api(var, settings) as running:
        yield running


@pytest.fixture(scope="module")
def keys(api: RunningApi) -> Path:
    return api.log.parent / "api-keys.json"


def asked(api: RunningApi, path: str, key: str | None, method: str = "GET") -> tuple[int, str]:
    answer = api.http.request(method, path, headers={} if key is None else {"X-API-Key": key})
    code = answer.json().get("type", "") if answer.status_code >= 400 else ""
    return answer.status_code, code.removeprefix("urn:almenara:problem:")


def known(api: RunningApi, key: str, path: str = "/v1/models") -> str:
    """The key, once the service knows it."""
    wait_until(lambda: asked(api, path, key)[0] != 401, 5, api.log)
    return key


def test_each_scope_opens_its_own_routes(api: RunningApi, keys: Path) -> None:
    predict = known(api, create_key(keys, "line-2", ["predict"]))
    operate = known(api, create_key(keys, "control-room", ["operate"]))
    admin = known(api, create_key(keys, "office", ["admin"]))
    report = known(api, create_key(keys, "worker-1", ["report"]))
    judging, alarms = "/v1/vision/unknown/predict", "/v1/alarms"
    assert asked(api, judging, predict, "POST")[1] == "model-unknown"
    assert asked(api, alarms, predict) == (403, "key-scope")
    assert asked(api, "/v1/alarms/reports", report, "POST")[0] == 422
    assert asked(api, "/v1/alarms/reports", predict, "POST") == (403, "key-scope")
    assert asked(api, judging, report, "POST") == (403, "key-scope")
    assert asked(api, judging, operate, "POST") == (403, "key-scope")
    assert asked(api, "/v1/alarms/reports", operate, "POST") == (403, "key-scope")
    assert asked(api, alarms, operate) == (200, "")
    assert asked(api, "/v1/alarms/any/evidence/frame.jpg", predict) == (403, "key-scope")
    assert asked(api, "/v1/alarms/any/evidence/frame.jpg", operate) == (404, "alarm-unknown")
    for path in ("/v1/models", alarms):
        assert asked(api, path, admin) == (200, "")
        assert asked(api, path, OWN) == (200, "")
    assert {asked(api, "/v1/models", key)[0] for key in (predict, operate)} == {200}
    assert asked(api, "/v1/models", None) == (401, "api-key")


def test_a_key_is_taken_away_while_it_runs_and_the_log_names_it_without_showing_it(api: RunningApi, keys: Path) -> None:
    key = known(api, create_key(keys, "guest", ["predict"]))
    answer = api.http.get("/v1/models", headers={"X-API-Key": key})
    assert api.line_of(answer.headers["X-Request-ID"])["key"] == "guest"
    revoke_key(keys, "guest")
    wait_until(lambda: asked(api, "/v1/models", key) == (401, "api-key"), 10, api.log)
    assert key not in api.log.read_text()


def test_too_many_requests_are_told_when_to_come_back(api: RunningApi, keys: Path) -> None:
    key = known(api, create_key(keys, "hasty", ["predict"], requests_per_second=2))
    answers = [api.http.get("/v1/models", headers={"X-API-Key": key}) for _ in range(20)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert {answer.json()["type"] for answer in refused} == {"urn:almenara:problem:rate-limit"}
    assert {answer.headers["Retry-After"] for answer in refused} == {"1"}
    assert api.line_of(refused[0].headers["X-Request-ID"])["key"] == "hasty"
    assert asked(api, "/v1/models", OWN) == (200, "")


@pytest.mark.parametrize(("origin", "allowed"), [(ORIGIN, True), ("https://evil.example", False)])
def test_a_page_of_an_allowed_origin_may_ask(origin: str, allowed: bool, api: RunningApi) -> None:
    asks = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-api-key,content-type",
    }
    before = api.http.options("/v1/vision/any/predict", headers=asks)
    assert (before.status_code == 200) is allowed
    answer = api.http.get("/v1/models", headers={"Origin": origin, "X-API-Key": OWN})
    assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)


def test_no_page_may_ask_unless_it_is_set(tmp_path: Path) -> None:
    with running_api(tmp_path / "var", {}, ready=False) as api:
        answer = api.http.get("/v1/models", headers={"Origin": ORIGIN})
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers


def start(command: list[str], environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def test_without_any_key_it_does_not_listen_beyond_this_machine(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "almenara_api", "--host", "0.0.0.0", "--port", "0"]
    environment = {"ALMENARA_VAR_DIR": str(tmp_path)}
    refused = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert refused.returncode == 2
    assert "almenara keys create" in refused.stderr


def test_the_openapi_tells_of_the_refusals_of_every_route_but_the_open_ones(api: RunningApi) -> None:
    routes = {
        (method, path): route
        for path, methods in api.http.get("/openapi.json").json()["paths"].items()
        for method, route in methods.items()
    }
    open_ones = {path for (_, path), route in routes.items() if not route.get("security")}
    health = {f"{prefix}/health/{which}" for prefix in ("", "/v2") for which in ("live", "ready")}
    assert open_ones == health | {"/metrics", "/v1/webhooks/mlflow"}, "the last one is signed"
    for (method, path), route in routes.items():
        if path not in open_ones:
            assert {"401", "403", "429"} <= set(route["responses"]), (method, path)


def test_a_wrong_origin_is_refused_at_the_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "almenara_api", "--port", "0"]
    environment = {"ALMENARA_VAR_DIR": str(tmp_path), "ALMENARA_CORS_ORIGINS": "panel.example/path"}
    refused = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert refused.returncode == 2
    assert "https://HOST" in refused.stderr


def test_answers_without_a_key_are_problems(api: RunningApi) -> None:
    answer = httpx.get(f"{api.http.base_url}/v1/alarms/kpi")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_stream_of_events_ends_with_its_key(api: RunningApi, keys: Path) -> None:
    key = known(api, create_key(keys, "panel", ["operate"]))
    reporter = known(api, create_key(keys, "worker-2", ["report"]))
    with AlarmStore(f"sqlite:///{api.log.parent / 'alarms' / 'api.db'}", monotonic=time.monotonic) as store:
        url, headers = f"{api.http.base_url}/v1/alarms/events", {"X-API-Key": key}
        with httpx.stream("GET", url, headers=headers, timeout=30) as stream:
            lines = stream.iter_lines()
            assert "listening" in next(lines)
            revoke_key(keys, "panel")
            wait_until(lambda: asked(api, "/v1/models", key)[0] == 401, 10, api.log)
            seen = Observation(
                source="pump", kind="vibration", anomaly=1.0, reason="impacts", observed_at=datetime.now(UTC)
            )
            store.observe(seen, AT_ONCE, now=time.monotonic())
            rest = "\n".join(lines)
    assert "the key is not good any more" in rest
    assert "impacts" not in rest
    assert asked(api, "/v1/models", reporter) == (200, "")
