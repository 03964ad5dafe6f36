"""A plant on the composed platform: a data set in storage, a model trained on it, and a camera that sees trouble."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from almenara.vision import scenes
from tests.support.platform_stack import Stack, docker

MODEL, CAMERA, DATASET = "outflow", "outflow-camera", "sludge"
_USER, _PASSWORD = "plant.op", "p@ss:word/1"
_CONFIG = f"""
  - name: {CAMERA}
    source: rtsp://test-camera:8554/cam
    username: {_USER}
    password: ${{CAMERA_PASSWORD}}
    model: {MODEL}
    fps: 2
    evidence: {{before: 1s, after: 1s}}
    alarm: {{threshold: 0.75, on_delay: 1s, off_delay: 3s, cooldown: 0s, priority: high}}
"""
_T = TypeVar("_T")


class Plant:
    """What happens in it, in the order of a first day; every step returns what a user would see.

    Attributes:
        fingerprint: of the pictures, as the card of a model that was trained on them tells it.
    """

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self.pictures = folder / "sludge"
        self.fingerprint = ""
        self.camera = f"{stack.project}-camera"

    def render(self) -> Path:
        return scenes.render_dataset(self.pictures, normals=120, anomalies=12, groups=40, seed=7)

    def minio_client(self, *arguments: str) -> str:
        """What the command prints, called on this machine with the platform's key."""
        storage = self.stack.storage
        keys = {
            "MINIO_ENDPOINT": storage.endpoint,
            "MINIO_ACCESS_KEY": storage.access_key,
            "MINIO_SECRET_KEY": storage.secret_key,
        }
        return _run([sys.executable, "-m", "minio_client", *arguments], keys)

    def almenara(self, *arguments: str) -> str:
        """What the command prints, called on this machine: a client of the registry without any key of storage."""
        return _run([sys.executable, "-m", "almenara", *arguments], {"MLFLOW_TRACKING_URI": self.stack.mlflow_url})

    def train(self) -> tuple[dict[str, Any], str]:
        """Train in a container on what was pulled into DATA_DIR; the result, and all that the terminal showed."""
        command = [
            "run",
            "--build",
            "--rm",
            "trainer",
            "train",
            "vision",
            "--data",
            f"/data/{DATASET}",
            "--name",
            MODEL,
            "--json",
        ]
        shown = self.stack.compose_on_terminal(*command)
        lines = [line for line in shown.splitlines() if line.startswith('{"models"')]
        return json.loads(lines[-1]), shown

    def picture(self, label: str) -> bytes:
        return next((self.pictures / label).glob("*.jpg")).read_bytes()

    def predict(self, picture: bytes) -> dict[str, Any]:
        with self.stack.api() as api:
            answer = api.post(f"/v1/vision/{MODEL}/predict", content=picture, headers={"Content-Type": "image/jpeg"})
        answer.raise_for_status()
        return dict(answer.json())

    def start_camera(self) -> None:
        """A camera with a password on the network of the worker, which is told of it by SIGHUP.

        Its anomalies come twice a minute: three a minute would be told as chattering and not one by one.
        """
        docker(
            *("run", "--detach", "--name", self.camera, "--network", f"{self.stack.project}_frontend"),
            *("--network-alias", "test-camera", "--env", f"SIMULATED_CAMERA_PASSWORD={_PASSWORD}"),
            *("--restart", "unless-stopped", "--no-healthcheck", "almenara/camera-worker", "simulate"),
            *("--host=0.0.0.0", f"--user={_USER}", "--seed=7", "--anomaly-every=35", "--anomaly-for=8"),
        )
        site = Path(self.stack.env["CAMERAS_DIR"]) / "cameras.yaml"
        text = site.read_text(encoding="utf-8")
        site.write_text(text.partition("cameras:")[0] + "cameras:" + _CONFIG, encoding="utf-8")
        self.stack.compose("exec", "-T", "camera-worker", "sh", "-c", "kill -HUP 1")

    def remove_camera(self) -> None:
        docker("rm", "--force", "--volumes", self.camera)

    def alarms(self, **query: str) -> list[dict[str, Any]]:
        with self.stack.api() as api:
            answer = api.get("/v1/alarms", params={"limit": "1000", **query})
        answer.raise_for_status()
        return list(answer.json())

    def told(self) -> set[str]:
        """Keys of the camera's alarms that the worker told on its own machine."""
        file = "/var/lib/almenara/alarms/alarms.log"
        lines = self.stack.compose("exec", "-T", "camera-worker", "cat", file).stdout.splitlines()
        told = [line["alarm"] for line in map(json.loads, lines) if line["event"] == "raised"]
        return {alarm["idempotency_key"] for alarm in told if alarm["source"] == CAMERA}

    def recorded(self) -> set[str]:
        """Keys of everything that the plant-wide record knows of the camera's alarms."""
        with self.stack.api() as api:
            histories = [api.get(f"/v1/alarms/{alarm['id']}/history") for alarm in self.alarms(source=CAMERA)]
        return {step["key"] for history in histories for step in history.raise_for_status().json()}


def wait_for(what: str, look: Callable[[], _T | None], seconds: float) -> _T:
    """What `look` finds, which is asked twice a second; AssertionError names `what` after `seconds`."""
    until = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > until:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.5)
    return found


def _run(command: list[str], environment: dict[str, str]) -> str:
    keys = {name for name in os.environ if name.startswith(("AWS_", "MINIO_"))}
    inherited = {name: value for name, value in os.environ.items() if name not in keys}
    done = subprocess.run(command, env=inherited | environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{command[2:]}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout
