"""The API's process: its start without a registry, its key, its end."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import httpx
import pytest

from tests.support.api import cache_champions, healthy_signal, running_api, wait_until
from tests.support.packages import classifier_candidate, vision_candidate


def problem_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].removeprefix("urn:almenara:problem:")


@pytest.mark.slow
def test_a_registry_that_accepts_and_never_answers_does_not_hold_the_start_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=50) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        cache_champions(tmp_path / "var", [vision_candidate()], address)
        with running_api(tmp_path / "var", {"MLFLOW_TRACKING_URI": address}, ready=False) as api:
            api.wait_ready(30)
            assert api.http.get("/health/ready").json()["registry"] == "away"


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with running_api(tmp_path / "var", {}, ready=False) as api:
        api.process.send_signal(number)
        assert api.process.wait(10) == 0
        assert "Traceback" not in api.log.read_text()


@pytest.mark.slow
def test_a_service_without_models_is_live_but_not_ready(tmp_path: Path) -> None:
    with running_api(tmp_path / "var", {}, ready=False) as api:
        wait_until(lambda: "registry-away" in api.http.get("/health/ready").text, 30, api.log)
        assert api.http.get("/health/live").status_code == 200
        assert problem_of(api.http.post("/v1/vision/any/predict", content=b"")) == (503, "registry-away")
        told = api.http.get("/v1/models").json()
        assert (told["registry"], told["models"]) == ("away", [])
        assert told["missing"]["type"] == "urn:almenara:problem:registry-away"


def test_a_key_is_required_once_there_is_one_and_the_log_never_shows_it(tmp_path: Path) -> None:
    cache_champions(tmp_path / "var", [vision_candidate()])
    key = "correct-horse-battery"
    with running_api(tmp_path / "var", {"ALMENARA_API_KEY": key}) as api:
        missing = api.http.get("/v1/models")
        assert problem_of(missing) == (401, "api-key")
        assert missing.headers["www-authenticate"].startswith("ApiKey")
        assert problem_of(api.http.get("/v1/models", headers={"X-API-Key": "wrong"})) == (401, "api-key")
        assert problem_of(api.http.get("/v1/models", headers=[(b"X-API-Key", b"caf\xe9")])) == (401, "api-key")
        assert api.http.get("/v1/models", headers={"X-API-Key": key}).status_code == 200
        assert key not in api.log.read_text()


@pytest.mark.slow
def test_a_connection_that_was_idle_for_some_seconds_is_still_open(tmp_path: Path) -> None:
    asked = b"GET /health/live HTTP/1.1\r\nHost: api\r\n\r\n"
    with (
        running_api(tmp_path / "var", {}, ready=False) as api,
        socket.create_connection((api.http.base_url.host, api.http.base_url.port or 0), 10) as client,
    ):
        for pause in (7.0, 0.0):
            client.sendall(asked)
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
            time.sleep(pause)


def begun(address: httpx.URL, body: bytes) -> socket.socket:
    """A request whose body has not quite arrived."""
    head = (
        "POST /v1/vibration/bearing/predict?sampling_rate_hz=12000&shaft_rpm=1772&bearing=6205-2RS HTTP/1.1\r\n"
        f"Host: api\r\nContent-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    client = socket.create_connection((address.host, address.port or 80), 30)
    client.sendall(head.encode() + body[:-4])
    return client


def read_all(client: socket.socket) -> bytes:
    """What comes until the other side closes."""
    return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.mark.slow
def test_a_stopping_service_answers_what_it_has_begun_and_refuses_what_is_new(tmp_path: Path) -> None:
    cache_champions(tmp_path / "var", [classifier_candidate()])
    body = healthy_signal(0).tobytes()
    with running_api(tmp_path / "var", {}) as api, begun(api.http.base_url, body) as unfinished:
        others = [httpx.Client(base_url=api.http.base_url, timeout=30) for _ in range(3)]
        for other in others:  # their connections are kept alive: nobody listens for new ones then
            assert other.get("/health/live").status_code == 200
        api.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not_listening(api.http.base_url), 10, api.log)
        ready, predicted, live = (
            others[0].get("/health/ready"),
            others[1].post("/v1/vibration/bearing/predict", content=body),
            others[2].get("/health/live"),
        )
        assert problem_of(ready) == problem_of(predicted) == (503, "shutting-down")
        assert (predicted.headers["retry-after"], predicted.headers["connection"]) == ("1", "close")
        assert live.status_code == 200
        assert api.process.poll() is None
        unfinished.sendall(body[-4:])
        answer = read_all(unfinished)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b'"probabilities"' in answer
        assert api.process.wait(20) == 0
        assert "Traceback" not in api.log.read_text()


def not_listening(address: httpx.URL) -> bool:
    """Whether new connections are refused."""
    try:
        socket.create_connection((address.host, address.port or 80), 5).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.slow
def test_a_draining_service_is_not_ready_and_serves_on_for_a_while(tmp_path: Path) -> None:
    cache_champions(tmp_path / "var", [classifier_candidate()])
    body = healthy_signal(0).tobytes()
    path = "/v1/vibration/bearing/predict?sampling_rate_hz=12000&shaft_rpm=1772&bearing=6205-2RS"
    with running_api(tmp_path / "var", {"ALMENARA_DRAIN_SECONDS": "10"}) as api:
        api.process.send_signal(signal.SIGTERM)
        wait_until(lambda: api.http.get("/health/ready").status_code == 503, 10, api.log)
        assert problem_of(api.http.get("/health/ready")) == (503, "shutting-down")
        with httpx.Client(base_url=api.http.base_url, timeout=30) as newcomer:
            served = newcomer.post(path, content=body, headers={"Content-Type": "application/octet-stream"})
            assert served.status_code == 200
        assert api.process.wait(30) == 0
