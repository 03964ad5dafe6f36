"""The API's process: its start without a registry, its key, its end."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import httpx
import pytest

from tests.support.api import cache_champions, running_api, wait_until
from tests.support.packages import vision_candidate


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
