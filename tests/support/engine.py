"""A Docker engine for tests, and the foreign images that the compose file names.

An engine that runs is used. Where none does, root starts the installed one and ends it afterwards. Images come from
their registries; where none can be reached, stand-ins with the same tags are built: Debian trees by the script
`make-standins` of the shared folder, the others from tests/e2e/compose/standins.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.data import ROOT
from tests.support.object_storage import minio_program, versitygw_program

PYTHON = "python:3.11-slim-bookworm"
POSTGRES = "postgres:17.6-bookworm"
MINIO = "quay.io/minio/minio:RELEASE.2025-09-07T16-13-09Z"
PROMETHEUS = "prom/prometheus:v3.13.2"
STANDINS = ROOT / "tests" / "e2e" / "compose" / "standins"
SCRIPT = ROOT.parent / "shared" / "standins" / "make-standins"
_START_SECONDS, _PULL_SECONDS, _BUILD_SECONDS = 60, 120, 900


class Engine:
    """The engine that answers, started here or not."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def ours(self) -> bool:
        """Whether it was started here and may be restarted."""
        return self._process is not None

    def start(self) -> None:
        """Raises RuntimeError when it does not answer within a minute."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(["dockerd"], stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + _START_SECONDS
        while not answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"dockerd does not start:\n{self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.2)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None


def answers() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=30).returncode == 0


@contextmanager
def engine(log: Path) -> Iterator[Engine]:
    """A running engine; the test is skipped with the reason when there can be none, except in CI, where it fails."""
    made = Engine(log)
    if not answers():
        if shutil.which("dockerd") is None or shutil.which("docker") is None or os.geteuid() != 0:
            unavailable("No Docker engine answers, and none can be started (docker, dockerd and root are needed).")
        made.start()
    try:
        yield made
    finally:
        made.stop()


def unavailable(reason: str) -> None:
    """Skip, or fail in CI, where these tests must run."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def ensure_images() -> list[str]:
    """Have the foreign images of the default platform; returns a sentence for each stand-in among them."""
    told = []
    if any(not _have(image) for image in (PYTHON, POSTGRES)):
        if not SCRIPT.is_file() or shutil.which("debootstrap") is None:
            unavailable(f"No registry can be reached, and {SCRIPT.name} or debootstrap is missing for stand-ins.")
        environment = os.environ | {"PYTHON_TAG": PYTHON, "POSTGRES_TAG": POSTGRES}
        _checked([str(SCRIPT), "python", "postgres"], environment)
        told.append(f"{PYTHON} and {POSTGRES} are stand-ins made of Debian's packages.")
    if not _have(MINIO) or (_is_stand_in(MINIO) and minio_program().path):
        told.append(_stand_in_for_minio())
    return told


def ensure_image(tag: str, folder: str) -> None:
    """Have an image that one overlay or profile needs; its stand-in is built from `STANDINS / folder`."""
    if not _have(tag):
        _checked(["docker", "build", "--quiet", "--tag", tag, str(STANDINS / folder)])


def _have(tag: str) -> bool:
    inspected = subprocess.run(["docker", "image", "inspect", tag], capture_output=True, check=False)
    if inspected.returncode == 0:
        return True
    try:
        pulled = subprocess.run(
            ["docker", "pull", "--quiet", tag], capture_output=True, check=False, timeout=_PULL_SECONDS
        )
    except subprocess.TimeoutExpired:
        return False
    return pulled.returncode == 0


def _is_stand_in(image: str) -> bool:
    """Whether another server answers under the image's tag."""
    label = ["docker", "image", "inspect", "--format", '{{index .Config.Labels "almenara.stand-in"}}', image]
    return subprocess.run(label, capture_output=True, check=False, text=True).stdout.strip() != ""


def _stand_in_for_minio() -> str:
    real = minio_program()
    if real.path is not None and SCRIPT.is_file():
        _checked(
            [str(SCRIPT), "minio", str(real.path), str(STANDINS / "minio" / "mc")], os.environ | {"MINIO_TAG": MINIO}
        )
        return f"{MINIO} is a stand-in around the real server, built from its Go module ({real.path.parent.name})."
    other = versitygw_program()
    if other.path is None:
        unavailable(f"There is no S3 server for the stack. {real.reason} {other.reason}")
    with tempfile.TemporaryDirectory() as context:
        shutil.copytree(STANDINS / "minio", context, dirs_exist_ok=True)
        shutil.copy2(str(other.path), context)
        _checked(["docker", "build", "--quiet", "--tag", MINIO, context])
    return f"{MINIO} is a stand-in around versitygw, another S3 server. {real.reason}"


def _checked(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=_BUILD_SECONDS)
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise RuntimeError(f"{command[0]} failed: {done.stderr.strip()[-2000:]}")
