"""What is served: classifiers of short and long windows and a PaDiM of rendered sludge, in a registry of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow import MlflowClient
from numpy.typing import NDArray

from almenara.contracts import Candidate, Card
from almenara.registry import Registry
from almenara.vibration import models as classifiers
from almenara.vibration.features import BearingFeatures
from almenara.vibration.simulate import DEMO_RPM, demo_recordings, machine_signal
from almenara.vibration.table import Table, extractor_for, tabulate
from almenara.vision import images
from almenara.vision.scenes import Scene, render_dataset
from almenara.vision.train import train

RATE_HZ = 12_000.0
BEARING = "6205-2RS"
SHORT, LONG, SLUDGE, AS_LOGGED = "bearing-2048", "bearing-1s", "sludge", "forest-as-logged"
WINDOW_SAMPLES = {SHORT: 2048, LONG: 12_000}
_EXPERIMENT = "bench-serving"


@dataclass(frozen=True)
class Models:
    """A registry in a folder, filled as it is asked; every model is trained, gated and registered as users do it.

    Attributes:
        folder: of database, artifacts and packages.
    """

    folder: Path
    _made: set[str] = field(default_factory=set)

    @property
    def address(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @cached_property
    def registry(self) -> Registry:
        self.folder.mkdir(parents=True, exist_ok=True)
        MlflowClient(self.address).create_experiment(_EXPERIMENT, (self.folder / "artifacts").as_uri())
        return Registry(self.address)

    def package(self, name: str) -> Path:
        """The package folder of a model, trained and promoted when it is asked for the first time."""
        if name not in self._made:
            candidate = _sludge(self.folder / "scenes") if name == SLUDGE else self._classifier(name)
            ref = self.registry.register(candidate, _EXPERIMENT)
            self.registry.promote(name, ref.version, reason="to be measured")
            self.registry.fetch(name, ref.version, self.folder / "packages" / name)
            self._made.add(name)
        return self.folder / "packages" / name

    def forest_as_logged(self) -> str:
        """The forest of the short windows as MLflow's quickstart logs one; its URI."""
        self.package(SHORT)
        mlflow.set_tracking_uri(self.address)
        mlflow.set_experiment(_EXPERIMENT)
        with mlflow.start_run():
            logged = mlflow.sklearn.log_model(
                self._forest, name="model", serialization_format="cloudpickle", registered_model_name=AS_LOGGED
            )
        return str(logged.model_uri)

    @cached_property
    def _table(self) -> Table:
        recordings = demo_recordings(records=2)
        return tabulate(recordings, extractor_for(recordings, WINDOW_SAMPLES[SHORT] / RATE_HZ))

    @cached_property
    def _forest(self) -> Any:
        return classifiers.build("random-forest").fit(self._table.features, self._table.labels)

    def _classifier(self, name: str) -> Candidate:
        seconds = WINDOW_SAMPLES[name] / RATE_HZ
        if name == SHORT:
            extractor, rows, model = BearingFeatures(RATE_HZ, seconds, seconds / 2), self._table, self._forest
        else:
            recordings = demo_recordings(records=2)
            extractor = extractor_for(recordings, seconds)
            rows = tabulate(recordings, extractor)
            model = classifiers.build("ensemble").fit(rows.features, rows.labels)
        probes = rows.features[:: max(1, len(rows) // 100)][:100]
        card = Card(
            name=name,
            task="vibration",
            role="classifier",
            method="random-forest" if name == SHORT else "ensemble",
            input=extractor.to_input(),
            labels=tuple(str(label) for label in model.classes_),
            training_data={"origin": "simulated"},
            created_at=datetime.now(UTC),
        )
        return Candidate(
            card,
            classifiers.to_onnx(model, rows.features.shape[1]),
            probes,
            {classifiers.OUTPUT: classifiers.reference_probabilities(model, probes)},
            {classifiers.OUTPUT: 0.01},
        )

    def feature_row(self) -> list[float]:
        """One row as users of the logged forest send it."""
        return [float(value) for value in self._table.features[0]]


def signal(samples: int) -> NDArray[np.float32]:
    """A window of a machine with a damaged outer race."""
    made = machine_signal("outer_race", machine_seed=3, seed=1, seconds=1.0, shaft_rpm=DEMO_RPM, snr_db=0.0)
    return made[:samples]


def picture() -> bytes:
    """A frame as the camera's worker posts it: 640 x 480, JPEG."""
    return images.encode_jpeg(Scene(seed=5).frame(0.0))


def _sludge(folder: Path) -> Candidate:
    render_dataset(folder, normals=60, anomalies=9, groups=30, seed=5)
    return train(images.load_folder(folder), name=SLUDGE)
