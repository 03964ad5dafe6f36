"""The servers that are compared, each as its own documentation starts it, on loopback."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from almenara.processes import free_port
from benchmarks.harness import ROOT
from benchmarks.serving.models import Models

READY_SECONDS = 120.0
_STOP_SECONDS = 15.0
_REQUIREMENTS = Path(__file__).with_name("mlserver.txt")


@dataclass(frozen=True)
class Server:
    """How a server is started.

    Attributes:
        name: told with its figures, and of its log.
        command: makes program and arguments for a port.
        ready: path that answers 200 once it serves.
        environment: variables on top of this process's own.
        folder: working directory.
    """

    name: str
    command: Callable[[int], Sequence[str]]
    ready: str
    environment: Callable[[int], Mapping[str, str]] = lambda _: {}
    folder: Path = ROOT


class Running:
    """A server that runs until the block ends, with every process that it started."""

    def __init__(self, server: Server, logs: Path) -> None:
        self.server, self.port = server, free_port()
        self._log = logs / f"{server.name}.log"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ALMENARA_", "MLFLOW_"))}
        beside = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                list(server.command(self.port)),
                cwd=server.folder,
                env=kept | {"PATH": beside} | dict(server.environment(self.port)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers():
            if self._child.poll() is not None or time.monotonic() > deadline:
                self._stop()
                raise RuntimeError(f"{self.server.name} did not come up. Its last words:\n{self.log()}")
            time.sleep(0.2)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop()

    def cpu_seconds(self) -> float:
        """User and system time of its processes so far."""
        return float(sum(used.user + used.system for used in (each.cpu_times() for each in self._processes())))

    def log(self) -> str:
        """Its last words."""
        return self._log.read_text(errors="replace")[-2000:]

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{self.server.ready}", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def _processes(self) -> list[psutil.Process]:
        try:
            parent = psutil.Process(self._child.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _stop(self) -> None:
        started = self._processes()
        self._child.terminate()
        _, left = psutil.wait_procs(started, _STOP_SECONDS)
        for process in left:
            process.kill()
        self._child.wait()


def ours(models: Models, folder: Path, name: str = "almenara") -> Server:
    """The API as `python -m almenara_api` runs it."""
    environment = {"ALMENARA_VAR_DIR": str(folder / name), "MLFLOW_TRACKING_URI": models.address}
    return Server(
        name,
        lambda port: [sys.executable, "-m", "almenara_api", "--port", str(port)],
        "/health/ready",
        lambda _: environment,
    )


def mlflow(models: Models, name: str, uri: str) -> Server:
    """`mlflow models serve`, in this environment."""
    own = (sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "--host", "127.0.0.1")
    return Server(
        f"mlflow-{name}",
        lambda port: [*own, "--model-uri", uri, "--port", str(port)],
        "/ping",
        lambda _: {"MLFLOW_TRACKING_URI": models.address},
    )


def tutorial() -> Server:
    """FastAPI, a model in a global, a route that calls it: what tutorials teach."""
    command = (sys.executable, "-m", "uvicorn", "benchmarks.serving.tutorial:app", "--log-level", "warning")
    return Server("tutorial", lambda port: [*command, "--port", str(port)], "/")


def mlserver(package: Path, folder: Path, workers: int | None) -> Server:
    """MLServer with a runtime of its own around the same package.

    Args:
        package: what it serves, under the name of its folder.
        folder: where its settings are written.
        workers: `parallel_workers`: 0 serves within one process, None leaves its default.
    """
    name = f"mlserver-{package.name}-{'default' if workers is None else workers}"
    root = folder / name
    root.mkdir(parents=True)
    settings = {
        "name": package.name,
        "implementation": "benchmarks.serving.mlserver_runtime.Packaged",
        "parameters": {"uri": str(package)},
    }
    (root / "model-settings.json").write_text(json.dumps(settings))
    mlserver_python = environment()
    command = [str(mlserver_python.with_name("mlserver")), "start", str(root)]

    def variables(port: int) -> dict[str, str]:
        chosen = {} if workers is None else {"MLSERVER_PARALLEL_WORKERS": str(workers)}
        ports = {"MLSERVER_HTTP_PORT": port, "MLSERVER_GRPC_PORT": free_port(), "MLSERVER_METRICS_PORT": free_port()}
        return {
            "PYTHONPATH": str(ROOT),
            "PATH": f"{mlserver_python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "MLSERVER_HOST": "127.0.0.1",
            "MLSERVER_DEBUG": "false",
            **{variable: str(value) for variable, value in ports.items()},
            **chosen,
        }

    return Server(name, lambda _: command, f"/v2/models/{package.name}/ready", variables, root)


def environment() -> Path:
    """The Python of MLServer's own environment, made when it is missing or its requirements have changed.

    Raises:
        RuntimeError: it cannot be installed.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "almenara", "bench-serving")
    cache.mkdir(parents=True, exist_ok=True)
    python, marker = cache / "mlserver" / "bin" / "python", cache / "mlserver" / "requirements.txt"
    wanted = _REQUIREMENTS.read_text()
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (marker.is_file() and marker.read_text() == wanted):
            install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
            for command in (
                [sys.executable, "-m", "venv", "--clear", str(cache / "mlserver")],
                [*install, "-r", str(_REQUIREMENTS)],
            ):
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise RuntimeError(f"MLServer cannot be installed (Python 3.11 or 3.12):\n{done.stderr[-1500:]}")
            marker.write_text(wanted)
    return python
