"""The package as an MLflow pyfunc (models from code): what `mlflow models serve`, Spark and Ray load.

Rows of the input, by the card's task:
    vision: `image`, the bytes of a JPEG, PNG or WebP, or their base64 text;
    vibration: `signal` (list of numbers) and `sampling_rate_hz`, and optionally `shaft_rpm`, `bearing`, `unit`.
Each row gives one verdict as a JSON-ready dict, or for a novelty model its judgement of the signal.
"""

from __future__ import annotations

import base64
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from almenara import servable
from almenara.contracts import ModelRef
from almenara.vision.images import MAX_PIXELS


class PackagedModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # mlflow ships no types
    def load_context(self, context: Any) -> None:
        self.package = servable.load(context.artifacts["package"])
        self.ref = ModelRef(name=self.package.card.name, version="unregistered")

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[dict[str, Any]]:  # noqa: ARG002
        rows = model_input.to_dict(orient="records")
        if self.package.card.task == "vision":
            model = servable.VisionModel(self.package, self.ref)
            pictures = (model.decode(_file(row["image"]), max_pixels=MAX_PIXELS) for row in rows)
            return [model.predict(picture).verdict.model_dump(mode="json") for picture in pictures]
        judge = servable.VibrationModel if self.package.card.role == "classifier" else servable.NoveltyModel
        vibration = judge(self.package, self.ref)
        return [vibration.predict(**_signal(row)).model_dump(mode="json") for row in rows]


def _file(value: bytes | str) -> bytes:
    return base64.b64decode(value) if isinstance(value, str) else bytes(value)


def _signal(row: dict[str, Any]) -> dict[str, Any]:
    known = {key: row[key] for key in ("sampling_rate_hz", "shaft_rpm", "bearing", "unit") if row.get(key) is not None}
    return {"signal": np.asarray(row["signal"], dtype=np.float32), **known}


mlflow.models.set_model(PackagedModel())
