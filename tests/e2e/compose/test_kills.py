"""Every service killed in turn under traffic: the others keep their promises, all come back, nothing is lost.

A process is killed by its pid, as a crash or the kernel's out-of-memory killer would; `docker kill` would count as an
order to stop.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import httpx
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tests.e2e.compose.conftest import NOTES
from tests.support.plant import Plant, wait_for
from tests.support.platform_stack import SERVICES

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

_RECOVERY_SECONDS = 120


@dataclass
class Traffic:
    """Predictions and runs without a pause, until `stop`.

    Attributes:
        answers: when a prediction was answered and how: an HTTP status, or 0 without an answer.
        runs: ids of runs whose value the registry has confirmed.
    """

    plant: Plant
    picture: bytes
    answers: list[tuple[float, int]] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def predict(self) -> None:
        while not self.over.wait(0.2):
            try:
                self.plant.predict(self.picture)
                status = 200
            except httpx.HTTPStatusError as error:
                status = error.response.status_code
            except httpx.HTTPError:
                status = 0
            self.answers.append((time.monotonic(), status))

    def log(self) -> None:
        client = MlflowClient(self.plant.stack.mlflow_url)
        experiment = client.create_experiment(f"kills-{time.time_ns()}")
        while not self.over.wait(0.5):
            with suppress(MlflowException):  # a run that was not confirmed is not counted
                run = client.create_run(experiment).info.run_id
                client.log_metric(run, "value", 1.0)
                self.runs.append(run)

    def refused(self, begin: float, end: float) -> tuple[int, int]:
        """Predictions without an answer of 200 between two times, and all between them."""
        within = [status for at, status in self.answers if begin <= at <= end]
        return sum(status != 200 for status in within), len(within)


@pytest.fixture(scope="module")
def traffic(plant: Plant) -> Iterator[Traffic]:
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "5"
    made = Traffic(plant, plant.picture("good"))
    threads = [threading.Thread(target=work, daemon=True) for work in (made.predict, made.log)]
    for thread in threads:
        thread.start()
    yield made
    made.over.set()
    for thread in threads:
        thread.join(30)


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_comes_back_and_the_others_keep_their_promises(
    plant: Plant, traffic: Traffic, service: str
) -> None:
    stack = plant.stack
    wait_for("predictions", lambda: traffic.answers and traffic.answers[-1][1] == 200, 60)
    told = plant.told()
    begin = time.monotonic()
    os.kill(stack.container(service)["State"]["Pid"], signal.SIGKILL)
    wait_for("its end", lambda: stack.health(service) != "healthy", 20)
    stack.wait_healthy(*SERVICES, seconds=_RECOVERY_SECONDS)
    recovered = time.monotonic() - begin
    wait_for("predictions", lambda: traffic.answers and traffic.answers[-1][1] == 200, 60)
    end = time.monotonic()
    failed, asked = traffic.refused(begin, end)
    if service != "api":
        assert failed == 0, "the API serves without it"
    wait_for("an alarm", lambda: plant.told() - told, 60)
    NOTES.append(f"kill {service}: healthy again after {recovered:.1f} s; {failed} of {asked} predictions failed")


def test_no_alarm_that_the_worker_told_is_missing_from_the_record(plant: Plant, traffic: Traffic) -> None:
    told = plant.told()
    assert len(told) >= len(SERVICES)
    wait_for("the record", lambda: told <= plant.recorded(), 60)
    NOTES.append(f"kills: all {len(told)} alarms that the worker told are in the record")


def test_no_confirmed_run_is_lost(plant: Plant, traffic: Traffic) -> None:
    client = MlflowClient(plant.stack.mlflow_url)
    assert traffic.runs
    assert all(client.get_run(run).data.metrics == {"value": 1.0} for run in tuple(traffic.runs))
    NOTES.append(f"kills: all {len(traffic.runs)} confirmed runs are there")
