"""Classifiers and the novelty distance: their graphs say what scikit-learn and NumPy say."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from almenara.errors import InputError
from almenara.vibration import models, novelty


def rows(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, n)
    features = random.normal(size=(n, 12)) + labels[:, None] * random.normal(size=12)
    return (features * np.geomspace(1e-3, 1e3, 12)).astype(np.float32), np.array(["a", "b", "c"])[labels]


@pytest.mark.parametrize("method", models.METHODS)
def test_graph_gives_the_models_probabilities(method: str) -> None:
    features, labels = rows()
    model = models.build(method).fit(features, labels)
    session = ort.InferenceSession(models.to_onnx(model, 12))
    fresh = rows(seed=1)[0]
    reference = models.reference_probabilities(model, fresh)
    assert reference.dtype == np.float64
    assert reference.sum(axis=1) == pytest.approx(1)
    np.testing.assert_allclose(session.run(None, {"features": fresh})[0], reference, atol=1e-5)


@pytest.mark.parametrize("method", models.METHODS)
def test_graph_has_one_input_and_one_output(method: str) -> None:
    features, labels = rows()
    graph = onnx.load_from_string(models.to_onnx(models.build(method).fit(features, labels), 12)).graph
    assert [value.name for value in graph.input] == ["features"]
    assert [value.name for value in graph.output] == ["probabilities"]


def test_unknown_method_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        models.build("crystal-ball")
    assert caught.value.code == "unknown-method"


def test_novelty_graph_gives_the_distance() -> None:
    features, _ = rows()
    baseline = novelty.fit(features)
    session = ort.InferenceSession(baseline.to_onnx())
    found = session.run(None, {"features": features})[0]
    assert found.shape == (300,)
    np.testing.assert_allclose(found, baseline.score(features), rtol=1e-4)


def test_distance_is_one_for_typical_rows_and_grows_outside() -> None:
    random = np.random.default_rng(2)
    baseline = novelty.fit(random.normal(size=(2000, 5)).astype(np.float32))
    healthy = baseline.score(random.normal(size=(500, 5)).astype(np.float32))
    assert np.median(healthy) == pytest.approx(1, abs=0.1)
    assert baseline.score(np.full((1, 5), 10, np.float32))[0] > 5 * np.quantile(healthy, 0.99)


def test_distance_ignores_the_scale_of_columns() -> None:
    features = np.random.default_rng(3).normal(size=(200, 4)).astype(np.float32)
    scale = np.array([0.1, 1, 10, 100], np.float32)
    np.testing.assert_allclose(
        novelty.fit(features).score(features), novelty.fit(features * scale).score(features * scale), rtol=1e-3
    )


def test_column_that_never_moved_does_not_break_the_distance() -> None:
    features = np.random.default_rng(4).normal(size=(50, 3)).astype(np.float32)
    features[:, 1] = -6
    assert np.isfinite(novelty.fit(features).score(features)).all()


def test_baseline_of_three_rows_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        novelty.fit(np.zeros((3, 4), np.float32))
    assert caught.value.code == "baseline-too-short"
