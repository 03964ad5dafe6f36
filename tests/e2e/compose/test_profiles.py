"""What the profiles of the compose file bring: a demo that raises an alarm by itself, Jupyter, Prometheus."""

from __future__ import annotations

import json
import os
import time

import httpx
import pytest

from tests.e2e.compose.conftest import NOTES
from tests.support.engine import PROMETHEUS, ensure_image
from tests.support.plant import Plant, wait_for
from tests.support.platform_stack import Stack

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]


def test_the_demo_trains_and_shows_an_alarm_by_itself(stack: Stack, plant: Plant) -> None:
    begun = time.monotonic()
    stack.up("--build", profiles=["demo"])
    up = time.monotonic() - begun
    [alarm, *_] = wait_for("an alarm", lambda: [a for a in plant.alarms() if a["origin"] == "demo-worker"], 180)
    assert (alarm["kind"], alarm["source"]) == ("vision", "outflow-camera")
    NOTES.append(f"demo: up in {up:.0f} s, alarm {time.monotonic() - begun:.0f} s after the command")
    stack.compose("--profile", "demo", "stop", "demo-camera", "demo-worker")


def test_jupyter_asks_for_its_token_and_saves_as_the_owner_of_the_folder(stack: Stack) -> None:
    os.chown(stack.directory / "notebooks", int(stack.env["NOTEBOOKS_UID"]), -1)
    stack.up(profiles=["notebooks"])
    address = f"http://127.0.0.1:{stack.env['JUPYTER_PORT']}/api/contents"
    assert httpx.get(address).status_code == 403
    token = {"Authorization": f"token {stack.env['JUPYTER_TOKEN']}"}
    assert "vision" in [entry["name"] for entry in httpx.get(address, headers=token).json()["content"]]
    content = {"type": "file", "format": "text", "content": "kept"}
    assert httpx.put(f"{address}/mine.txt", headers=token, json=content).status_code == 201
    saved = stack.directory / "notebooks" / "mine.txt"
    assert (saved.read_text(), saved.stat().st_uid) == ("kept", int(stack.env["NOTEBOOKS_UID"]))
    stack.compose("--profile", "notebooks", "stop", "notebooks")


def test_prometheus_sees_api_and_worker(stack: Stack) -> None:
    ensure_image(PROMETHEUS, "prometheus")
    stack.compose("--profile", "observability", "up", "--detach", "--wait", "prometheus")
    address = f"http://127.0.0.1:{stack.env['PROMETHEUS_PORT']}/api/v1/targets"

    def up() -> set[str]:
        targets = httpx.get(address).json()["data"]["activeTargets"]
        return {target["labels"]["job"] for target in targets if target["health"] == "up"}

    wait_for("the targets", lambda: {"api", "camera-worker"} <= up(), 60)
    stack.compose("--profile", "observability", "stop", "prometheus")


def test_the_doctor_finds_no_problem(stack: Stack, plant: Plant) -> None:
    examined = stack.compose("exec", "-T", "api", "almenara", "doctor", "--json", check=False)
    assert examined.returncode == 0, examined.stdout
    assert "problem" not in {finding["state"] for finding in json.loads(examined.stdout.splitlines()[-1])["findings"]}
