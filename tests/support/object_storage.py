"""Real S3 servers for tests: MinIO where there is one, versitygw where Go can build it, nanio everywhere."""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import urllib3

from almenara.processes import free_port
from minio_client import Connection
from tests.support.servers import running

ACCESS_KEY, SECRET_KEY = "almenara-test", "almenara-test-secret"

# The module's last version, of 2026-02-12: a release is a tag, which not every proxy of Go modules knows.
MINIO = ("github.com/minio/minio", "v0.0.0-20260212201848-7aac2a2c5b7c")
VERSITYGW = ("github.com/versity/versitygw/cmd/versitygw", "v1.8.0")
_BUILD_SECONDS = 500


@dataclass(frozen=True)
class Program:
    """A server's program, or why there is none."""

    path: Path | None
    reason: str = ""


@contextmanager
def object_storage(directory: Path) -> Iterator[Connection]:
    """Run the best server that is at hand without a build, with its data in ``directory``."""
    if _given_minio() is not None or _cached(*MINIO).is_file():
        server = minio_server
    elif _cached(*VERSITYGW).is_file():
        server = versitygw_server
    else:
        server = nanio_server
    with server(directory) as connection:
        yield connection


def minio_server(directory: Path) -> AbstractContextManager[Connection]:
    """MinIO on a free port of loopback; without its program the test is skipped with the reason."""
    environment = {"MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY, "MINIO_BROWSER": "off"}
    program = _needed(minio_program())
    data = _folder(directory, "data")
    return _running(
        lambda port: [program, "server", "--quiet", "--address", f"127.0.0.1:{port}", data], environment, directory
    )


def versitygw_server(directory: Path) -> AbstractContextManager[Connection]:
    """versitygw on a free port of loopback; without its program the test is skipped with the reason."""
    environment = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
    program = _needed(versitygw_program())
    data, versions, metadata = (_folder(directory, name) for name in ("data", "versions", "metadata"))
    storage = ["posix", "--sidecar", metadata, "--versioning-dir", versions, data]  # not every /tmp has attributes
    return _running(lambda port: [program, "--quiet", "--port", f"127.0.0.1:{port}", *storage], environment, directory)


def nanio_server(directory: Path) -> AbstractContextManager[Connection]:
    """nanio, which comes with the development requirements, on a free port of loopback."""
    environment = {"NANIO_ACCESS_KEY": ACCESS_KEY, "NANIO_SECRET_KEY": SECRET_KEY}
    data = _folder(directory, "data")
    start = [sys.executable, "-m", "nanio", "serve", "--host", "127.0.0.1", "--data-dir", data, "--port"]
    return _running(lambda port: [*start, str(port)], environment, directory)


def versitygw_binary() -> Path | None:
    """versitygw, built once into the user's cache; None without Go (`versitygw_program` says why)."""
    return versitygw_program().path


@functools.cache
def versitygw_program() -> Program:
    return _built(*VERSITYGW)


@functools.cache
def minio_program() -> Program:
    given = _given_minio()
    return Program(Path(given)) if given else _built(*MINIO)


def _given_minio() -> str | None:
    return os.environ.get("ALMENARA_MINIO_BINARY") or shutil.which("minio")


def _needed(program: Program) -> str:
    if program.path is None:
        pytest.skip(program.reason)
    return str(program.path)


def _cached(module: str, version: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = module.rsplit("/", 1)[1]
    return cache / "almenara" / "bin" / f"{name}-{version}" / name


def _built(module: str, version: str) -> Program:
    """Build a Go program into the cache; of several processes at a time one builds and the others wait."""
    path = _cached(module, version)
    name = path.name
    if path.is_file():
        return Program(path)
    go = shutil.which("go")
    if go is None:
        return Program(None, f"{name} cannot be built: Go is not installed.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / "lock").open("w") as lock, tempfile.TemporaryDirectory(dir=path.parent) as built:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.is_file():
            return Program(path)
        environment = os.environ | {"GOBIN": built, "CGO_ENABLED": "0"}  # runs in any image
        command = [go, "install", f"{module}@{version}"]
        try:
            subprocess.run(command, env=environment, capture_output=True, check=True, text=True, timeout=_BUILD_SECONDS)
        except subprocess.CalledProcessError as error:
            said = error.stderr.strip().splitlines() or ["go install failed"]
            return Program(None, f"{name} {version} cannot be built: {said[-1].strip()}")
        except subprocess.TimeoutExpired:
            return Program(None, f"{name} {version} was not built within {_BUILD_SECONDS} s.")
        (Path(built) / name).replace(path)
    return Program(path)


def _folder(directory: Path, name: str) -> str:
    folder = directory / name
    folder.mkdir()
    return str(folder)


@contextmanager
def _running(command: Callable[[int], list[str]], environment: dict[str, str], directory: Path) -> Iterator[Connection]:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with running(command(port), directory / "server.log", ready=lambda: _answers(address), environment=environment):
        yield Connection(address, ACCESS_KEY, SECRET_KEY)


def _answers(address: str) -> bool:
    """Whether a server is there and past its start; MinIO says 503 until then."""
    try:
        return urllib3.request("GET", address, retries=False, timeout=5).status < 500
    except urllib3.exceptions.HTTPError:
        return False
