"""A real S3 server for tests: MinIO where there is one, else nanio."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minio_client import Connection

ACCESS_KEY, SECRET_KEY = "almenara-test", "almenara-test-secret"


@contextmanager
def object_storage(directory: Path) -> Iterator[Connection]:
    """Run a server on a free port of loopback with its data in ``directory``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command, keys = _server(directory, port)
    with (directory / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=os.environ | keys, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_for(port, server, directory / "server.log")
            yield Connection(f"http://127.0.0.1:{port}", ACCESS_KEY, SECRET_KEY)
        finally:
            server.terminate()
            server.wait(10)


def _server(directory: Path, port: int) -> tuple[list[str], dict[str, str]]:
    data = directory / "data"
    data.mkdir()
    minio = os.environ.get("ALMENARA_MINIO_BINARY") or shutil.which("minio")
    if minio:
        command = [minio, "server", "--quiet", "--address", f"127.0.0.1:{port}", str(data)]
        return command, {"MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY, "MINIO_BROWSER": "off"}
    command = [sys.executable, "-m", "nanio", "serve", "--host", "127.0.0.1", "--port", str(port)]
    return [*command, "--data-dir", str(data)], {"NANIO_ACCESS_KEY": ACCESS_KEY, "NANIO_SECRET_KEY": SECRET_KEY}


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if server.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"the S3 server did not start:\n{log.read_text(encoding='utf-8', errors='replace')}")
