"""The served API beside a real MLflow server: follows champions, outlives the server, starts without it."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from almenara.processes import free_port
from almenara.registry import Registry
from almenara.vision import images
from tests.support import servers
from tests.support.api import RunningApi, running_api, wait_until
from tests.support.packages import vision_candidate

PICTURE = images.encode_jpeg(np.full((48, 64, 3), 200, dtype=np.uint8))
POLL = {"ALMENARA_MODEL_POLL_SECONDS": "0.3"}


def answering_version(api: RunningApi, name: str) -> str | None:
    """The version that judges a posted picture now, None while none does."""
    answer = api.http.post(f"/v1/vision/{name}/predict", content=PICTURE, headers={"content-type": "image/jpeg"})
    return str(answer.json()["model"]["version"]) if answer.status_code == 200 else None


@pytest.mark.slow
def test_promotion_and_rollback_are_followed_without_a_failed_request(mlflow_address: str, tmp_path: Path) -> None:
    registry = Registry(mlflow_address)
    for _ in range(2):
        registry.register(vision_candidate("followed"), "tests")
    registry.promote("followed", "1", reason="first")
    with running_api(tmp_path / "var", POLL | {"MLFLOW_TRACKING_URI": mlflow_address}) as api:
        wait_until(lambda: answering_version(api, "followed") == "1", 30, api.log)
        seen: list[str | None] = []

        def switched_to(version: str) -> bool:
            seen.append(answering_version(api, "followed"))
            return seen[-1] == version

        registry.promote("followed", "2", reason="better")
        wait_until(lambda: switched_to("2"), 10, api.log)
        registry.rollback("followed", reason="worse in the rain")
        wait_until(lambda: switched_to("1"), 10, api.log)
        assert None not in seen


@pytest.mark.slow
def test_an_empty_registry_says_how_to_register_and_its_first_champion_is_served(tmp_path: Path) -> None:
    with (
        servers.mlflow_server(tmp_path) as address,
        running_api(tmp_path / "var", POLL | {"MLFLOW_TRACKING_URI": address}, ready=False) as api,
    ):
        wait_until(lambda: "no-champion" in api.http.get("/health/ready").text, 60, api.log)
        assert api.http.get("/health/live").status_code == 200
        answer, listed = api.http.get("/health/ready"), api.http.get("/v1/models").json()
        assert (answer.status_code, listed["registry"], listed["models"]) == (503, "up", [])
        assert "almenara train" in answer.json()["remedy"]
        assert listed["missing"]["remedy"] == answer.json()["remedy"]
        posted = api.http.post("/v1/vision/x/predict", content=PICTURE, headers={"content-type": "image/jpeg"})
        assert (posted.status_code, posted.json()["type"]) == (404, "urn:almenara:problem:no-champion")
        registry = Registry(address)
        registry.promote("first", registry.register(vision_candidate("first"), "tests").version, reason="first")
        wait_until(lambda: answering_version(api, "first") == "1", 10, api.log)
        assert api.http.get("/health/ready").status_code == 200
        assert api.http.get("/v1/models").json()["missing"] is None


@pytest.mark.slow
def test_the_service_outlives_the_registry_and_starts_without_it(tmp_path: Path) -> None:
    port = free_port()
    var = tmp_path / "var"
    with ExitStack() as registry_is_up:
        address = registry_is_up.enter_context(servers.mlflow_server(tmp_path, port))
        registry = Registry(address)
        registry.promote("durable", registry.register(vision_candidate("durable"), "tests").version, reason="first")
        environment = POLL | {"MLFLOW_TRACKING_URI": address}
        with running_api(var, environment) as api:
            registry_is_up.close()
            wait_until(lambda: api.http.get("/health/ready").json()["registry"] == "away", 30, api.log)
            assert answering_version(api, "durable") == "1"
    with running_api(var, environment) as api:
        assert answering_version(api, "durable") == "1"
        with servers.mlflow_server(tmp_path, port):
            wait_until(lambda: api.http.get("/health/ready").json()["registry"] == "up", 30, api.log)
            assert answering_version(api, "durable") == "1"


@pytest.mark.slow
def test_a_registry_that_was_reset_while_away_is_not_served_from_memory(tmp_path: Path) -> None:
    port, folders = free_port(), [tmp_path / "first", tmp_path / "second"]

    def registered(folder: Path) -> AbstractContextManager[str]:
        folder.mkdir()
        return servers.mlflow_server(folder, port)

    with ExitStack() as registry_is_up:
        address = registry_is_up.enter_context(registered(folders[0]))
        register_and_promote(address)
        with running_api(tmp_path / "var", POLL | {"MLFLOW_TRACKING_URI": address}) as api:
            registry_is_up.close()
            wait_until(lambda: api.http.get("/health/ready").json()["registry"] == "away", 30, api.log)
            (before,) = models(api)
            with registered(folders[1]):
                register_and_promote(address)
                wait_until(lambda: in_service(api) not in (None, before["loaded_since"]), 30, api.log)
            (after,) = models(api)
            assert (before["version"], after["version"]) == ("1", "1")


def register_and_promote(address: str) -> None:
    registry = Registry(address)
    registry.promote("reset", registry.register(vision_candidate("reset"), "tests").version, reason="first")


def models(api: RunningApi) -> list[dict[str, Any]]:
    """What `/v1/models` lists."""
    return list(api.http.get("/v1/models").json()["models"])


def in_service(api: RunningApi) -> str | None:
    """Since when the one model is in service, None while there is none."""
    rows = models(api)
    return str(rows[0]["loaded_since"]) if rows else None


@pytest.mark.slow
def test_a_challenger_judges_in_the_shadow_and_a_corrupt_version_is_refused(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}"
    registry = Registry(address)
    for offset in (0.0, 0.01):
        registry.register(vision_candidate("shadowed", offset), "tests")
    registry.promote("shadowed", "1", reason="first")
    registry.challenge("shadowed", "2")
    with running_api(tmp_path / "var", POLL | {"MLFLOW_TRACKING_URI": address}) as api:
        wait_until(lambda: challenger(api)["version"] == "2", 30, api.log)
        for _ in range(5):
            assert answering_version(api, "shadowed") == "1"
        wait_until(lambda: challenger(api)["comparison"]["requests"] >= 1, 30, api.log)
        compared = challenger(api)["comparison"]
        assert compared["requests"] + compared["dropped"] + compared["failed"] <= 5
        assert compared["failed"] == 0
        assert compared["mean_difference"] > 0
        assert (
            'almenara_shadow_requests_total{name="shadowed",outcome="compared",version="2"}'
            in api.http.get("/metrics").text
        )

        registry.register(vision_candidate("shadowed", 0.02), "tests")
        newest = max((tmp_path / "mlflow").rglob("model.onnx"), key=lambda file: file.stat().st_mtime)
        newest.write_bytes(newest.read_bytes()[:200])
        registry.promote("shadowed", "3", reason="on trust", force=True)
        wait_until(lambda: models(api)[0]["refused"] is not None, 30, api.log)
        (row,) = models(api)
        assert (row["version"], row["refused"]["version"]) == ("1", "3")
        assert "no usable ONNX graph" in row["refused"]["reason"]
        assert answering_version(api, "shadowed") == "1"


def challenger(api: RunningApi) -> dict[str, Any]:
    """The challenger of the one model, with nothing while it has none."""
    (row,) = models(api)
    return dict(row["challenger"] or {"version": None})
