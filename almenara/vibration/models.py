"""Classifiers of feature rows: scikit-learn to train, one ONNX graph to serve."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from almenara.errors import InputError

Method = Literal["ensemble", "logistic-regression", "random-forest"]
METHODS: tuple[Method, ...] = get_args(Method)

INPUT = "features"
OUTPUT = "probabilities"
OPSET = 17

_TREES = 200


def build(method: str, seed: int = 0) -> Any:
    """An unfitted scikit-learn classifier whose classes weigh the same however many windows each has.

    `ensemble` averages the probabilities of forest and regression: the forest is robust to odd columns, the
    regression extrapolates to fault sizes that were never seen, and their errors differ.

    Raises:
        InputError: `unknown-method`.
    """
    if method == "logistic-regression":
        return make_pipeline(
            StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced", random_state=seed)
        )
    if method == "random-forest":
        return RandomForestClassifier(_TREES, class_weight="balanced", random_state=seed, n_jobs=-1)
    if method == "ensemble":
        members = [(name, build(name, seed)) for name in ("random-forest", "logistic-regression")]
        return VotingClassifier(members, voting="soft", flatten_transform=False)
    raise InputError("unknown-method", f"There is no method {method!r}.", f"Known: {', '.join(METHODS)}.")


def reference_probabilities(model: Any, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """What scikit-learn says in float64: the export gates' independent reference."""
    return np.asarray(model.predict_proba(features.astype(np.float64)), dtype=np.float64)


def to_onnx(model: Any, features: int) -> bytes:
    """Serialise a fitted classifier: input `features` float32 (n, features), output `probabilities` float32 (n, C)."""
    exported = convert_sklearn(
        model,
        initial_types=[(INPUT, FloatTensorType([None, features]))],
        options={id(model): {"zipmap": False}},
        target_opset=OPSET,
    )
    graph = exported.graph
    kept = [output for output in graph.output if output.name == OUTPUT]
    if len(kept) != 1:
        raise InputError("export-outputs", f"The exporter made the outputs {[output.name for output in graph.output]}.")
    del graph.output[:]
    graph.output.extend(kept)
    _drop_unused(graph)
    onnx.checker.check_model(exported)
    return bytes(exported.SerializeToString())


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Remove what led to the label output alone."""
    needed = {output.name for output in graph.output}
    nodes = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed |= set(node.input)
    constants = [constant for constant in graph.initializer if constant.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(nodes))
    graph.initializer.extend(constants)
