"""The composed platform: every variable is explained, nothing listens beyond this machine, images hold little.

No engine is needed: the files are read, and Docker Compose checks them where it is installed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from almenara import __version__
from almenara.alarms.config import load_alarms_config
from camera_worker.config import load_config
from tests.support.data import ROOT
from tests.support.servers import PATH

COMPOSE = ROOT / "docker-compose.yaml"
DOCKERFILES = [
    ROOT / folder / "Dockerfile" for folder in ("fast-api", "camera-worker", "minio_client", "mlflow", "notebooks")
]
TEXT = COMPOSE.read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]


def sample_env() -> dict[str, str]:
    lines = (ROOT / "sample.env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def instructions(dockerfile: Path, name: str) -> list[str]:
    joined = dockerfile.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.removeprefix(name).strip() for line in joined.splitlines() if line.startswith(f"{name} ")]


def test_every_variable_has_an_entry_in_sample_env() -> None:
    used = set(re.findall(r"\$\{(\w+)", TEXT))
    assert used
    assert used <= set(sample_env())


def test_sample_env_has_no_variable_that_nothing_reads() -> None:
    assert set(sample_env()) <= set(re.findall(r"\$\{(\w+)", TEXT))


OPTIONAL_SECRETS = {"ALMENARA_WEBHOOK_SECRET"}


def test_every_secret_is_required_and_a_placeholder_in_the_sample() -> None:
    secrets = {name for name in sample_env() if re.search(r"PASSWORD|SECRET|TOKEN|_KEY$", name)} - OPTIONAL_SECRETS
    assert len(secrets) == 6
    for name in secrets:
        uses = re.findall(rf"\$\{{{name}([^}}]*)\}}", TEXT)
        assert uses
        assert all(use.startswith(":?") for use in uses)
        assert sample_env()[name].startswith("change-me-") or name == "MINIO_ACCESS_KEY"
    for name in OPTIONAL_SECRETS:
        assert sample_env()[name] == ""
        assert re.findall(rf"\$\{{{name}([^}}]*)\}}", TEXT) == [":-"]


def test_defaults_in_the_file_are_those_of_the_sample() -> None:
    for name, default in re.findall(r"\$\{(\w+):-([^}]*)\}", TEXT):
        assert sample_env()[name] == default, name


@pytest.mark.parametrize("service", SERVICES)
def test_published_ports_are_bound_to_this_machine(service: str) -> None:
    for port in SERVICES[service].get("ports", []):
        assert port.startswith("${BIND_ADDRESS:-127.0.0.1}:")


@pytest.mark.parametrize("service", SERVICES)
def test_service_is_restarted_and_its_health_is_known(service: str) -> None:
    definition = SERVICES[service]
    health = definition.get("healthcheck", {})
    if definition["restart"] == "no":
        assert health == {"disable": True}
        return
    assert definition["restart"] == "unless-stopped"
    if "build" in definition and not health:
        [check] = instructions(ROOT / definition["build"]["dockerfile"], "HEALTHCHECK")
        assert "CMD" in check
    else:
        assert health["test"][0] == "CMD"
    assert "curl" not in str(health)


@pytest.mark.parametrize("service", SERVICES)
def test_service_is_bounded_and_ends_in_its_time(service: str) -> None:
    definition = SERVICES[service]
    assert re.fullmatch(r"\d+[mg]", definition["mem_limit"])
    assert re.fullmatch(r"\d+s", definition["stop_grace_period"])
    assert definition["logging"]["options"].keys() == {"max-size", "max-file"}


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "settings"])
def test_nothing_starts_before_the_settings_are_checked(service: str) -> None:
    before = set(SERVICES[service].get("depends_on", {}))
    reached = set(before)
    while before:
        before = {needed for name in before for needed in SERVICES[name].get("depends_on", {})} - reached
        reached |= before
    assert "settings" in reached or SERVICES[service].get("profiles") == ["demo"]


@pytest.mark.parametrize("service", SERVICES)
def test_service_waits_for_what_it_needs(service: str) -> None:
    for needed, how in SERVICES[service].get("depends_on", {}).items():
        once = SERVICES[needed]["restart"] == "no"
        shares_network = SERVICES[service].get("network_mode") == f"service:{needed}"
        expected = "service_completed_successfully" if once else "service_healthy"
        assert how["condition"] == ("service_started" if shares_network else expected)


@pytest.mark.parametrize("service", [name for name, s in SERVICES.items() if "build" in s])
def test_own_service_has_no_capabilities_and_cannot_gain_any(service: str) -> None:
    assert SERVICES[service]["cap_drop"] == ["ALL"]
    assert SERVICES[service]["security_opt"] == ["no-new-privileges:true"]
    assert SERVICES[service]["read_only"] or service == "notebooks"


def test_databases_are_out_of_reach() -> None:
    assert SERVICES["postgres"]["networks"] == ["backend"]
    assert "ports" not in SERVICES["postgres"]
    assert yaml.safe_load(TEXT)["networks"]["backend"] == {"internal": True}


@pytest.mark.parametrize("service", [name for name, s in SERVICES.items() if "build" not in s])
def test_foreign_image_is_pinned(service: str) -> None:
    image = re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", SERVICES[service]["image"])
    tag = image.rpartition(":")[2]
    assert re.search(r"\d+\.\d+|\d{4}-\d\d-\d\d", tag), image


@pytest.mark.parametrize("service", SERVICES)
def test_files_that_a_service_mounts_exist(service: str) -> None:
    for volume in SERVICES[service].get("volumes", []):
        source = (
            volume["source"] if isinstance(volume, dict) else volume.rsplit(":", 2 if volume.endswith(":ro") else 1)[0]
        )
        source = re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", source)
        if source.startswith("./") and source != sample_env()["DATA_DIR"]:
            assert (ROOT / source).exists(), source


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_image_is_small_locked_and_not_root(dockerfile: Path) -> None:
    text = dockerfile.read_text(encoding="utf-8")
    assert instructions(dockerfile, "FROM") == ["python:3.11-slim-bookworm"]
    assert instructions(dockerfile, "USER") == ["10001"]
    installs = [run for run in instructions(dockerfile, "RUN") if "pip install" in run]
    [install] = installs
    assert "--no-deps --require-hashes -r requirements/" in install
    for modern in ("<<", "--mount", "--link", "PYTHONDONTWRITEBYTECODE"):
        assert modern not in text


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_image_says_what_it_is_and_trusts_a_site_s_authority(dockerfile: Path) -> None:
    [labels] = instructions(dockerfile, "LABEL")
    assert f'version="{__version__}"' in labels
    assert instructions(dockerfile, "ARG") == ['CA_CERTIFICATE=""']


@pytest.mark.parametrize(
    "dockerfile", [*DOCKERFILES, ROOT / "deploy" / "minio" / "Dockerfile"], ids=lambda path: path.parent.name
)
def test_image_is_clean_under_hadolint(dockerfile: Path) -> None:
    hadolint = shutil.which("hadolint", path=PATH)
    if hadolint is None:
        pytest.skip("hadolint has no build for this platform")
    linted = subprocess.run([hadolint, str(dockerfile)], capture_output=True, text=True, check=False)
    assert not linted.stdout


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_files_that_an_image_copies_exist_and_reach_the_builder(dockerfile: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    for copy in instructions(dockerfile, "COPY"):
        *sources, _ = shlex.split(copy)
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(Path(source).match(pattern) for pattern in allowed), source


def test_a_changed_cameras_file_reaches_the_worker() -> None:
    [mount] = [volume for volume in SERVICES["camera-worker"]["volumes"] if isinstance(volume, dict)]
    assert f'"{mount["target"]}/cameras.yaml"' in (ROOT / "camera-worker" / "Dockerfile").read_text(encoding="utf-8")
    assert (ROOT / sample_env()["CAMERAS_DIR"] / "cameras.yaml").is_file()


@pytest.mark.parametrize("folder", ["deploy", "deploy/demo"])
def test_cameras_of_the_platform_are_valid(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.setenv("ALMENARA_API_KEY", "key")
    monkeypatch.setenv("DEMO_CAMERA_PASSWORD", "demo")
    monkeypatch.setenv("MINIO_ACCESS_KEY", "key")
    monkeypatch.setenv("MINIO_SECRET_KEY", "secret")
    alarms = load_alarms_config(ROOT / folder / "alarms.yaml")
    assert alarms.evidence.url == "s3://evidence/almenara"
    worker = load_config(ROOT / folder / "cameras.yaml")
    assert worker.api.url == "http://api:8000"
    assert worker.var_dir == Path("/var/lib/almenara")
    assert bool(worker.cameras) == (folder == "deploy/demo")


@pytest.mark.parametrize(
    ("argument", "environment", "sentence"),
    [
        ("serve", {}, "MLFLOW_BACKEND_STORE_URI: is not set"),
        ("serve", {"MLFLOW_BACKEND_STORE_URI": "sqlite:///x.db"}, "MLFLOW_ARTIFACTS_DESTINATION: is not set"),
        ("sevre", {"MLFLOW_BACKEND_STORE_URI": "sqlite:///x.db"}, "'sevre' is neither serve nor migrate"),
    ],
)
def test_tracking_server_says_what_it_misses(argument: str, environment: dict[str, str], sentence: str) -> None:
    ended = subprocess.run(
        ["sh", str(ROOT / "mlflow" / "start.sh"), argument],
        env={"PATH": PATH} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert sentence in ended.stderr


@pytest.fixture(scope="module")
def compose() -> list[str]:
    """The command of Docker Compose; it needs no engine to check a file."""
    if found := shutil.which("docker-compose", path=PATH):
        return [found]
    if shutil.which("docker"):
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        if plugin.returncode == 0:
            return ["docker", "compose"]
    pytest.skip("Docker Compose is not installed: the environment's own has no build for this platform")


def test_compose_accepts_the_file_with_the_sample(compose: list[str]) -> None:
    checked = subprocess.run(
        [*compose, "--env-file", "sample.env", "--profile", "*", "config", "--quiet"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_compose_refuses_the_file_without_its_secrets(compose: list[str]) -> None:
    checked = subprocess.run(
        [*compose, "--env-file", os.devnull, "config", "--quiet"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode != 0
    assert "POSTGRES_PASSWORD is missing a value: set it in .env" in checked.stderr
