"""Real servers for tests: child processes on free loopback ports, stopped by their own pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from almenara.processes import answers, free_port

# Where a child process looks for programs: beside this Python first, whatever the caller's own PATH holds.
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


@contextmanager
def running(
    command: Sequence[str],
    log: Path,
    *,
    ready: Callable[[], bool],
    environment: Mapping[str, str] | None = None,
    seconds: float = 90,
) -> Iterator[subprocess.Popen[bytes]]:
    """A child process, yielded when it is ready and stopped with everything it started."""
    env = {**os.environ, "PATH": PATH, **(environment or {})}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    with log.open("ab") as out:
        child = subprocess.Popen(list(command), stdout=out, stderr=out, env=env, start_new_session=True)
    try:
        deadline = time.monotonic() + seconds
        while not ready():
            if child.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{command} is not ready:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)
        yield child
    finally:
        stop(child)


def stop(child: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> int:
    """Signal a child's process group and wait for it; its exit code."""
    if child.poll() is None:
        os.killpg(child.pid, number)
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait(15)
    return int(child.returncode)


@contextmanager
def mlflow_server(folder: Path, port: int | None = None) -> Iterator[str]:
    """A real MLflow tracking server on SQLite and a local artifact folder; its address."""
    port = port or free_port()
    address = f"http://127.0.0.1:{port}"
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--no-serve-artifacts"),
        *("--default-artifact-root", (folder / "artifacts").as_uri()),
        *("--allowed-hosts", f"localhost:{port},127.0.0.1:{port}"),
    ]
    environment = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Webhooks go to https and to public addresses alone unless these say otherwise.
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    }
    with running(command, folder / "mlflow.log", ready=lambda: answers(f"{address}/health"), environment=environment):
        yield address


@contextmanager
def api_server(var: Path, tracking_uri: str, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """The real API as a process; yielded when it is alive (models may still be loading)."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "almenara_api", "--host", "127.0.0.1", "--port", str(port)]
    settings = {
        "ALMENARA_VAR_DIR": str(var),
        "MLFLOW_TRACKING_URI": tracking_uri,
        "ALMENARA_MODEL_POLL_SECONDS": "0.5",
        **(environment or {}),
    }
    var.mkdir(parents=True, exist_ok=True)
    with running(command, var / "api.log", ready=lambda: answers(f"{address}/health/live"), environment=settings):
        yield address
