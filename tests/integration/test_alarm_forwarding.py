"""A worker, the API's record and the database behind it, all real, and each of them away for a while."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import create_engine, text

from camera_worker.cli import app  # noqa: F401 - a worker that cannot be imported fails here and not in a child
from tests.support.api import RunningApi, cache_champions, running_api
from tests.support.camera import CameraThread, simulated_camera, wait_for
from tests.support.packages import vision_candidate
from tests.support.postgresql import postgresql_server
from tests.support.servers import stop
from tests.support.web_receiver import Receiver, web_receiver

pytestmark = pytest.mark.slow

KEY = "forwarding-test-key"


class Tank:
    """A bright surface with sensor noise, dark in one place while `anomalous`: what the model `darkness` looks for."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        self.anomalous = False

    def __call__(self, t: float) -> NDArray[np.uint8]:
        picture = np.full((240, 320, 3), 200, np.uint8)
        cv2.putText(picture, f"{t:.1f}", (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (170, 170, 170), 1)
        if self.anomalous:
            picture[120:210, 160:280] = 20
        noise = self._random.normal(0, 4, picture.shape)
        return np.clip(picture + noise, 0, 255).astype(np.uint8)


@dataclass
class Database:
    """A PostgreSQL server that can be stopped and started again."""

    url: str

    def __post_init__(self) -> None:
        engine = create_engine(self.url)
        with engine.connect() as connection:
            self._data = Path(connection.execute(text("SHOW data_directory")).scalar_one())
            port = connection.execute(text("SHOW port")).scalar_one()
        engine.dispose()
        self._options = f"-p {port} -k {self._data.parent} -c listen_addresses=127.0.0.1 -c fsync=off"

    def stop(self) -> None:
        self._control("-m", "immediate", "stop")

    def start(self) -> None:
        self._control("-l", self._data.parent / "log", "-o", self._options, "-w", "start")

    def _control(self, *arguments: str | Path) -> None:
        user = pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() else "postgres"
        command = ["pg_ctl", "-D", self._data, *arguments]
        subprocess.run(command, user=user, cwd=self._data.parent, check=True, stdout=subprocess.DEVNULL)


class Plant:
    """Camera, database, API and worker."""

    def __init__(
        self, folder: Path, scene: Tank, camera: CameraThread, database: Database, api: RunningApi, hook: Receiver
    ) -> None:
        self.folder, self.scene, self.database, self.api, self.hook = folder, scene, database, api, hook
        (folder / "alarms.yaml").write_text(
            f"channels: [{{name: hook, type: apprise, url: 'json://127.0.0.1:{hook.port}'}}]"
        )
        self._config = folder / "cameras.yaml"
        self._config.write_text(
            f"""
name: worker-1
api: {{url: "{str(api.http.base_url).rstrip("/")}", key: {KEY}, timeout: 5s}}
var_dir: {folder / "worker"}
alarms_file: {folder / "alarms.yaml"}
cameras:
  - name: tank
    source: {camera.url}
    model: darkness
    fps: 5
    alarm: {{on_delay: 400ms, off_delay: 1s, cooldown: 0s}}
    evidence: {{before: 1s, after: 1s}}
"""
        )
        self.worker: subprocess.Popen[bytes] | None = None

    def start_worker(self) -> None:
        log = (self.folder / "worker.log").open("ab")
        command = [sys.executable, "-m", "camera_worker", "--config", str(self._config)]
        self.worker = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def kill_worker(self) -> None:
        assert self.worker is not None
        self.worker.kill()
        self.worker.wait(5)

    def told(self) -> list[dict[str, Any]]:
        """Notifications of the camera's own alarms in the worker's alarm log."""
        log = self.folder / "worker" / "alarms" / "alarms.log"
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [line for line in lines if line["alarm"]["source"] == "tank"]

    def called(self) -> list[bytes]:
        """What the web hook took of the camera's own alarms."""
        return [request.body for request in self.hook.requests if b'"tank"' in request.body]

    def record(self) -> list[dict[str, Any]]:
        """The camera's alarms in the plant-wide record; none while the record does not answer."""
        answer = self.api.http.get("/v1/alarms", params={"source": "tank"}, headers={"X-API-Key": KEY})
        return answer.json() if answer.status_code == 200 else []

    def post(self, path: str, body: dict[str, Any]) -> None:
        answer = self.api.http.post(path, json=body, headers={"X-API-Key": KEY})
        assert answer.status_code == 200, answer.text


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    scene = Tank()
    with ExitStack() as stack:
        database = Database(stack.enter_context(postgresql_server()))
        cache_champions(tmp_path / "api", [vision_candidate()])
        environment = {"ALMENARA_API_KEY": KEY, "ALMENARA_ALARMS_URL": database.url}
        api = stack.enter_context(running_api(tmp_path / "api", environment))
        camera, hook = stack.enter_context(simulated_camera(scene)), stack.enter_context(web_receiver())
        made = Plant(tmp_path, scene, camera, database, api, hook)
        made.start_worker()
        yield made
        if made.worker:
            stop(made.worker)


def test_an_alarm_is_told_without_the_database_and_merged_when_it_is_back(plant: Plant) -> None:
    log = plant.folder / "worker.log"
    wait_for(lambda: "tank" in log.read_text() and "live" in log.read_text(), 30, "a live camera")
    plant.database.stop()
    plant.hook.failures = [503] * 1000
    plant.scene.anomalous = True
    wait_for(lambda: plant.called() and plant.told(), 15, "a first attempt to tell")
    plant.kill_worker()
    attempts = len(plant.called())
    plant.hook.failures.clear()
    plant.start_worker()
    wait_for(lambda: len(plant.called()) > attempts, 20, "the message")
    first = plant.told()[0]
    assert first["event"] == "raised"
    assert all(first["key"].encode() in body for body in plant.called()[: attempts + 1])
    assert plant.record() == []
    plant.database.start()
    wait_for(plant.record, 40, "the alarm in the record")
    (merged,) = plant.record()
    assert (merged["id"], merged["origin"]) == (first["alarm"]["id"], "worker-1")
    assert merged["idempotency_key"] == first["key"]
    assert {message["key"] for message in plant.told() if message["event"] == "raised"} == {first["key"]}


def test_an_acknowledgement_at_the_record_reaches_the_worker_within_five_seconds(plant: Plant) -> None:
    plant.scene.anomalous = True
    wait_for(plant.record, 40, "the alarm in the record")
    (alarm,) = plant.record()
    body = {"user": "ana", "comment": "a broom", "verdict": "false_alarm"}
    plant.post(f"/v1/alarms/{alarm['id']}/acknowledge", body)
    log = plant.folder / "worker.log"
    wait_for(lambda: "acknowledge of tank by ana" in log.read_text(), 5, "the acknowledgement")
    wait_for(lambda: plant.record()[0]["phase"] == "acknowledged", 5)
    plant.scene.anomalous = False
    wait_for(lambda: plant.record()[0]["phase"] == "normal", 15, "the end of the alarm")
    (ended,) = plant.record()
    assert (ended["acknowledged_by"], ended["verdict"]) == ("ana", "false_alarm")


def test_the_record_has_the_evidence_of_a_workers_alarm(plant: Plant) -> None:
    plant.scene.anomalous = True
    wait_for(plant.record, 40, "the alarm in the record")
    (alarm,) = plant.record()

    def frame() -> bytes:
        answer = plant.api.http.get(f"/v1/alarms/{alarm['id']}/evidence/frame.jpg", headers={"X-API-Key": KEY})
        return answer.content if answer.status_code == 200 else b""

    wait_for(frame, 20, "the picture")
    picture = cv2.imdecode(np.frombuffer(frame(), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (240, 320, 3)
