"""A first day: data set, training, registry, prediction, camera, alarm, and its picture by a link."""

from __future__ import annotations

import filecmp
import json
import os
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient

from tests.e2e.compose.conftest import NOTES
from tests.support.plant import CAMERA, DATASET, MODEL, Plant, wait_for

pytestmark = pytest.mark.compose


def test_the_whole_journey(plant: Plant) -> None:
    stack = plant.stack
    assert DATASET in plant.minio_client("datasets", "list")
    result, shown = plant.train()
    assert result["champions"] == [MODEL]
    assert "extracting features" in shown, "the progress of a training is shown"
    assert "132/132" in shown

    client = MlflowClient(stack.mlflow_url, stack.mlflow_url)
    [version] = client.search_model_versions(f"name = '{MODEL}'")
    run = client.get_run(str(version.run_id))
    assert run.data.metrics
    assert run.info.artifact_uri.startswith("mlflow-artifacts:")
    card = json.loads(Path(client.download_artifacts(str(version.run_id), "card.json")).read_text())
    assert card["training_data"]["fingerprint"] == plant.fingerprint

    promoted = plant.almenara("models", "promote", MODEL, str(version.version), "--reason", "the first of this plant")
    assert f"version {version.version} is the champion" in promoted
    with stack.api() as api:
        wait_for("the champion to be served", lambda: api.get("/health/ready").status_code == 200, 30)
        assert MODEL in api.get("/v1/models").text
    assert plant.predict(plant.picture("good"))["label"] == "normal"
    assert plant.predict(plant.picture("foreign_object"))["anomaly"] > 0.75

    plant.start_camera()
    alarm = wait_for("an alarm", lambda: next(iter(plant.alarms(source=CAMERA)), None), 90)
    file = next(each for each in alarm["evidence"] if each["name"].endswith(".jpg"))
    key = file["uri"].removeprefix("s3://")

    def fetched() -> httpx.Response | None:
        link = plant.minio_client("presign", key, "--expires", "5m").strip().splitlines()[-1]
        answer = httpx.get(link)
        return answer if answer.status_code == 200 else None

    picture = wait_for("the evidence in its bucket", fetched, 30)
    assert picture.content.startswith(b"\xff\xd8")
    assert len(picture.content) == file["size"]
    assert httpx.get(f"{stack.s3_endpoint}/{key}").status_code == 403
    NOTES.append(f"journey: alarm {alarm['id'][:8]} with {len(alarm['evidence'])} files of evidence")


def test_a_client_without_keys_logs_a_large_model_through_the_proxy(plant: Plant, tmp_path: Path) -> None:
    assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MLFLOW_S3_ENDPOINT_URL"} & set(os.environ)
    client = MlflowClient(plant.stack.mlflow_url)
    run = client.create_run(client.create_experiment("large")).info.run_id
    file = tmp_path / "model.bin"
    with file.open("wb") as model:
        for _ in range(300):
            model.write(os.urandom(2**20))
    client.log_artifact(run, str(file), "model")
    [stored] = client.list_artifacts(run, "model")
    assert stored.file_size == 300 * 2**20
    assert f"{300 * 2**20}" in plant.minio_client("ls", plant.stack.env["MINIO_BUCKET_NAME"])
    fetched = client.download_artifacts(run, "model/model.bin", str(tmp_path))
    assert filecmp.cmp(file, fetched, shallow=False)
