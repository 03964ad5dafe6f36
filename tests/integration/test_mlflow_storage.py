"""MLflow's server on object storage: artifacts pass through it, and no client is sent past it."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient

from almenara.processes import free_port
from minio_client import connect, make_buckets
from tests.support.data import ROOT
from tests.support.object_storage import object_storage
from tests.support.servers import running

pytestmark = pytest.mark.slow


def test_artifacts_pass_through_the_server_and_no_link_is_offered(tmp_path: Path) -> None:
    (tmp_path / "storage").mkdir()
    (tmp_path / "tmp").mkdir()
    with object_storage(tmp_path / "storage") as storage:
        make_buckets(connect(storage), ["mlflow"])
        port = free_port()
        address = f"http://127.0.0.1:{port}"
        environment = {
            "PYTHONPATH": str(ROOT / "mlflow" / "plugin"),
            "TMPDIR": str(tmp_path / "tmp"),
            "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{tmp_path}/mlflow.db",
            "MLFLOW_ARTIFACTS_DESTINATION": "s3://mlflow",
            "MLFLOW_S3_ENDPOINT_URL": storage.endpoint,
            "MLFLOW_HOST": "127.0.0.1",
            "MLFLOW_PORT": str(port),
            "MLFLOW_WORKERS": "1",
            "AWS_ACCESS_KEY_ID": storage.access_key,
            "AWS_SECRET_ACCESS_KEY": storage.secret_key,
            "AWS_DEFAULT_REGION": storage.region,
        }

        def ready() -> bool:
            try:
                return httpx.get(f"{address}/health").status_code == 200
            except httpx.HTTPError:
                return False

        start = ["sh", str(ROOT / "mlflow" / "start.sh"), "serve"]
        with running(start, tmp_path / "log", ready=ready, environment=environment):
            offered = httpx.get(f"{address}/api/3.0/mlflow/server-info").json()
            assert {name: value for name, value in offered.items() if "multipart" in name and value} == {}
            assert any("multipart" in name for name in offered)
            client = MlflowClient(address)
            run = client.create_run(client.create_experiment("storage")).info.run_id
            (tmp_path / "model.bin").write_bytes(b"model" * 1000)
            client.log_artifact(run, str(tmp_path / "model.bin"), "model")
            fetched = client.download_artifacts(run, "model/model.bin", str(tmp_path / "tmp"))
            assert Path(fetched).read_bytes() == b"model" * 1000
            assert [file.path for file in client.list_artifacts(run, "model")] == ["model/model.bin"]
        [stored] = connect(storage).list_objects("mlflow", recursive=True)
        assert str(stored.object_name).endswith("model/model.bin")
