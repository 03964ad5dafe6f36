"""What Prometheus and Grafana are given: dashboards that a person can read, rules that fire, no metric nobody exposes.

No server is needed; promtool comes with Prometheus.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from almenara_api.metrics import Metrics
from camera_worker.alarming import DeskFigures
from camera_worker.metrics import worker_registry
from tests.support.data import ROOT

FOLDER = ROOT / "deploy" / "observability"
DASHBOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((FOLDER / "grafana" / "dashboards").glob("*.json"))
}
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}") for name in DASHBOARDS for panel in DASHBOARDS[name]["panels"]
]
RULES = [
    rule
    for group in yaml.safe_load((FOLDER / "rules.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
OF_PROMETHEUS = {"up", "ALERTS"}
WORDS = {"by", "on", "and", "or", "unless"}


def source() -> dict[str, Any]:
    file = FOLDER / "grafana" / "datasources" / "prometheus.yaml"
    (found,) = yaml.safe_load(file.read_text(encoding="utf-8"))["datasources"]
    return dict(found)


def exposed(registry: CollectorRegistry) -> set[str]:
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    return {f"{family.name}{ending}" for family in registry.collect() for ending in endings.get(family.type, ("",))}


def every_metric() -> set[str]:
    desk = SimpleNamespace(figures=lambda: DeskFigures(0.0, 0.0, False, 0.0, 1, 1))
    worker = SimpleNamespace(cameras={}, sight=SimpleNamespace(detection_blind=False), breaker_open=False, desk=desk)
    return exposed(Metrics().registry) | exposed(worker_registry(worker))


def metrics_in(expression: str) -> set[str]:
    """Names of the metrics in a PromQL expression: what is neither a label, a function, a duration nor a word."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(by|on)\s*\([^)]*\)", " ", bare)
    return set(re.findall(r"\b[A-Za-z_]\w*\b(?!\s*\()", bare)) - WORDS


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("promtool") is None:
        pytest.skip("this machine has no promtool (apt-get install prometheus)")
    return subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)


# --- dashboards -------------------------------------------------------------------------------------------


def test_there_is_a_dashboard_for_serving_cameras_alarms_and_models() -> None:
    assert set(DASHBOARDS) == {"serving", "cameras", "alarms", "models"}
    titles = [dashboard["title"] for dashboard in DASHBOARDS.values()]
    uids = [dashboard["uid"] for dashboard in DASHBOARDS.values()]
    assert len(set(titles)) == len(set(uids)) == 4
    assert all(re.fullmatch(r"[a-z-]{1,40}", uid) for uid in uids)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_leads_to_the_others_and_cannot_be_changed_in_the_browser(name: str) -> None:
    dashboard = DASHBOARDS[name]
    assert not dashboard["editable"]
    assert dashboard["description"]
    assert "id" not in dashboard
    (link,) = dashboard["links"]
    assert set(link["tags"]) <= set(dashboard["tags"])


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_their_own_ids_and_places(name: str) -> None:
    panels = DASHBOARDS[name]["panels"]
    assert max(Counter(panel["id"] for panel in panels).values()) == 1
    cells: Counter[tuple[int, int]] = Counter()
    for place in (panel["gridPos"] for panel in panels):
        assert place["x"] + place["w"] <= 24
        cells.update(
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        )
    assert max(cells.values()) == 1


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_shows_and_in_which_unit(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in {"none", "s", "bytes", "percentunit", "reqps", "cps", "cpm"}


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_asks_the_datasource_that_is_provisioned(panel: dict[str, Any]) -> None:
    own = {"type": source()["type"], "uid": source()["uid"]}
    assert panel["datasource"] == own
    assert panel["targets"]
    assert all(target["datasource"] == own for target in panel["targets"])
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_uses_no_unknown_metric(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        used = metrics_in(target["expr"])
        assert used
        assert used <= every_metric() | OF_PROMETHEUS


def test_dashboards_lie_where_grafana_is_told_to_look() -> None:
    file = FOLDER / "grafana" / "dashboards" / "almenara.yaml"
    (provider,) = yaml.safe_load(file.read_text(encoding="utf-8"))["providers"]
    assert provider["options"]["path"] == "/etc/grafana/provisioning/dashboards"
    assert not provider["allowUiUpdates"]


# --- rules ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_says_what_is_wrong_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"]["summary"].endswith(".")
    assert len(rule["annotations"]["description"]) > 40


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_uses_no_unknown_metric(rule: dict[str, Any]) -> None:
    used = metrics_in(rule["expr"])
    assert used
    assert used <= every_metric() | OF_PROMETHEUS


def test_every_rule_is_tested() -> None:
    names = Counter(rule["alert"] for rule in RULES)
    assert max(names.values()) == 1
    tested = (FOLDER / "rules_test.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r'alertname="(\w+)"', tested)) == set(names)


def test_the_guide_names_every_rule() -> None:
    guide = (ROOT / "docs" / "operations" / "observability.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([A-Z]\w+(?:, [A-Z]\w+)*) \| .* \| (?:warning|critical)", guide, re.MULTILINE)
    assert {name for row in rows for name in row.split(", ")} == {rule["alert"] for rule in RULES}
    assert f"{len(RULES)} rules" in guide


def test_every_rule_fires_when_it_should_and_is_silent_otherwise() -> None:
    told = promtool("test", "rules", "rules_test.yaml")
    assert told.returncode == 0, told.stdout + told.stderr


def test_promtool_accepts_configuration_and_rules() -> None:
    told = promtool("check", "config", "prometheus.yaml")
    assert told.returncode == 0, told.stdout + told.stderr
    assert f"{len(RULES)} rules found" in told.stdout
