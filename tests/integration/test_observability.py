"""A real Prometheus with our rules and our dashboards' questions, which scrapes a real API and a real camera worker."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from almenara.processes import answers, free_port
from almenara.vision import images
from tests.support.api import RunningApi, cache_champions, faulty_signal, healthy_features, running_api, wait_until
from tests.support.data import ROOT
from tests.support.packages import classifier_candidate, novelty_candidate, vision_candidate
from tests.support.servers import running
from tests.support.worker import Rig, worker_rig

pytestmark = pytest.mark.slow

FOLDER = ROOT / "deploy" / "observability"
GRAFANA = {"$__rate_interval": "1m", "$camera": ".*"}
EMPTY_WHILE_ALL_IS_WELL = ("almenara_model_refused", 'ALERTS{alertstate="firing"}')


def questions() -> Iterator[tuple[str, str]]:
    """Where each expression of a dashboard stands, and the expression with Grafana's variables filled in."""
    for path in sorted((FOLDER / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for target in panel["targets"]:
                expression = target["expr"]
                for variable, value in GRAFANA.items():
                    expression = expression.replace(variable, value)
                yield f"{path.stem}: {panel['title']}", expression


@dataclass(frozen=True)
class Watched:
    """Prometheus and what it scrapes."""

    prometheus: httpx.Client
    api: RunningApi
    rig: Rig

    def ask(self, path: str, **parameters: str) -> Any:
        answer = self.prometheus.get(path, params=parameters).json()
        assert answer["status"] == "success", (parameters, answer)
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        return list(self.ask("query", query=expression)["result"])

    def is_pending(self, alert: str) -> bool:
        """Whether a rule has begun to hold; most have to hold for a minute before they fire."""
        return bool(self.query(f'ALERTS{{alertname="{alert}"}}'))

    @property
    def known(self) -> set[str]:
        """Every metric that the targets expose, with or without series, without the ending of counters."""
        return {name.removesuffix("_total") for name in self.ask("metadata")}


def write_configuration(folder: Path, ports: dict[str, int]) -> Path:
    """Ours, at the ports of the test and in a hurry; a job without a port has no target."""
    config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text(encoding="utf-8"))
    config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(FOLDER / name) for name in config["rule_files"]]
    for job in config["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        port = ports.get(job["job_name"])
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}] if port else []
    path = folder / "prometheus.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def start_worker(rig: Rig, api: RunningApi, port: int) -> None:
    camera = rig.camera_text().replace("model: wall", "model: darkness")
    own = f"var_dir: {rig.var}\nname: worker-1\nstatus: {{port: {port}}}"
    rig.run(f"api: {{url: '{api.http.base_url}', timeout: 2s}}\n{own}\ncameras:\n{camera}")


def use(api: RunningApi) -> None:
    """Verdicts on a picture and a window, an alarm, and a problem."""
    vision, vibration = "/v1/vision/darkness/predict", "/v1/vibration/bearing/predict"
    picture = images.encode_jpeg(np.full((48, 64, 3), 200, dtype=np.uint8))
    for body, status in ((picture, 200), (b"", 400)):
        assert api.http.post(vision, content=body, headers={"content-type": "image/jpeg"}).status_code == status
    machine: dict[str, str | float] = {"shaft_rpm": 1772, "bearing": "6205-2RS", "asset": "pump-1"}
    window = faulty_signal(1).astype("<f4").tobytes()
    kind = {"content-type": "application/octet-stream"}
    for _ in range(2):
        posted = api.http.post(vibration, content=window, headers=kind, params=machine | {"sampling_rate_hz": 12_000})
        assert posted.status_code == 200, posted.text


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("this machine has no Prometheus (apt-get install prometheus)")
    folder = tmp_path_factory.mktemp("observability")
    baseline = novelty_candidate(healthy_features(), "pump-1", "bearing-baseline-pump-1")
    cache_champions(folder / "api", [vision_candidate(), classifier_candidate(), baseline])
    at_once = {"ALMENARA_VIBRATION_ON_DELAY_SECONDS": "0"}
    ports = {"camera-worker": free_port(), "prometheus": free_port()}
    address = f"http://127.0.0.1:{ports['prometheus']}"
    with running_api(folder / "api", at_once) as api, worker_rig(folder) as rig:
        start_worker(rig, api, ports["camera-worker"])
        use(api)
        config = write_configuration(folder, ports | {"api": api.http.base_url.port or 0})
        command = [
            *(program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"),
            f"--web.listen-address=127.0.0.1:{ports['prometheus']}",
        ]
        with (
            running(command, folder / "prometheus.log", ready=lambda: answers(f"{address}/-/ready")),
            httpx.Client(base_url=f"{address}/api/v1/", timeout=10) as client,
        ):
            made = Watched(client, api, rig)
            wait_until(lambda: bool(made.query("sum(rate(almenara_camera_scored_total[1m])) > 0")), 20)
            wait_until(lambda: bool(made.query("almenara_alarms_raised_lately > 0")), 20)
            yield made


def test_every_job_of_our_configuration_is_scraped(watched: Watched) -> None:
    def healthy() -> set[str]:
        return {each["labels"]["job"] for each in watched.ask("targets")["activeTargets"] if each["health"] == "up"}

    wait_until(lambda: healthy() == {"api", "camera-worker", "prometheus"}, 5)


@pytest.mark.parametrize(("place", "expression"), list(questions()))
def test_a_panel_has_something_to_show(watched: Watched, place: str, expression: str) -> None:
    if any(part in expression for part in EMPTY_WHILE_ALL_IS_WELL):
        watched.query(expression)
    else:
        wait_until(lambda: bool(watched.query(expression)), 5)


def test_every_rule_can_be_evaluated(watched: Watched) -> None:
    def rules() -> list[dict[str, Any]]:
        return [rule for group in watched.ask("rules")["groups"] for rule in group["rules"]]

    wait_until(lambda: all(rule["health"] != "unknown" for rule in rules()), 5)
    assert not [(rule["name"], rule["lastError"]) for rule in rules() if rule["health"] != "ok"]


def test_every_metric_of_rules_and_dashboards_is_exposed(watched: Watched) -> None:
    rules = (FOLDER / "rules.yaml").read_text(encoding="utf-8")
    text = "\n".join([rules, *(expression for _, expression in questions())])
    used = set(re.findall(r"\b(?:almenara|process|prometheus)_\w+", text))
    bare = {re.sub(r"_(total|bucket|count|sum)$", "", name) for name in used}
    assert len(bare) > 30
    assert bare <= watched.known


def test_only_the_registry_which_is_away_here_is_complained_of(watched: Watched) -> None:
    def complaints() -> set[str]:
        return {alert["labels"]["alertname"] for alert in watched.ask("alerts")["alerts"]}

    of_this_machine = {"DiskNearlyFull", "DiskFull"}
    wait_until(lambda: complaints() - of_this_machine == {"RegistryAway"}, 10)


def test_a_camera_that_stalls_is_complained_of_until_it_is_back(watched: Watched) -> None:
    watched.rig.camera.switch("stall")
    wait_until(lambda: watched.is_pending("CameraBlind"), 10)
    watched.rig.camera.switch("none")
    wait_until(lambda: not watched.query("almenara_camera_up == 0"), 10)


def test_a_worker_that_is_gone_is_complained_of(watched: Watched) -> None:
    watched.rig.stop()
    wait_until(lambda: watched.is_pending("WorkerDown"), 10)
