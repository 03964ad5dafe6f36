"""A model from rendered pictures, through its ONNX graph, to verdicts on frames it has never seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from almenara.contracts import Candidate, ModelRef
from almenara.errors import InputError
from almenara.vision.evaluate import evaluate
from almenara.vision.images import Sample, decode, load_folder, prepare
from almenara.vision.scenes import ANOMALIES, Scene, render_dataset
from almenara.vision.train import train
from almenara.vision.verdict import verdict

SEED, SIZE = 11, 128

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    folder = tmp_path_factory.mktemp("sludge")
    render_dataset(folder, normals=96, anomalies=12, groups=48, seed=SEED, width=320, height=240)
    return load_folder(folder)


@pytest.fixture(scope="module")
def candidate(samples: list[Sample]) -> Candidate:
    return train(samples, name="sludge", size=SIZE)


@pytest.fixture(scope="module")
def session(candidate: Candidate) -> ort.InferenceSession:
    return ort.InferenceSession(candidate.graph, providers=["CPUExecutionProvider"])


def test_the_graph_has_one_uint8_input_and_two_outputs(session: ort.InferenceSession) -> None:
    (image,) = session.get_inputs()
    assert (image.name, image.type, image.shape[1:]) == ("image", "tensor(uint8)", [SIZE, SIZE, 3])
    assert {output.name: output.type for output in session.get_outputs()} == {
        "map": "tensor(float)",
        "embedding": "tensor(float)",
    }


def test_the_graph_agrees_with_the_float64_reference(candidate: Candidate, session: ort.InferenceSession) -> None:
    assert len(candidate.probes) >= 64
    found = dict(zip(("map", "embedding"), session.run(["map", "embedding"], {"image": candidate.probes}), strict=True))
    for name, reference in candidate.reference.items():
        tolerance = 1e-3 * np.maximum(np.abs(reference), candidate.scales[name])
        assert found[name].shape == reference.shape
        assert np.all(np.abs(found[name] - reference) <= 0.1 * tolerance)


def test_probes_hold_both_labels(candidate: Candidate) -> None:
    assert candidate.card.threshold is not None
    peaks = candidate.reference["map"].max(axis=(1, 2))
    assert (peaks > 2 * candidate.card.threshold.value).any()
    assert (peaks < 2 * candidate.card.threshold.value).any()


def test_the_card_says_what_was_promised(candidate: Candidate) -> None:
    card = candidate.card
    assert card.threshold is not None
    assert (card.task, card.role, card.method) == ("vision", "anomaly", "padim")
    assert (card.threshold.promise, card.threshold.groups) == ("held", 19)
    assert card.calibration_scores == tuple(sorted(card.calibration_scores))
    assert card.training_data["labels"] == {"clump": 4, "crack": 4, "foreign_object": 4, "good": 96}
    assert card.metrics["held-out-groups"]["image_auroc"] > 0.95
    assert all(decode(figure, max_pixels=10**7).size for figure in candidate.figures.values())


def test_new_frames_are_judged_right(candidate: Candidate, session: ort.InferenceSession) -> None:
    scene, model = Scene(SEED, width=320, height=240), ModelRef(name="sludge", version="1")

    def label(t: float, anomaly: str | None) -> str:
        picture = prepare(scene.frame(t, anomaly), candidate.card.input)  # type: ignore[arg-type]
        return verdict(session.run(["map"], {"image": picture[None]})[0][0], candidate.card, model).label

    times = [1000.0 + 17 * step for step in range(24)]
    assert sum(label(t, None) == "anomaly" for t in times) <= 4
    for anomaly in ANOMALIES:
        assert sum(label(t, anomaly) == "anomaly" for t in times[:8]) >= 7


def test_strict_refuses_too_few_groups(samples: list[Sample]) -> None:
    with pytest.raises(InputError, match="needs 99 calibration groups"):
        train(samples, name="sludge", size=64, false_alarm_rate=0.01, strict=True)


def test_an_unknown_method_is_refused(samples: list[Sample]) -> None:
    with pytest.raises(InputError, match="padim"):
        train(samples, name="sludge", method="magic")


def test_evaluation_reports_every_figure(samples: list[Sample]) -> None:
    stages: list[str] = []
    report = evaluate(samples, size=SIZE, seeds=(0,), progress=lambda stage, *_: stages.append(stage))
    assert report.image_auroc > 0.95
    assert len(report.image_auroc_per_seed) == 1
    assert report.pixel_auroc is not None
    assert report.pixel_auroc > 0.9
    assert report.pro is not None
    assert report.pro > 0.6
    assert set(report.per_defect) == set(ANOMALIES)
    assert 0 <= report.false_alarm_realised < 0.3
    assert 0 < report.latency_ms < 500
    assert "cross-validating" in stages


def test_evaluation_needs_defects(samples: list[Sample]) -> None:
    with pytest.raises(InputError, match="no picture of a defect"):
        evaluate([sample for sample in samples if sample.normal])


def test_a_damaged_picture_is_named(samples: list[Sample], tmp_path: Path) -> None:
    broken = tmp_path / "half.jpg"
    body = samples[0].file.read_bytes()
    broken.write_bytes(body[: len(body) // 2])
    with pytest.raises(InputError, match=r"half\.jpg"):
        train([*samples, Sample(broken, "good", None, "broken")], name="sludge", size=64)
