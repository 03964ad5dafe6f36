"""What a request of the Open Inference Protocol hands to a challenger is what its champion was asked."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from almenara import servable
from almenara.contracts import Candidate, ModelRef
from almenara.settings import Settings
from almenara.vision import images
from almenara_api.inference import InferencePool
from almenara_api.loading import Model
from almenara_api.metrics import Metrics
from almenara_api.protocol import infer
from almenara_api.services import Services
from tests.support.api import faulty_signal, healthy_features, healthy_signal
from tests.support.packages import SIZE, classifier_candidate, novelty_candidate, vision_candidate, write_package

PIXELS = np.stack([np.full((SIZE, SIZE, 3), grey, np.uint8) for grey in (20, 200)])
FILES = [base64.b64encode(images.encode_png(each)).decode() for each in PIXELS]
SIGNALS = np.stack([healthy_signal(1), faulty_signal(2)])
PICTURES = {"name": "image", "shape": [2], "datatype": "BYTES", "data": FILES}
IMAGE = {"name": "image", "shape": list(PIXELS.shape), "datatype": "UINT8", "data": PIXELS.tolist()}
SIGNAL = {"name": "signal", "shape": list(SIGNALS.shape), "datatype": "FP32", "data": SIGNALS.tolist()}
TOLD = {"sampling_rate_hz": 12_000, "shaft_rpm": 1772, "bearing": "6205-2RS"}


@pytest.fixture
def services() -> Iterator[Services]:
    """As much of them as a judgement needs."""
    metrics = Metrics()
    pool = InferencePool(8, 10, metrics, workers=1)
    told = SimpleNamespace(settings=Settings(), metrics=metrics, pool=pool, baseline=lambda *_: None)
    yield cast("Services", told)
    pool.close()


def model_of(candidate: Candidate, kind: type[Any], folder: Path) -> Model:
    package = servable.load(write_package(candidate, folder))
    return cast("Model", kind(package, ModelRef(name=candidate.card.name, version="1")))


@pytest.mark.parametrize(
    ("candidate", "kind", "tensor", "told"),
    [
        (vision_candidate(), servable.VisionModel, PICTURES, {}),
        (vision_candidate(), servable.VisionModel, IMAGE, {}),
        (classifier_candidate(), servable.VibrationModel, SIGNAL, TOLD),
        (novelty_candidate(healthy_features()), servable.NoveltyModel, SIGNAL, TOLD),
    ],
    ids=["files", "pixels", "classifier", "baseline"],
)
def test_a_challenger_judges_the_same(
    services: Services, tmp_path: Path, candidate: Candidate, kind: type[Any], tensor: object, told: object
) -> None:
    model = model_of(candidate, kind, tmp_path)
    body = json.dumps({"inputs": [tensor], "parameters": told}).encode()
    answer = asyncio.run(infer(services, model, body, None))
    assert answer.header_length is None
    outputs = {each["name"]: each["data"] for each in json.loads(answer.body)["outputs"]}
    again = answer.again(model)
    assert [each.label for each in again] == outputs["label"]
    for verdict, judged in zip(map(json.loads, outputs["verdict"]), again, strict=True):
        assert judged.figures == pytest.approx(verdict.get("probabilities", {"anomaly": verdict.get("anomaly")}))
