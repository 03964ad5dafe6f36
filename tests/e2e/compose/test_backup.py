"""A running platform is backed up, damaged and restored: runs, artifacts, data sets, alarms and evidence are back."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from almenara.alarms import AlarmStore, Rule
from almenara.contracts import Observation
from almenara.evidence import LocalEvidence
from minio_client import connect
from tests.e2e.compose.conftest import NOTES
from tests.support.platform_stack import SERVICES, Stack

pytestmark = pytest.mark.compose

ARTIFACT = os.urandom(3 * 2**20)
FRAME = b"\xff\xd8 a frame"
KEY = "línea 2/été +%.csv"
WORKER = "backup-test-worker"


@dataclass(frozen=True)
class Journey:
    """What was there at the backup, and what the commands said.

    Attributes:
        refused: a restoration without --replace.
        later: key of an object that came after the backup.
    """

    archive: Path
    run_id: str
    alarm_id: str
    told: dict[str, object]
    refused: subprocess.CompletedProcess[str]
    restored: subprocess.CompletedProcess[str]
    later: str = "later.csv"


def almenara(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in stack.env}
    command, begun = [sys.executable, "-m", "almenara", *arguments], time.monotonic()
    done = subprocess.run(command, cwd=stack.directory, env=environment, capture_output=True, text=True, check=False)
    NOTES.append(f"almenara {arguments[0]}: exit code {done.returncode} after {time.monotonic() - begun:.0f} s")
    return done


def mlflow(stack: Stack, script: str, *arguments: str) -> str:
    """What a client on this machine prints; artifacts go through the server, never to the storage itself."""
    settings = {"MLFLOW_TRACKING_URI": stack.mlflow_url, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    settings |= {"MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()[-1]


def log_run(stack: Stack, artifact: Path) -> str:
    script = """
import sys, uuid, mlflow
client = mlflow.MlflowClient()
run = client.create_run(client.create_experiment(f"backup-{uuid.uuid4()}"))
client.log_metric(run.info.run_id, "auc", 0.75)
client.log_artifact(run.info.run_id, sys.argv[1])
print(run.info.run_id)
"""
    return mlflow(stack, script, str(artifact))


def raise_alarm(stack: Stack, folder: Path) -> str:
    """Report an alarm with evidence, as a worker does; its id."""
    evidence = LocalEvidence(folder / "evidence")
    seen = Observation(source="line-2/outflow", kind="vision", anomaly=0.9, observed_at=datetime.now(UTC))
    rule = Rule(on_delay_seconds=0, off_delay_seconds=0, cooldown_seconds=0)
    with AlarmStore(f"sqlite:///{folder / 'worker.db'}", origin=WORKER, monotonic=time.monotonic) as store:
        frames = {"frame.jpg": FRAME}
        store.observe(seen, rule, now=time.monotonic(), evidence=lambda: evidence.save("line-2/1", frames))
        reports = [report.model_dump(mode="json") for _, report in store.changes_after(0, 100)]
        [alarm] = store.alarms()
    with stack.api() as api:
        api.post("/v1/alarms/reports", json={"origin": WORKER, "reports": reports}).raise_for_status()
        headers = {"X-Content-SHA256": hashlib.sha256(FRAME).hexdigest()}
        api.put(f"/v1/alarms/{alarm.id}/evidence/frame.jpg", content=FRAME, headers=headers).raise_for_status()
    return alarm.id


def damage(stack: Stack, run_id: str) -> None:
    storage = connect(stack.storage)
    for item in storage.list_objects("mlflow", recursive=True):
        if run_id in item.object_name:
            storage.remove_object("mlflow", item.object_name)
    for item in storage.list_objects("evidence", recursive=True):
        storage.remove_object("evidence", item.object_name)
    storage.remove_object("datasets", KEY)
    storage.put_object("datasets", Journey.later, io.BytesIO(b"x"), 1)
    psql = ("exec", "-T", "postgres", "psql", "--set=ON_ERROR_STOP=1", f"--username={stack.env['POSTGRES_USER']}")
    stack.compose(*psql, "--dbname=alarms", "--command=TRUNCATE alarms CASCADE")
    stack.compose(*psql, f"--dbname={stack.env['POSTGRES_DB']}", "--command=DELETE FROM latest_metrics")


@pytest.fixture(scope="module")
def journey(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    folder = tmp_path_factory.mktemp("backup")
    artifact = folder / "artifact.bin"
    artifact.write_bytes(ARTIFACT)
    run_id, alarm_id = log_run(stack, artifact), raise_alarm(stack, folder)
    content, metadata = b"a,b\n", {"line": "2"}
    connect(stack.storage).put_object("datasets", KEY, io.BytesIO(content), 4, "text/csv", metadata=metadata)
    archive = folder / "platform.tar"
    saved = almenara(stack, "backup", str(archive), "--json")
    assert saved.returncode == 0, saved.stderr
    damage(stack, run_id)
    refused = almenara(stack, "restore", str(archive))
    restored = almenara(stack, "restore", str(archive), "--replace")
    yield Journey(archive, run_id, alarm_id, json.loads(saved.stdout.splitlines()[-1]), refused, restored)
    archive.unlink()


def test_restoration_ends_with_every_service_healthy(journey: Journey, stack: Stack) -> None:
    assert journey.restored.returncode == 0, journey.restored.stderr
    assert {stack.health(service) for service in SERVICES} == {"healthy"}


def test_an_installation_that_is_not_empty_is_refused_without_replace(journey: Journey) -> None:
    assert journey.refused.returncode == 2
    assert "is not empty" in journey.refused.stderr
    assert "--replace" in journey.refused.stderr


def test_archive_is_its_owners_alone_and_holds_no_secret(journey: Journey, stack: Stack) -> None:
    assert stat.S_IMODE(journey.archive.stat().st_mode) == 0o600
    content = journey.archive.read_bytes()
    for name in ("POSTGRES_PASSWORD", "MINIO_SECRET_KEY", "ALMENARA_API_KEY", "JUPYTER_TOKEN"):
        assert stack.env[name].encode() not in content, name


def test_manifest_names_images_and_revisions(journey: Journey) -> None:
    assert journey.told["kind"] == "composed"
    images = journey.told["images"]
    assert isinstance(images, dict)
    assert images["api"].startswith("almenara/api sha256:")
    assert journey.told["mlflow_revisions"]
    assert journey.told["alarm_revisions"]


def test_run_is_back_with_its_artifact(journey: Journey, stack: Stack, tmp_path: Path) -> None:
    script = """
import sys, mlflow
client = mlflow.MlflowClient()
client.download_artifacts(sys.argv[1], "artifact.bin", sys.argv[2])
print(client.get_run(sys.argv[1]).data.metrics["auc"])
"""
    assert mlflow(stack, script, journey.run_id, str(tmp_path)) == "0.75"
    assert (tmp_path / "artifact.bin").read_bytes() == ARTIFACT


def test_data_set_is_back_with_its_metadata(journey: Journey, stack: Stack) -> None:
    found = connect(stack.storage).stat_object("datasets", KEY)
    assert (found.size, found.content_type, found.metadata["x-amz-meta-line"]) == (4, "text/csv", "2")


def test_what_came_after_the_backup_is_gone(journey: Journey, stack: Stack) -> None:
    names = {item.object_name for item in connect(stack.storage).list_objects("datasets", recursive=True)}
    assert KEY in names
    assert journey.later not in names


def test_alarm_is_back_with_its_evidence(journey: Journey, stack: Stack) -> None:
    with stack.api() as api:
        assert api.get(f"/v1/alarms/{journey.alarm_id}").json()["source"] == "line-2/outflow"
        assert api.get(f"/v1/alarms/{journey.alarm_id}/evidence/frame.jpg").content == FRAME
