"""The overlays on a running platform: replicas of which one is killed under traffic, then TLS in front of them."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pytest

from almenara.processes import free_port
from almenara.registry import Registry
from tests.e2e.compose.conftest import NOTES
from tests.support.api import faulty_signal, healthy_features, healthy_signal
from tests.support.engine import ensure_image
from tests.support.packages import classifier_candidate, novelty_candidate
from tests.support.platform_stack import Stack, docker, service_of

pytestmark = pytest.mark.compose

REPLICAS, TLS = "deploy/compose.replicas.yaml", "deploy/compose.tls.yaml"
NGINX = "nginx:1.30.6-trixie"
MODELS = ("overlay", "overlay-baseline-pump")
ASSET = "overlay-pump"
POSTED = {"sampling_rate_hz": "12000", "shaft_rpm": "1772", "bearing": "6205-2RS", "asset": ASSET}
TRAFFIC_SECONDS, CLIENTS = 9.0, 4
MODEL_BYTES = 300 * 2**20


@dataclass(frozen=True)
class Fire:
    """What clients saw while a replica was killed.

    Attributes:
        statuses: of every answer; 0 for a request that got none.
        killed: id of the container.
        alarms: of the asset, afterwards.
    """

    statuses: list[int]
    killed: str
    alarms: list[dict[str, Any]]


def replicas_of(stack: Stack) -> dict[str, str]:
    """Address of each replica on the network of the proxy, by container."""
    network = f"{stack.project}_frontend"
    return {
        each["Id"]: each["NetworkSettings"]["Networks"][network]["IPAddress"]
        for each in stack.containers()
        if service_of(each) == "api" and each["State"]["Running"]
    }


def answered_by(stack: Stack) -> set[str]:
    """Addresses of the replicas that answer some requests sent now."""
    name = f"seen-{time.monotonic_ns()}"
    with stack.api() as api:
        for _ in range(20):
            api.get("/v1/models", headers={"X-Request-ID": name})
    lines = stack.compose("logs", "--no-log-prefix", "--tail", "100", "proxy", files=(REPLICAS,)).stdout.splitlines()
    entries = [json.loads(line) for line in lines if name in line]
    return {each["upstream"].rpartition(", ")[2].partition(":")[0] for each in entries}


def wait_for_all(stack: Stack, count: int, seconds: float = 60) -> None:
    """Wait until as many replicas answer through the proxy, and no other address does."""
    end = time.monotonic() + seconds
    while (seen := answered_by(stack)) != (there := set(replicas_of(stack).values())) or len(there) != count:
        assert time.monotonic() < end, f"{seen} answer, and the replicas are {there}"
        time.sleep(0.5)


def post_window(api: httpx.Client, body: bytes) -> httpx.Response:
    headers = {"content-type": "application/octet-stream"}
    return api.post("/v1/vibration/overlay/predict", content=body, params=POSTED, headers=headers)


@pytest.fixture(scope="module")
def replicas(stack: Stack) -> Iterator[Stack]:
    """Two replicas that serve a bearing classifier and the baseline of an asset."""
    ensure_image(NGINX, "nginx")
    registry = Registry(stack.mlflow_url)
    for candidate in (classifier_candidate(MODELS[0]), novelty_candidate(healthy_features(), ASSET, MODELS[1])):
        made = registry.register(candidate, "overlays")
        registry.promote(made.name, made.version, reason="test")
    NOTES.append(f"up with two replicas: {stack.up(files=(REPLICAS,)):.0f} s")
    try:
        with stack.api() as api:
            end = time.monotonic() + 60
            while '"novelty":{' not in post_window(api, healthy_signal(1).tobytes()).text:
                assert time.monotonic() < end, "the models are not served"
                time.sleep(0.2)
        yield stack
    finally:
        stack.up("--remove-orphans", "--no-deps", "api", "mlflow")
        for name in MODELS:
            mlflow.MlflowClient(stack.mlflow_url).delete_registered_model(name)


@pytest.fixture(scope="module")
def fire(replicas: Stack) -> Fire:
    """Windows of a faulty machine from several clients; after a third of the time one replica is killed."""
    statuses: list[int] = []
    until = time.monotonic() + TRAFFIC_SECONDS
    body = faulty_signal(1).tobytes()
    killed = next(iter(replicas_of(replicas)))

    def post() -> None:
        with replicas.api() as api:
            while time.monotonic() < until:
                try:
                    statuses.append(post_window(api, body).status_code)
                except httpx.TransportError:
                    statuses.append(0)

    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(post) for _ in range(CLIENTS)]
        threading.Event().wait(TRAFFIC_SECONDS / 3)
        docker("exec", killed, "sh", "-c", "kill -KILL -1")
        for each in running:
            each.result()
    with replicas.api() as api:
        alarms = api.get("/v1/alarms", params={"source": ASSET}).json()
    NOTES.append(f"{len(statuses)} predictions while a replica was killed: {statuses.count(200)} answered")
    return Fire(statuses, killed, alarms)


def test_a_killed_replica_costs_no_prediction(fire: Fire) -> None:
    assert len(fire.statuses) > 50
    assert set(fire.statuses) == {200}


def test_replicas_raise_one_alarm_together(fire: Fire) -> None:
    assert len(fire.alarms) == 1


def test_a_replica_that_came_back_is_used_again(replicas: Stack, fire: Fire) -> None:
    wait_for_all(replicas, 2)
    assert fire.killed in replicas_of(replicas)


def test_a_replica_that_was_added_is_used(replicas: Stack) -> None:
    replicas.up("--no-recreate", "--no-deps", "--scale", "api=3", "api", files=(REPLICAS,))
    wait_for_all(replicas, 3)


def test_an_event_is_passed_on_at_once(replicas: Stack) -> None:
    with replicas.api() as api, api.stream("GET", "/v1/alarms/events", timeout=3) as events:
        assert next(events.iter_lines()).startswith(": listening")


def test_figures_of_one_replica_are_not_told_outside(replicas: Stack) -> None:
    assert httpx.get(f"{replicas.api_url}/metrics").status_code == 404
    assert httpx.get(f"{replicas.api_url}/%6detrics").status_code == 404


def test_a_body_above_the_limit_is_refused_as_the_api_does(replicas: Stack) -> None:
    with replicas.api() as api:
        refused = api.post("/v1/vibration/overlay/predict", content=bytes(16 * 2**20 + 1))
    assert refused.status_code == 413
    assert refused.json()["type"] == "urn:almenara:problem:body-too-large"


def test_the_token_of_a_link_is_in_no_log_of_the_proxy(replicas: Stack) -> None:
    assert httpx.get(f"{replicas.api_url}/alarms", params={"token": "99.a-token"}).status_code == 403
    logged = replicas.compose("logs", "proxy", files=(REPLICAS,))
    assert '"path":"/alarms"' in logged.stdout
    assert "a-token" not in logged.stdout + logged.stderr


@dataclass(frozen=True)
class Secured:
    """The platform behind TLS."""

    stack: Stack
    certificate: Path
    settings: dict[str, str]

    @property
    def mlflow_url(self) -> str:
        return f"https://localhost:{self.settings['MLFLOW_TLS_PORT']}"

    def client(self, password: str | None = None) -> httpx.Client:
        trust = ssl.create_default_context(cafile=str(self.certificate))
        login = None if password is None else ("almenara", password)
        return httpx.Client(verify=trust, auth=login, timeout=30, trust_env=False)


@pytest.fixture(scope="module")
def secured(replicas: Stack) -> Iterator[Secured]:
    folder = replicas.directory / "tls"
    folder.mkdir()
    command = "openssl req -x509 -newkey rsa:2048 -noenc -days 30 -subj /CN=localhost -keyout tls.key -out tls.crt"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    subprocess.run([*command.split(), "-addext", names], cwd=folder, check=True, capture_output=True)
    settings = {
        "MLFLOW_PASSWORD": "a-password-of-the-test",
        "API_TLS_PORT": str(free_port()),
        "MLFLOW_TLS_PORT": str(free_port()),
        "MLFLOW_ALLOWED_HOSTS": "mlflow:5000,localhost:*,mlflow.plant.example:*",
    }
    file = replicas.directory / ".env"
    before = file.read_text()
    file.write_text(before + "".join(f"{name}={value}\n" for name, value in settings.items()))
    try:
        NOTES.append(f"up with replicas and TLS: {replicas.up(files=(REPLICAS, TLS)):.0f} s")
        yield Secured(replicas, folder / "tls.crt", settings)
    finally:
        file.write_text(before)


EXPERIMENTS = "/api/2.0/mlflow/experiments/search?max_results=1"


def test_the_api_answers_over_tls(secured: Secured) -> None:
    with secured.client() as client:
        answer = client.get(f"https://localhost:{secured.settings['API_TLS_PORT']}/health/live")
    assert answer.json() == {"status": "live"}


def test_neither_answers_without_tls(secured: Secured) -> None:
    for url in (secured.stack.api_url, secured.stack.mlflow_url):
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)


@pytest.mark.parametrize("password", [None, "a-wrong-password"])
def test_mlflow_asks_for_its_password(secured: Secured, password: str | None) -> None:
    with secured.client(password) as client:
        refused = client.get(secured.mlflow_url + EXPERIMENTS)
    assert refused.status_code == 401
    assert refused.elapsed.total_seconds() > 0.9  # guessing is slow


def test_a_spoofed_host_is_refused_with_the_password_too(secured: Secured) -> None:
    with secured.client(secured.settings["MLFLOW_PASSWORD"]) as client:
        assert client.get(secured.mlflow_url + EXPERIMENTS).status_code == 200
        spoofed = client.get(secured.mlflow_url + EXPERIMENTS, headers={"Host": "evil.example.com"})
    assert spoofed.status_code == 403


@pytest.mark.parametrize(("page", "status"), [("mlflow.plant.example:5443", 200), ("evil.example.com", 403)])
def test_only_pages_of_mlflow_itself_may_change_anything(secured: Secured, page: str, status: int) -> None:
    headers = {"Host": "mlflow.plant.example:5443", "Origin": f"https://{page}"}
    with secured.client(secured.settings["MLFLOW_PASSWORD"]) as client:
        answer = client.post(
            f"{secured.mlflow_url}/ajax-api/2.0/mlflow/experiments/search", json={"max_results": 1}, headers=headers
        )
    assert answer.status_code == status


def test_a_client_with_the_password_logs_a_run_with_a_large_model(
    secured: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "almenara")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", secured.settings["MLFLOW_PASSWORD"])
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(secured.certificate))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    model = tmp_path / "model.bin"
    with model.open("wb") as file:
        file.truncate(MODEL_BYTES)
    client = mlflow.MlflowClient(secured.mlflow_url)
    run = client.create_run(client.create_experiment(f"through TLS {uuid.uuid4()}"))
    client.log_metric(run.info.run_id, "anomaly", 0.5)
    client.log_artifact(run.info.run_id, str(model))
    client.set_terminated(run.info.run_id)
    [stored] = client.list_artifacts(run.info.run_id)
    assert (stored.path, stored.file_size) == ("model.bin", MODEL_BYTES)
    assert client.get_run(run.info.run_id).data.metrics == {"anomaly": 0.5}
