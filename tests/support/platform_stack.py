"""The composed platform, built and started as a user does: from a copy of the tree, with its own .env and ports."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from almenara.processes import free_port
from minio_client import Connection
from tests.support.data import ROOT
from tests.support.engine import Engine
from tests.support.servers import PATH

PORTS = ("API_PORT", "MLFLOW_PORT", "MINIO_PORT", "MINIO_CONSOLE_PORT", "WORKER_STATUS_PORT", "JUPYTER_PORT")
MORE_PORTS = ("PROMETHEUS_PORT", "GRAFANA_PORT")
SERVICES = ("postgres", "minio", "mlflow", "api", "camera-worker")


def compose_command() -> list[str]:
    """Docker Compose: the one beside Python, else the engine's plugin."""
    beside = shutil.which("docker-compose", path=PATH)
    return [beside] if beside else ["docker", "compose"]


def copy_tree(target: Path) -> None:
    """What a clone would hold: tracked files and new ones that git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


@dataclass
class Stack:
    """A platform in `directory`, with the settings of its .env.

    Attributes:
        directory: of docker-compose.yaml, .env and all else.
        project: name of the compose project.
        engine: that it runs on.
    """

    directory: Path
    project: str
    engine: Engine
    env: dict[str, str] = field(default_factory=dict)

    def prepare(self, settings: Mapping[str, str]) -> None:
        """Copy the tree and make .env with secrets, free ports and the given settings."""
        copy_tree(self.directory)
        init = [sys.executable, "-m", "almenara", "env", "init"]
        subprocess.run(init, cwd=self.directory, check=True, capture_output=True)
        ports = {name: str(free_port()) for name in (*PORTS, *MORE_PORTS)}
        changed = {"COMPOSE_PROJECT_NAME": self.project, **ports, **settings}
        file = self.directory / ".env"
        lines = [line for line in file.read_text().splitlines() if line.partition("=")[0] not in changed]
        file.write_text("\n".join([*lines, *(f"{name}={value}" for name, value in changed.items())]) + "\n")
        self.env = dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line and line[0] != "#")

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.env['API_PORT']}"

    @property
    def mlflow_url(self) -> str:
        return f"http://127.0.0.1:{self.env['MLFLOW_PORT']}"

    @property
    def s3_endpoint(self) -> str:
        return f"http://127.0.0.1:{self.env['MINIO_PORT']}"

    @property
    def worker_url(self) -> str:
        return f"http://127.0.0.1:{self.env['WORKER_STATUS_PORT']}"

    @property
    def storage(self) -> Connection:
        return Connection(self.s3_endpoint, self.env["MINIO_ACCESS_KEY"], self.env["MINIO_SECRET_KEY"])

    def api(self, timeout: float = 10.0) -> httpx.Client:
        """A client of the API with its key."""
        return httpx.Client(base_url=self.api_url, headers={"X-API-Key": self.env["ALMENARA_API_KEY"]}, timeout=timeout)

    def compose(
        self,
        *arguments: str,
        files: Sequence[str] = (),
        input: str | None = None,  # noqa: A002 - as subprocess.run calls it
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run Docker Compose in the directory; `files` are overlays, in the order of their use."""
        named = [part for file in ("docker-compose.yaml", *files) for part in ("--file", file)] if files else []
        done = subprocess.run(
            [*compose_command(), *named, *arguments],
            cwd=self.directory,
            env=self._environment(),
            input=input,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            said = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{self.complaints()}"
            raise AssertionError(f"docker compose {' '.join(arguments)}:\n{said}")
        return done

    def compose_on_terminal(self, *arguments: str) -> str:
        """Run Docker Compose as `compose` does, on a terminal; what it showed there."""
        terminal, inner = pty.openpty()
        command = [*compose_command(), *arguments]
        with os.fdopen(terminal, "rb", buffering=0) as screen:
            child = subprocess.Popen(
                command, cwd=self.directory, env=self._environment(), stdin=inner, stdout=inner, stderr=inner
            )
            os.close(inner)
            shown = b""
            with suppress(OSError):  # how the end of a terminal is told
                while block := screen.read(65536):
                    shown += block
        text = shown.decode(errors="replace")
        if child.wait(60):
            raise AssertionError(f"docker compose {' '.join(arguments)}:\n{text[-6000:]}\n{self.complaints()}")
        return text

    def _environment(self) -> dict[str, str]:
        """Ours without what .env sets: what lies in the environment would win."""
        ours = {name: value for name, value in os.environ.items() if name not in self.env}
        return ours | {"DOCKER_BUILDKIT": "0", "COMPOSE_ANSI": "never"}

    def complaints(self) -> str:
        """The last lines of every container that failed or is not healthy."""
        told = []
        for container in self.containers():
            state = container["State"]
            if state["ExitCode"] or state.get("Health", {}).get("Status", "healthy") != "healthy":
                logs = subprocess.run(
                    ["docker", "logs", "--tail", "30", container["Id"]], capture_output=True, text=True, check=False
                )
                told.append(f"--- {service_of(container)}\n{logs.stdout}{logs.stderr}")
        return "\n".join(told)

    def up(self, *arguments: str, profiles: Sequence[str] = (), files: Sequence[str] = ()) -> float:
        """`up --detach --wait` with what is given; seconds that it took."""
        begun = time.monotonic()
        named = [part for profile in profiles for part in ("--profile", profile)]
        self.compose(*named, "up", "--detach", "--wait", "--wait-timeout", "300", *arguments, files=files)
        return time.monotonic() - begun

    def down(self, *arguments: str) -> None:
        self.compose("--profile", "*", "down", "--remove-orphans", *arguments)

    def containers(self) -> list[dict[str, Any]]:
        """Every container of the project, ended ones too, as `docker inspect` tells it."""
        label = f"label=com.docker.compose.project={self.project}"
        ids = docker("ps", "--all", "--quiet", "--filter", label).split()
        return list(json.loads(docker("inspect", *ids))) if ids else []

    def container(self, service: str) -> dict[str, Any]:
        [found] = [each for each in self.containers() if service_of(each) == service]
        return found

    def health(self, service: str) -> str:
        """`healthy`, `starting`, `unhealthy`, or the state of a container without a health check."""
        state = self.container(service)["State"]
        return str(state.get("Health", {}).get("Status", state["Status"])) if state["Running"] else str(state["Status"])

    def wait_healthy(self, *services: str, seconds: float = 120) -> float:
        """Seconds until all are healthy."""
        begun = time.monotonic()
        while any(self.health(service) != "healthy" for service in services):
            if time.monotonic() - begun > seconds:
                told = {service: self.health(service) for service in services}
                raise AssertionError(f"not healthy within {seconds} s: {told}")
            time.sleep(0.5)
        return time.monotonic() - begun


def service_of(container: dict[str, Any]) -> str:
    return str(container["Config"]["Labels"]["com.docker.compose.service"])


def docker(*arguments: str) -> str:
    """What a command of Docker prints; raises AssertionError with what it says when it fails."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"docker {' '.join(arguments[:3])}: {done.stderr.strip()}")
    return done.stdout
