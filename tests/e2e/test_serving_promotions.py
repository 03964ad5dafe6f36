"""Versions are swapped under load, the service starts without its registry, a rollback arrives: nothing is lost."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from almenara import servable
from almenara.contracts import Candidate, ModelRef
from almenara.processes import free_port
from almenara.registry import Registry
from almenara.vision import images
from tests.support import servers
from tests.support.api import RunningApi, running_api, wait_until
from tests.support.packages import vision_candidate

pytestmark = pytest.mark.slow

LOAD_SECONDS = 12.0
PROMOTE_EVERY_SECONDS = 2.0
CONNECTIONS = 32
OFFSETS = {"1": 0.0, "2": 0.05, "3": 0.1}
"""Version -> what its graph adds to every score."""
PICTURE = images.encode_png(np.full((32, 32, 3), 190, dtype=np.uint8))


@dataclass(frozen=True)
class Answered:
    """What one request was told, and when, on the monotonic clock."""

    at: float
    seconds: float
    status: int
    version: str = ""
    score: float = 0.0


def ask(connection: http.client.HTTPConnection, name: str) -> Answered:
    begun = time.monotonic()
    connection.request("POST", f"/v1/vision/{name}/predict", PICTURE, {"Content-Type": "image/png"})
    answer = connection.getresponse()
    body = answer.read()
    now = time.monotonic()
    if answer.status != 200:
        return Answered(now, now - begun, answer.status)
    verdict = json.loads(body)
    return Answered(now, now - begun, 200, verdict["model"]["version"], verdict["score"])


class Load:
    """Closed loops, one a connection, until they are told to stop."""

    def __init__(self, api: RunningApi, name: str) -> None:
        self._port, self._name = api.http.base_url.port, name
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._loop, daemon=True) for _ in range(CONNECTIONS)]
        self.answers: list[Answered] = []
        self.broken: list[str] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _loop(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            while not self._over.is_set():
                self.answers.append(ask(connection, self._name))
        except (OSError, http.client.HTTPException) as error:
            self.broken.append(repr(error))
        finally:
            connection.close()


def score_of(candidate: Candidate, folder: Path) -> float:
    """What a version says of the picture, computed here."""
    package = servable.load(servable.write(candidate, folder))
    model = servable.VisionModel(package, ModelRef(name=candidate.card.name, version="0"))
    return model.predict(images.decode(PICTURE, max_pixels=10**6)).verdict.score


def register(registry: Registry, name: str, versions: int) -> None:
    for offset in list(OFFSETS.values())[:versions]:
        registry.register(vision_candidate(name, offset), "tests")


def in_service(api: RunningApi, name: str) -> str | None:
    rows = api.http.get("/v1/models").json()["models"]
    return next((row["version"] for row in rows if row["name"] == name), None)


@pytest.mark.alone
def test_promotions_under_load_fail_no_request_and_every_verdict_is_its_versions_own(
    mlflow_address: str, tmp_path: Path
) -> None:
    registry = Registry(mlflow_address)
    register(registry, "swapped", 3)
    own = {version: score_of(vision_candidate("swapped", OFFSETS[version]), tmp_path / version) for version in OFFSETS}
    registry.promote("swapped", "1", reason="first")
    promoted: dict[str, float] = {"1": time.monotonic()}
    environment = {"MLFLOW_TRACKING_URI": mlflow_address, "ALMENARA_MODEL_POLL_SECONDS": "0.5"}
    with running_api(tmp_path / "var", environment) as api:
        wait_until(lambda: in_service(api, "swapped") == "1", 60, api.log)
        with Load(api, "swapped") as load:
            end = time.monotonic() + LOAD_SECONDS
            turn = 1
            while time.monotonic() < end:
                time.sleep(PROMOTE_EVERY_SECONDS)
                version = list(OFFSETS)[turn % len(OFFSETS)]
                promoted.setdefault(version, time.monotonic())
                registry.promote("swapped", version, reason="next", force=True)
                turn += 1
            last = version
            wait_until(lambda: in_service(api, "swapped") == last, 30, api.log)
    require_whole(load, own, promoted)
    report(load, turn - 1)


def require_whole(load: Load, own: Mapping[str, float], promoted: Mapping[str, float]) -> None:
    """No request failed; each names a version that had been promoted, with the numbers of that version."""
    assert not load.broken
    assert len(load.answers) > 100
    assert {each.status for each in load.answers} == {200}
    assert {each.version for each in load.answers} == set(own)
    early = [each for each in load.answers if each.at < promoted[each.version]]
    mixed = [each for each in load.answers if abs(each.score - own[each.version]) > 1e-4]
    assert (early, mixed) == ([], [])


def report(load: Load, promotions: int) -> None:
    milliseconds = np.array([each.seconds for each in load.answers]) * 1e3
    p50, p99 = np.quantile(milliseconds, (0.5, 0.99))
    swaps = sum(one.version != other.version for one, other in zip(load.answers, load.answers[1:], strict=False))
    print(  # noqa: T201
        f"{len(load.answers)} answers at {CONNECTIONS} connections, {promotions} promotions, {swaps} swaps seen, "
        f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, longest {milliseconds.max():.0f} ms"
    )


def test_without_registry_and_artifacts_a_restarted_service_answers_from_its_cache(tmp_path: Path) -> None:
    var, store, port = tmp_path / "var", tmp_path / "mlflow", free_port()
    store.mkdir()
    with ExitStack() as registry_is_up:
        address = registry_is_up.enter_context(servers.mlflow_server(store, port))
        registry = Registry(address)
        register(registry, "durable", 1)
        registry.promote("durable", "1", reason="first")
        environment = {"MLFLOW_TRACKING_URI": address}
        with running_api(var, environment) as api:
            assert in_service(api, "durable") == "1"
    shutil.rmtree(store)
    begun = time.monotonic()
    with running_api(var, environment) as api:
        connection = http.client.HTTPConnection("127.0.0.1", api.http.base_url.port, timeout=30)
        answer = ask(connection, "durable")
        took = time.monotonic() - begun
        connection.close()
        assert (answer.status, answer.version) == (200, "1")
        assert answer.score == pytest.approx(score_of(vision_candidate("durable"), tmp_path / "own"), abs=1e-4)
        assert api.http.get("/v1/models").json()["registry"] == "away"
    print(f"answered {took:.1f} s after the start, without a registry")  # noqa: T201
    assert took < 60


def test_a_rollback_by_command_is_served_by_a_running_service(mlflow_address: str, tmp_path: Path) -> None:
    registry = Registry(mlflow_address)
    register(registry, "returned", 2)
    registry.promote("returned", "1", reason="first")
    registry.promote("returned", "2", reason="better", force=True)
    with running_api(tmp_path / "var", {"MLFLOW_TRACKING_URI": mlflow_address}) as api:
        wait_until(lambda: in_service(api, "returned") == "2", 60, api.log)
        command = [sys.executable, "-m", "almenara", "models", "rollback", "returned", "--reason", "worse in the rain"]
        subprocess.run(
            command, check=True, env={"PATH": servers.PATH, "MLFLOW_TRACKING_URI": mlflow_address}, cwd=tmp_path
        )
        begun = time.monotonic()
        wait_until(lambda: in_service(api, "returned") == "1", 10, api.log)
        print(f"served {time.monotonic() - begun:.1f} s after the command")  # noqa: T201
