"""The worker's status server with a real camera and a real API: what it says is what is so."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from almenara.alarms import Phase
from almenara.errors import ConfigurationError
from almenara.processes import free_port
from tests.support.camera import wait_for
from tests.support.worker import Rig, worker_rig

pytestmark = pytest.mark.slow


class Told:
    """A rig whose worker tells its status."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.port = rig, free_port()

    def start(self, options: str = "", *, top: str = "") -> None:
        self.rig.run(self.rig.text(options, head=f"status: {{port: {self.port}}}\n{top}"))

    def ask(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=3) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def answers(self, path: str, status: int, words: str = "") -> bool:
        try:
            code, text = self.ask(path)
        except OSError:  # it does not listen yet
            return False
        return code == status and words in text

    def is_ready(self) -> bool:
        return self.answers("/readyz", 200)

    @property
    def camera(self) -> dict[str, Any]:
        (camera,) = json.loads(self.ask("/cameras")[1])
        return dict(camera)

    @property
    def metrics(self) -> dict[str, float]:
        lines = [line for line in self.ask("/metrics")[1].splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    with worker_rig(tmp_path) as rig:
        yield Told(rig)


def test_a_camera_that_is_scored_is_ready_and_told_with_its_figures(told: Told) -> None:
    told.start()
    wait_for(told.is_ready, 10, "readiness")
    wait_for(lambda: told.camera["counters"]["scored"] > 10, 5)
    camera = told.camera
    assert (camera["state"], camera["model"], camera["blindness"]) == ("live", "wall", None)
    assert camera["size"] == {"width": 320, "height": 240}
    assert camera["fps"] == pytest.approx(15, rel=0.35)
    assert camera["last_verdict"]["label"] == "normal"
    assert 0 <= camera["last_verdict"]["posted_age"] <= camera["last_verdict"]["age"] < 2
    metrics = told.metrics
    assert metrics['almenara_camera_up{camera="outflow"}'] == 1
    assert metrics['almenara_camera_scored_total{camera="outflow"}'] > 10
    assert metrics['almenara_camera_frame_age_seconds_count{camera="outflow"}'] > 10
    assert told.ask("/healthz")[0] == 200


def test_a_camera_that_stalls_is_named_until_it_is_back(told: Told) -> None:
    told.start()
    wait_for(told.is_ready, 10, "readiness")
    told.rig.camera.switch("stall")
    wait_for(lambda: told.answers("/readyz", 503, "outflow: "), 5, "blindness")
    assert told.camera["blindness"] == "camera"
    assert told.camera["blind_seconds"] < 3
    assert told.metrics['almenara_camera_up{camera="outflow"}'] == 0
    assert told.ask("/healthz")[0] == 200
    told.rig.camera.switch("none")
    wait_for(told.is_ready, 6, "readiness again")
    assert told.metrics['almenara_camera_losses_total{camera="outflow"}'] >= 1


def test_an_api_that_is_away_shows_as_blind_detection(told: Told) -> None:
    told.start(top="blind_after: 1s")
    wait_for(told.is_ready, 10, "readiness")
    told.rig.api.stop()
    wait_for(lambda: told.answers("/readyz", 503, "detection: no verdicts come"), 6, "blind detection")
    metrics = told.metrics
    assert (metrics["almenara_detection_blind"], metrics["almenara_api_away"]) == (1, 1)
    assert metrics["almenara_api_failures_total"] > 0
    told.rig.api.start()
    wait_for(told.is_ready, 3, "readiness again")
    assert told.metrics["almenara_detection_blind"] == 0


def test_black_pictures_are_named(told: Told) -> None:
    told.start()
    wait_for(told.is_ready, 10, "readiness")
    told.rig.camera.switch("black")
    wait_for(lambda: told.answers("/readyz", 503, "outflow: the picture is black"), 4, "blindness")
    assert told.metrics['almenara_camera_state{camera="outflow",state="black"}'] == 1


def test_the_strip_of_an_alarm_shows_what_came_after(told: Told) -> None:
    told.start("evidence: {before: 2s, after: 1s}")
    told.rig.reaches(Phase.NORMAL)
    told.rig.scene.anomalous = True
    told.rig.reaches(Phase.UNACKNOWLEDGED)
    early = told.rig.strip
    wait_for(lambda: told.rig.strip != early, 3, "the whole strip")
    assert Path(told.rig.strip.uri).stat().st_size == told.rig.strip.size


def test_a_port_that_is_taken_ends_the_worker_with_a_sentence(told: Told, tmp_path: Path) -> None:
    told.start()
    wait_for(lambda: told.answers("/healthz", 200), 10)
    with worker_rig(tmp_path / "second") as second:
        second.launch(second.text(head=f"status: {{port: {told.port}}}"))
        with pytest.raises(ConfigurationError, match="address already in use"):
            second.exit.result(5)
