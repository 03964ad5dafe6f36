"""What a platform keeps: over `down` and `up`, and over a restart of the engine."""

from __future__ import annotations

import pytest
from mlflow import MlflowClient

from tests.e2e.compose.conftest import NOTES
from tests.support.plant import CAMERA, MODEL, Plant, wait_for
from tests.support.platform_stack import SERVICES

pytestmark = [pytest.mark.compose, pytest.mark.timeout(600)]


def kept(plant: Plant) -> tuple[set[str], set[str], int]:
    """Alarms that have ended, runs, and the number of objects in storage below the data sets."""
    client = MlflowClient(plant.stack.mlflow_url)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = {run.info.run_id for run in client.search_runs(experiments)}
    alarms = {alarm["id"] for alarm in plant.alarms(source=CAMERA)}
    return alarms, runs, len(plant.minio_client("ls", "datasets").splitlines())


def test_down_and_up_keep_everything(plant: Plant) -> None:
    alarms, runs, objects = kept(plant)
    assert alarms
    assert runs
    assert objects
    plant.stack.compose("down", "--timeout", "30")
    NOTES.append(f"up again after down: {plant.stack.up():.0f} s")
    check(plant, alarms, runs, objects)


def test_a_restart_of_the_engine_keeps_everything(plant: Plant) -> None:
    engine = plant.stack.engine
    if not engine.ours:
        pytest.skip("the engine was running before and is not ours to restart")
    alarms, runs, objects = kept(plant)
    engine.stop()
    engine.start()
    NOTES.append(f"healthy after a restart of the engine: {plant.stack.wait_healthy(*SERVICES, seconds=180):.0f} s")
    check(plant, alarms, runs, objects)


def check(plant: Plant, alarms: set[str], runs: set[str], objects: int) -> None:
    wait_for("predictions", lambda: plant.predict(plant.picture("good"))["model"]["name"] == MODEL, 60)
    after = kept(plant)
    assert alarms <= after[0]
    assert runs <= after[1]
    assert objects == after[2]
