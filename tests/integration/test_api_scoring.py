"""The generic route and MLflow's webhook, at a running API beside a real MLflow server."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.webhooks.delivery import _generate_hmac_signature

from almenara.registry import Registry
from tests.support.api import RunningApi, running_api, wait_until
from tests.support.packages import vision_candidate

pytestmark = pytest.mark.slow

SECRET = "correct-horse-battery"  # noqa: S105
DOUBLER = """
import mlflow, pretend_library

class Doubler(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input * 2

mlflow.models.set_model(Doubler())
"""
PICTURES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)


def log_foreign(folder: Path, name: str, source: str) -> None:
    """Register a model that Almenara did not make, and make it champion."""
    file = folder / f"{name}.py"
    file.write_text(source)
    with mlflow.start_run():
        mlflow.pyfunc.log_model(
            name="model", python_model=str(file), registered_model_name=name, pip_requirements=["mlflow"]
        )
    MlflowClient().set_registered_model_alias(name, "champion", "1")


@pytest.fixture(scope="module")
def registry(mlflow_address: str, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    registry = Registry(mlflow_address)
    for offset in (0.0, 0.02):
        registry.register(vision_candidate("scored", offset), "tests")
    registry.promote("scored", "1", reason="first")
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "pretend_library.py").touch()
    sys.path.insert(0, str(folder))
    try:
        log_foreign(folder, "doubler", DOUBLER.replace(", pretend_library", ""))
        log_foreign(folder, "lonely", DOUBLER)
        log_foreign(folder, "unlisted", DOUBLER)
    finally:
        sys.path.remove(str(folder))
    return registry


@pytest.fixture(scope="module")
def api(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    """Asks the registry every five minutes, unless it is hurried."""
    environment = {
        "MLFLOW_TRACKING_URI": registry.tracking_uri,
        "ALMENARA_MODEL_POLL_SECONDS": "300",
        "ALMENARA_PYFUNC_MODELS": "doubler, lonely,absent",
        "ALMENARA_WEBHOOK_SECRET": SECRET,
    }
    with running_api(tmp_path_factory.mktemp("api") / "var", environment) as running:
        wait_until(lambda: score(running, "absent", {}).json()["type"].endswith("model-unknown"), 60, running.log)
        yield running


def score(api: RunningApi, name: str, payload: dict[str, Any]) -> httpx.Response:
    return api.http.post(f"/v1/models/{name}/predict", json=payload)


def problem(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].removeprefix("urn:almenara:problem:")


def test_one_of_ours_answers_with_its_graphs_outputs(api: RunningApi) -> None:
    answer = score(api, "scored", {"inputs": PICTURES.tolist()})
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert content["model"] == {"name": "scored", "version": "1", "alias": "champion"}
    dark = (1 - PICTURES / 255).reshape(2, 8, 4, 8, 4, 3).mean(axis=(2, 4, 5))
    np.testing.assert_allclose(content["predictions"]["map"], dark, atol=1e-5)
    assert problem(score(api, "scored", {"inputs": PICTURES[0].tolist()})) == (422, "payload-invalid")
    assert problem(api.http.post("/v1/models/scored/predict", content=b"x")) == (415, "media-type")
    assert problem(api.http.post("/v1/models/scored/predict", json=[1])) == (422, "payload-invalid")


@pytest.mark.parametrize(
    ("payload", "predictions"),
    [
        (
            {"dataframe_split": {"columns": ["x", "y"], "data": [[1, 2], [3, None]]}},
            [{"x": 2, "y": 4}, {"x": 6, "y": None}],
        ),
        ({"dataframe_records": [{"x": 1.5}]}, [{"x": 3.0}]),
        ({"inputs": [[1, 2]]}, [[2, 4]]),
        ({"instances": [1, 2]}, [2, 4]),
    ],
)
def test_a_listed_model_of_others_answers_every_form(
    api: RunningApi, payload: dict[str, Any], predictions: Any
) -> None:
    answer = score(api, "doubler", payload)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "predictions": predictions,
        "model": {"name": "doubler", "version": "1", "alias": "champion"},
    }


def test_a_payload_that_the_model_fails_on_is_the_clients_problem(api: RunningApi) -> None:
    assert problem(score(api, "doubler", {"inputs": {"a": [1], "b": [2]}})) == (422, "prediction-failed")
    assert problem(score(api, "doubler", {"dataframe_split": 5})) == (422, "payload-invalid")
    assert problem(score(api, "doubler", {"inputs": ["x" * 500_000, *["y"] * 1000]})) == (422, "payload-invalid")


def test_a_model_whose_library_is_missing_is_refused_with_its_reason(api: RunningApi) -> None:
    answer = score(api, "lonely", {"inputs": [1]})
    assert problem(answer) == (503, "model-refused")
    assert "No module named 'pretend_library'" in answer.json()["detail"]
    rows = {row["name"]: row for row in api.http.get("/v1/models").json()["pyfunc"]}
    assert rows.keys() == {"doubler", "lonely", "absent"}
    assert (rows["doubler"]["version"], rows["lonely"]["version"]) == ("1", None)
    assert "pretend_library" in rows["lonely"]["refused"]["reason"]


def test_a_model_that_is_not_listed_is_not_loaded(api: RunningApi) -> None:
    answer = score(api, "unlisted", {"inputs": [1]})
    assert problem(answer) == (404, "model-unknown")
    assert "ALMENARA_PYFUNC_MODELS" in answer.json()["remedy"]


def delivery(
    api: RunningApi, *, secret: str = SECRET, age: float = 0, body: str = "{}", sent: str = ""
) -> httpx.Response:
    """A delivery that MLflow's own function signed."""
    timestamp = str(int(time.time() - age))
    headers = {
        "Content-Type": "application/json",
        "X-MLflow-Delivery-Id": "d1",
        "X-MLflow-Timestamp": timestamp,
        "X-MLflow-Signature": _generate_hmac_signature(secret, "d1", timestamp, body),
    }
    return api.http.post("/v1/webhooks/mlflow", content=sent or body, headers=headers)


def test_only_what_the_secret_signed_lately_is_accepted(api: RunningApi) -> None:
    body = json.dumps({"entity": "model_version_alias", "action": "created", "data": {"name": "scored"}})
    assert delivery(api, body=body).status_code == 202
    assert problem(delivery(api, secret="another")) == (401, "webhook-signature")  # noqa: S106
    assert problem(delivery(api, body=body, sent=body.replace("created", "deleted"))) == (401, "webhook-signature")
    assert problem(delivery(api, age=400)) == (401, "webhook-timestamp")
    assert problem(delivery(api, age=-400)) == (401, "webhook-timestamp")
    assert problem(delivery(api, body="x" * 70_000)) == (413, "body-too-large")
    assert problem(api.http.post("/v1/webhooks/mlflow", content="{}")) == (401, "webhook-timestamp")


def test_a_delivery_of_mlflow_itself_hurries_the_poll(api: RunningApi, registry: Registry) -> None:
    client = MlflowClient(registry.tracking_uri, registry.tracking_uri)
    hook = client.create_webhook(
        name="almenara",
        url=f"{api.http.base_url}/v1/webhooks/mlflow".replace("//v1", "/v1"),
        events=["model_version_alias.created"],
        secret=SECRET,
    )
    try:
        assert client.test_webhook(hook.webhook_id).response_status == 202
        registry.promote("scored", "2", reason="better", force=True)
        wait_until(lambda: in_service(api, "scored") == "2", 30, api.log)
    finally:
        client.delete_webhook(hook.webhook_id)


def in_service(api: RunningApi, name: str) -> str | None:
    (row,) = [row for row in api.http.get("/v1/models").json()["models"] if row["name"] == name]
    return None if row["version"] is None else str(row["version"])


def test_without_a_secret_the_route_says_how_to_open_it(tmp_path: Path) -> None:
    with running_api(tmp_path / "var", {}, ready=False) as closed:
        answer = delivery(closed)
        assert problem(answer) == (404, "webhook-closed")
        assert "ALMENARA_WEBHOOK_SECRET" in answer.json()["remedy"]
