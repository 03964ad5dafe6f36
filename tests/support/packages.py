"""Small but real candidates and packages: hand-built ONNX graphs whose outputs NumPy can recompute."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from almenara import servable
from almenara.calibration import conformal_threshold, interquartile_range
from almenara.contracts import Candidate, Card, ImageInput
from almenara.vibration.features import BearingFeatures
from almenara.vision.verdict import score

SIZE, GRID = 32, 8
LABELS = ("ball", "inner_race", "normal", "outer_race")


def vision_candidate(name: str = "darkness", offset: float = 0.0) -> Candidate:
    """How dark a picture is, on an 8x8 grid of cells: black is 1, white is 0, both shifted by `offset`."""
    constants = {"scale": np.float32(-1 / 255), "one": np.float32(1 + offset)}
    cells = np.array([0, GRID, SIZE // GRID, GRID, SIZE // GRID, 3], dtype=np.int64)
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["negative"]),
        helper.make_node("Add", ["negative", "one"], ["dark"]),
        helper.make_node("Reshape", ["dark", "cells"], ["split"]),
        helper.make_node("ReduceMean", ["split", "axes"], ["map"], keepdims=0),
        helper.make_node("ReduceMean", ["dark", "space"], ["embedding"], keepdims=0),
    ]
    initializers = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()]
    initializers += [
        numpy_helper.from_array(cells, "cells"),
        numpy_helper.from_array(np.array([2, 4, 5], dtype=np.int64), "axes"),
        numpy_helper.from_array(np.array([1, 2], dtype=np.int64), "space"),
    ]
    graph = _model(
        nodes,
        initializers,
        helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", SIZE, SIZE, 3]),
        {"map": ["n", GRID, GRID], "embedding": ["n", 3]},
    )
    rng = np.random.default_rng(0)
    probes = np.clip(rng.normal(200, 10, (80, SIZE, SIZE, 3)) - rng.choice([0, 120], 80)[:, None, None, None], 0, 255)
    probes = probes.astype(np.uint8)
    dark = 1 + offset - probes.astype(np.float64) / 255
    reference = {
        "map": dark.reshape(-1, GRID, SIZE // GRID, GRID, SIZE // GRID, 3).mean(axis=(2, 4, 5)),
        "embedding": dark.mean(axis=(1, 2)),
    }
    card = Card(
        name=name,
        task="vision",
        role="anomaly",
        method="darkness",
        metrics={"held-out-groups": {"image_auroc": 0.9}},
        input=ImageInput(height=SIZE, width=SIZE),
        labels=("normal", "anomaly"),
        display_range=(0.2, 0.8),
        training_data={"origin": "drawn", "fingerprint": "drawn"},
        created_at=datetime.now(UTC),
    )
    normal = rng.uniform(0.15, 0.3, (60, 1, 1)) + rng.normal(0, 0.01, (60, GRID, GRID))
    scores = sorted(score(each.astype(np.float32), card) for each in normal)
    threshold = conformal_threshold(scores, [str(index) for index in range(60)], 0.05)
    card = card.model_copy(update={"threshold": threshold, "calibration_scores": tuple(scores)})
    scale = interquartile_range(scores)
    return Candidate(card, graph, probes, reference, {"map": scale, "embedding": scale}, {"cells": GRID})


def classifier_candidate(name: str = "bearing") -> Candidate:
    """Softmax of a fixed random linear map of the standardised bearing features."""
    spec = BearingFeatures().to_input()
    rng = np.random.default_rng(1)
    weights = rng.normal(0, 0.05, (len(spec.feature_names), len(LABELS))).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = _model(
        nodes,
        [numpy_helper.from_array(weights, "weights")],
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", len(spec.feature_names)]),
        {"probabilities": ["n", len(LABELS)]},
    )
    probes = rng.normal(0, 1, (64, len(spec.feature_names))).astype(np.float32)
    logits = probes.astype(np.float64) @ weights.astype(np.float64)
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    card = Card(
        name=name,
        task="vibration",
        role="classifier",
        method="linear",
        metrics={"leave-one-fault-size-out": {"macro_f1": 0.9}},
        input=spec,
        labels=LABELS,
        training_data={"origin": "drawn", "fingerprint": "drawn"},
        created_at=datetime.now(UTC),
    )
    return Candidate(
        card,
        graph,
        probes,
        {"probabilities": exponents / exponents.sum(axis=1, keepdims=True)},
        {"probabilities": 0.01},
    )


def novelty_candidate(healthy: np.ndarray, asset: str = "pump-1", name: str = "bearing-baseline-pump-1") -> Candidate:
    """Root-mean-square of features standardised by healthy rows, shape (n, features)."""
    spec = BearingFeatures().to_input()
    mean, spread = healthy.mean(axis=0), healthy.std(axis=0) + 0.1
    nodes = [
        helper.make_node("Sub", ["features", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "spread"], ["z"]),
        helper.make_node("Mul", ["z", "z"], ["squared"]),
        helper.make_node("ReduceMean", ["squared", "axes"], ["variance"], keepdims=0),
        helper.make_node("Sqrt", ["variance"], ["score"]),
    ]
    initializers = [
        numpy_helper.from_array(mean.astype(np.float32), "mean"),
        numpy_helper.from_array(spread.astype(np.float32), "spread"),
        numpy_helper.from_array(np.array([1], dtype=np.int64), "axes"),
    ]
    graph = _model(
        nodes,
        initializers,
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", len(spec.feature_names)]),
        {"score": ["n"]},
    )
    rng = np.random.default_rng(2)

    def judge(rows: np.ndarray) -> np.ndarray:
        z = (rows.astype(np.float64) - mean.astype(np.float32)) / spread.astype(np.float32)
        return np.asarray(np.sqrt((z**2).mean(axis=1)))

    probes = rng.normal(mean, spread, (64, len(spec.feature_names))).astype(np.float32)
    scores = np.sort(judge(rng.normal(mean, spread, (60, mean.size)).astype(np.float32)) * 1.5)
    card = Card(
        name=name,
        task="vibration",
        role="novelty",
        method="rms",
        metrics={"group cross-validation": {"false_alarm_rate": 0.04, "promised": 0.05}},
        asset=asset,
        input=spec,
        labels=("normal", "anomaly"),
        threshold=conformal_threshold(scores, [str(index) for index in range(60)], 0.05),
        calibration_scores=tuple(float(each) for each in scores),
        training_data={"origin": "drawn", "fingerprint": "drawn"},
        created_at=datetime.now(UTC),
    )
    return Candidate(card, graph, probes, {"score": judge(probes)}, {"score": interquartile_range(scores)})


def write_package(candidate: Candidate, directory: Path) -> Path:
    """Write a candidate as the package directory that a registry would hand out."""
    return servable.write(candidate, directory)


def _model(
    nodes: list[onnx.NodeProto],
    initializers: list[onnx.TensorProto],
    graph_input: onnx.ValueInfoProto,
    outputs: dict[str, list[str | int]],
) -> bytes:
    declared = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    graph = helper.make_graph(nodes, "drawn", [graph_input], declared, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
