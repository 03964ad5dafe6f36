"""The overlays and the bundle's installer, without an engine: Docker Compose puts the files together."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from almenara import servable
from almenara_api.cache import ModelCache
from almenara_api.store import ModelStore
from tests.support.api import FolderRegistry, wait_until
from tests.support.data import ROOT
from tests.support.packages import vision_candidate
from tests.support.platform_stack import compose_command

DEPLOY = ROOT / "deploy"
OVERLAYS = ("minio-source", "replicas", "tls", "development")
COMBINATIONS = (
    *((name,) for name in OVERLAYS),
    ("replicas", "tls"),
    ("minio-source", "replicas", "tls"),
    ("replicas", "development"),
)
PASSWORD = "the-password-of-mlflow"  # noqa: S105 - of this test
RELEASE = "RELEASE.2025-10-15T17-29-55Z"


def compose(*arguments: str, settings: tuple[tuple[str, str], ...]) -> subprocess.CompletedProcess[str]:
    command = compose_command()
    if shutil.which(command[0]) is None:
        pytest.skip("Docker Compose is not installed: the environment's own has no build for this platform")
    return subprocess.run(
        [*command, "--env-file", "sample.env", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **dict(settings)},
        capture_output=True,
        text=True,
        check=False,
    )


def files(*overlays: str) -> list[str]:
    paths = ["docker-compose.yaml", *(f"deploy/compose.{name}.yaml" for name in overlays)]
    return [part for path in paths for part in ("--file", path)]


@functools.cache
def services(
    *overlays: str, settings: tuple[tuple[str, str], ...] = (("MLFLOW_PASSWORD", PASSWORD),)
) -> dict[str, Any]:
    """The services as Compose reads them."""
    done = compose(*files(*overlays), "config", "--format", "json", settings=settings)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["services"]
    return found


def published(service: dict[str, Any]) -> list[tuple[str, str, int]]:
    return [(port["host_ip"], port["published"], port["target"]) for port in service.get("ports", [])]


@pytest.mark.parametrize("overlays", COMBINATIONS, ids="+".join)
def test_compose_accepts_the_overlays(overlays: tuple[str, ...]) -> None:
    assert "api" in services(*overlays)


@pytest.mark.parametrize("overlays", COMBINATIONS, ids="+".join)
def test_nothing_listens_beyond_this_machine_unless_told_to(overlays: tuple[str, ...]) -> None:
    ports = [port for service in services(*overlays).values() for port in published(service)]
    assert {address for address, _, _ in ports} == {"127.0.0.1"}
    assert len({port for _, port, _ in ports}) == len(ports)


@pytest.mark.parametrize("overlays", COMBINATIONS, ids="+".join)
def test_files_that_the_overlays_mount_exist(overlays: tuple[str, ...]) -> None:
    of_the_site = {str(ROOT / "tls")}
    for service in services(*overlays).values():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind" and volume["source"] not in of_the_site:
                assert Path(volume["source"]).exists(), volume
                assert volume["read_only"], volume


def test_every_variable_of_an_overlay_is_explained() -> None:
    told = (ROOT / "docs" / "operations" / "deployment.md").read_text() + (ROOT / "sample.env").read_text()
    for overlay in OVERLAYS:
        for name in re.findall(r"\$\{(\w+)", (DEPLOY / f"compose.{overlay}.yaml").read_text()):
            assert name in told


def test_replicas_are_reached_through_the_proxy_alone() -> None:
    found = services("replicas")
    assert published(found["api"]) == []
    assert published(found["proxy"]) == [("127.0.0.1", "8000", 8000)]
    assert found["api"]["deploy"]["replicas"] == 2


def test_the_number_of_replicas_is_a_setting() -> None:
    assert services("replicas", settings=(("API_REPLICAS", "4"),))["api"]["deploy"]["replicas"] == 4


@pytest.mark.parametrize("overlays", [("tls",), ("replicas", "tls")], ids="+".join)
def test_with_tls_api_and_mlflow_have_no_plain_port(overlays: tuple[str, ...]) -> None:
    found = services(*overlays)
    assert published(found["api"]) == published(found["mlflow"]) == []
    assert {target for _, _, target in published(found["proxy"])} == {8443, 5443}
    assert found["proxy"]["entrypoint"] == ["bash", "/etc/nginx/almenara/start-tls"]


def test_tls_may_listen_where_plain_ports_do_not() -> None:
    found = services("tls", settings=(("MLFLOW_PASSWORD", PASSWORD), ("TLS_BIND_ADDRESS", "0.0.0.0")))
    addresses = {name: {address for address, _, _ in published(service)} for name, service in found.items()}
    assert addresses.pop("proxy") == {"0.0.0.0"}
    assert set().union(*addresses.values()) == {"127.0.0.1"}


def test_tls_without_the_password_of_mlflow_is_refused_by_its_name() -> None:
    refused = compose(*files("tls"), "config", "--quiet", settings=())
    assert refused.returncode != 0
    assert "MLFLOW_PASSWORD is missing a value: set it in .env" in refused.stderr


def test_the_password_of_mlflow_is_in_no_command_line() -> None:
    proxy = services("tls")["proxy"]
    assert proxy.pop("environment")["MLFLOW_PASSWORD"] == PASSWORD
    assert PASSWORD not in json.dumps(services("replicas", "tls")["proxy"] | {"environment": None})
    assert PASSWORD not in json.dumps(proxy)


@pytest.mark.parametrize("overlays", [("replicas",), ("tls",), ("replicas", "tls")], ids="+".join)
def test_the_proxy_has_limits_and_few_rights(overlays: tuple[str, ...]) -> None:
    proxy = services(*overlays)["proxy"]
    assert (proxy["cap_drop"], proxy["read_only"], proxy["restart"]) == (["ALL"], True, "unless-stopped")
    assert proxy["security_opt"] == ["no-new-privileges:true"]
    assert proxy["mem_limit"]
    assert proxy["logging"]["options"]["max-size"]
    assert "curl" not in json.dumps(proxy["healthcheck"])
    assert re.fullmatch(r"nginx:\d+\.\d+\.\d+-\w+", proxy["image"])


@pytest.mark.parametrize(
    ("user", "password", "sentence"),
    [
        ("ann:root", PASSWORD, "MLFLOW_USER may have"),
        ("ann", "change-me-please-now", "MLFLOW_PASSWORD is a placeholder"),
        ("ann", "short", "MLFLOW_PASSWORD has fewer than 16 characters"),
        ("ann", PASSWORD, "There is no tls.crt"),
    ],
)
def test_the_proxy_says_what_it_cannot_start_with(user: str, password: str, sentence: str) -> None:
    refused = subprocess.run(
        ["bash", str(DEPLOY / "nginx" / "start-tls")],
        env={"PATH": os.environ["PATH"], "MLFLOW_USER": user, "MLFLOW_PASSWORD": password},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert sentence in refused.stderr
    assert password not in refused.stderr


def test_minio_is_built_from_the_source_of_a_pinned_release() -> None:
    dockerfile = (DEPLOY / "minio" / "Dockerfile").read_text()
    assert services("minio-source")["minio"]["image"] == f"almenara/minio:{RELEASE}"
    assert f"github.com/minio/minio@{RELEASE}" in dockerfile
    assert re.search(r"^FROM golang:\d+\.\d+\.\d+-bookworm AS build$", dockerfile, re.MULTILINE)
    assert not re.search(r"<<|--mount|--link", dockerfile)


def test_minio_from_source_keeps_the_account_of_its_volume_without_its_rights() -> None:
    minio = services("minio-source")["minio"]
    assert (minio["user"], minio["cap_drop"]) == ("0:0", ["ALL"])
    assert "mc" not in minio["healthcheck"]["test"]


def test_development_opens_the_database_to_this_machine_and_keeps_its_network_closed() -> None:
    assert published(services("development")["postgres"]) == [("127.0.0.1", "5432", 5432)]
    overlay = yaml.safe_load((DEPLOY / "compose.development.yaml").read_text())
    assert overlay["services"]["postgres"]["networks"] == list(overlay["networks"]) == ["development"]


def test_replicas_that_share_a_model_cache_agree_in_the_end_and_it_is_whole(tmp_path: Path) -> None:
    registry = FolderRegistry(tmp_path / "registry")
    candidate = vision_candidate()
    name = candidate.card.name
    for version in range(1, 9):
        registry.register(candidate, str(version))
    cache = ModelCache(tmp_path / "cache", "origin")
    replicas = [ModelStore(lambda: registry, ModelCache(cache.root, "origin"), poll_seconds=0.01) for _ in range(3)]
    for replica in replicas:
        replica.start()
    try:
        for version in range(1, 9):
            registry.champions = {name: (candidate.card, str(version))}
            wait_until(lambda: any(serves(each, name) == registry.champions[name][1] for each in replicas), 20)
        wait_until(lambda: all(serves(each, name) == "8" for each in replicas), 20)
        wait_until(lambda: [entry.version for entry in cache.entries()] == ["8"], 20)
    finally:
        for replica in replicas:
            replica.stop()
    assert servable.load(cache.directory(cache.entries()[0])).card == candidate.card


def serves(replica: ModelStore, name: str) -> str | None:
    loaded = replica.snapshot.loaded.get(name)
    return None if loaded is None else loaded.entry.version


def test_the_bundle_explains_itself() -> None:
    told = subprocess.run([str(DEPLOY / "bundle"), "--help"], capture_output=True, text=True, check=True)
    assert "Example:" in told.stdout


def test_an_unknown_option_of_the_bundle_is_refused() -> None:
    refused = subprocess.run([str(DEPLOY / "bundle"), "--all"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "--all is no option" in refused.stderr


ENGINE = """#!/bin/bash
case "$*" in
  "compose version --short") echo "${COMPOSE_VERSION:-2.40.0}" ;;
  "compose version" | "version") ;;
  "version --format"*) echo amd64 ;;
  "load --input images.tar.gz") echo "Loaded" ;;
  *) exit 1 ;;
esac
"""


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """A bundle without real images, and an engine that takes them."""
    folder = tmp_path / "almenara"
    folder.mkdir()
    shutil.copy2(DEPLOY / "bundled" / "install", folder)
    shutil.copy2(ROOT / "sample.env", folder)
    (folder / "images.tar.gz").write_bytes(b"images")
    (folder / "ARCHITECTURE").write_text("amd64\n")
    sums = [f"{hashlib.sha256(each.read_bytes()).hexdigest()}  ./{each.name}\n" for each in sorted(folder.iterdir())]
    (folder / "SHA256SUMS").write_text("".join(sums))
    engine = tmp_path / "bin" / "docker"
    engine.parent.mkdir()
    engine.write_text(ENGINE)
    engine.chmod(0o755)
    return folder


def install(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{folder.parent / 'bin'}{os.pathsep}{os.environ['PATH']}", **settings}
    return subprocess.run([str(folder / "install")], env=environment, capture_output=True, text=True, check=False)


def test_install_makes_a_secret_for_every_placeholder(unpacked: Path) -> None:
    done = install(unpacked)
    assert done.returncode == 0, done.stderr
    sample = dict(re.findall(r"^(\w+)=(.*)$", (unpacked / "sample.env").read_text(), re.MULTILINE))
    made = dict(re.findall(r"^(\w+)=(.*)$", (unpacked / ".env").read_text(), re.MULTILINE))
    placeholders = {name for name, value in sample.items() if value.startswith("change-me")}
    assert made | {name: sample[name] for name in placeholders} == sample
    assert len({made[name] for name in placeholders}) == len(placeholders) > 3
    assert all(re.fullmatch(r"[0-9a-f]{40}", made[name]) for name in placeholders)


def test_settings_are_for_their_owner_alone_and_their_secrets_are_not_shown(unpacked: Path) -> None:
    done = install(unpacked)
    settings = unpacked / ".env"
    assert settings.stat().st_mode & 0o777 == 0o600
    secrets = re.findall(r"=([0-9a-f]{40})$", settings.read_text(), re.MULTILINE)
    assert secrets
    assert not any(secret in done.stdout + done.stderr for secret in secrets)


def test_settings_that_are_there_stay_and_what_they_lack_is_named(unpacked: Path) -> None:
    (unpacked / ".env").write_text("POSTGRES_PASSWORD=mine\n")
    done = install(unpacked)
    assert (unpacked / ".env").read_text() == "POSTGRES_PASSWORD=mine\n"
    assert "MINIO_SECRET_KEY" in done.stdout
    assert "POSTGRES_PASSWORD" not in done.stdout


def test_a_damaged_file_is_named_and_nothing_is_loaded(unpacked: Path) -> None:
    (unpacked / "images.tar.gz").write_bytes(b"imagex")
    refused = install(unpacked)
    assert refused.returncode == 1
    assert "images.tar.gz" in refused.stdout
    assert "Copy the archive again" in refused.stderr
    assert not (unpacked / ".env").exists()


def test_an_old_compose_is_refused(unpacked: Path) -> None:
    refused = install(unpacked, COMPOSE_VERSION="2.20.3")
    assert refused.returncode == 2
    assert "Docker Compose is 2.20.3; 2.24.4 or newer is needed" in refused.stderr


def test_images_of_another_architecture_are_refused(unpacked: Path) -> None:
    (unpacked / "ARCHITECTURE").write_text("arm64\n")
    sums = re.sub(r"\w{64}(?=  ./ARCH)", hashlib.sha256(b"arm64\n").hexdigest(), (unpacked / "SHA256SUMS").read_text())
    (unpacked / "SHA256SUMS").write_text(sums)
    refused = install(unpacked)
    assert refused.returncode == 2
    assert "The images are for arm64, and this engine is amd64" in refused.stderr
