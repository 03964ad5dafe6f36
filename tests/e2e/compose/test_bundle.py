"""The bundle: made of a platform's images, it brings them to where none is, and the platform starts from it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from almenara.processes import free_port
from tests.e2e.compose.conftest import NOTES
from tests.support.platform_stack import MORE_PORTS, PORTS, SERVICES, Stack, compose_command, docker

pytestmark = pytest.mark.compose

OWN = ("almenara/api", "almenara/camera-worker", "almenara/minio-client", "almenara/mlflow")


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command that finds Docker Compose where these tests find it."""
    path = f"{Path(compose_command()[0]).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@dataclass(frozen=True)
class Bundle:
    """An unpacked bundle."""

    folder: Path
    archive: Path


@pytest.fixture(scope="module")
def bundle(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    place = tmp_path_factory.mktemp("bundle")
    archive = place / "bundle.tar"
    made = run("deploy/bundle", "--output", str(archive), folder=stack.directory)
    assert made.returncode == 0, made.stderr
    NOTES.append(f"the bundle of the default stack: {archive.stat().st_size / 1e6:.0f} MB")
    unpacked = run("tar", "-xf", str(archive), folder=place)
    assert unpacked.returncode == 0, unpacked.stderr
    [folder] = [each for each in place.iterdir() if each.is_dir()]
    return Bundle(folder, archive)


@pytest.fixture(scope="module")
def installed(bundle: Bundle) -> Iterator[Bundle]:
    """Installed after the names of our images were taken away; they are given back if that fails."""
    ids = {name: docker("image", "inspect", "--format", "{{.Id}}", name).strip() for name in OWN}
    docker("rmi", "--force", "--no-prune", *OWN)
    done = run("./install", folder=bundle.folder)
    try:
        assert done.returncode == 0, done.stderr
        yield bundle
    finally:
        for name, image in ids.items():
            docker("tag", image, name)


def test_the_bundle_holds_no_settings_of_where_it_was_made(bundle: Bundle) -> None:
    names = {each.name for each in bundle.folder.iterdir()}
    assert {"install", "INSTALL.txt", "images.tar.gz", "SHA256SUMS", "docker-compose.yaml", "sample.env"} <= names
    assert ".env" not in names
    assert not list(bundle.folder.rglob("*.key"))


def test_a_damaged_bundle_is_refused_before_anything_is_loaded(bundle: Bundle) -> None:
    damaged = bundle.folder / "sample.env"
    before = damaged.read_bytes()
    damaged.write_bytes(before + b"#")
    try:
        refused = run("./install", folder=bundle.folder)
    finally:
        damaged.write_bytes(before)
    assert refused.returncode == 1
    assert "sample.env" in refused.stdout + refused.stderr
    assert "nothing was changed" in refused.stderr
    assert "Loading" not in refused.stdout
    assert not (bundle.folder / ".env").exists()


def test_install_loads_the_images_and_makes_settings_for_their_owner_alone(installed: Bundle) -> None:
    for name in OWN:
        docker("image", "inspect", name)
    settings = installed.folder / ".env"
    assert settings.stat().st_mode & 0o777 == 0o600
    assert "change-me" not in settings.read_text().partition("# --- where it listens")[0].partition("\nPOSTGRES")[2]


def test_the_platform_starts_from_the_bundle_and_builds_nothing(installed: Bundle) -> None:
    settings = installed.folder / ".env"
    ports = {name: free_port() for name in (*PORTS, *MORE_PORTS)}
    kept = [line for line in settings.read_text().splitlines() if line.partition("=")[0] not in ports]
    settings.write_text("\n".join([*kept, *(f"{name}={port}" for name, port in ports.items())]) + "\n")
    compose = (*compose_command(), "--project-name", "almenara-bundle")
    try:
        started = run(*compose, "up", "--detach", "--no-build", "--wait", folder=installed.folder)
        assert started.returncode == 0, started.stderr[-3000:]
        assert httpx.get(f"http://127.0.0.1:{ports['API_PORT']}/health/live").status_code == 200
        running = run(*compose, "ps", "--services", "--status", "running", folder=installed.folder)
        assert set(running.stdout.split()) == set(SERVICES)
    finally:
        run(*compose, "down", "--volumes", folder=installed.folder)


def test_a_missing_image_is_named_and_nothing_is_written(stack: Stack, tmp_path: Path) -> None:
    lacking = os.environ | {"MINIO_IMAGE": "almenara/is-not-there:1.0"}
    archive = tmp_path / "bundle.tar"
    path = f"{Path(compose_command()[0]).parent}{os.pathsep}{lacking['PATH']}"
    refused = subprocess.run(
        ["deploy/bundle", "--output", str(archive)],
        cwd=stack.directory,
        env=lacking | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "almenara/is-not-there:1.0" in refused.stderr
    assert "docker compose pull" in refused.stderr
    assert list(tmp_path.iterdir()) == []
