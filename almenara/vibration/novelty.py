"""Novelty of feature rows against healthy ones: a shrunk Mahalanobis distance, exported as three matrix operations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from almenara.errors import InputError

INPUT = "features"
OUTPUT = "score"
OPSET = 17

_LEAST_ROWS = 4
_LEAST_SPREAD = 1e-3


@dataclass(frozen=True)
class Mahalanobis:
    """Distance from the healthy centre in units of healthy spread.

    Columns are scaled by median and interquartile range, their covariance is shrunk after Ledoit and Wolf ("A
    well-conditioned estimator for large-dimensional covariance matrices", J. Multivariate Analysis 88, 2004), and
    the score is the root of the mean squared whitened deviation: about 1 for a healthy window.

    Attributes:
        centre: float64 (features,).
        whitening: float64 (features, features); (row - centre) @ whitening has unit covariance.
    """

    centre: NDArray[np.float64]
    whitening: NDArray[np.float64]

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scores, float64 (n,), of rows (n, features), in float64 throughout."""
        white = (np.asarray(features, dtype=np.float64) - self.centre) @ self.whitening
        return np.asarray(np.sqrt((white**2).mean(axis=1)))

    def to_onnx(self) -> bytes:
        """Serialise: input `features` float32 (n, features), output `score` float32 (n,)."""
        width = self.centre.size
        constants = [
            numpy_helper.from_array(self.centre.astype(np.float32), "centre"),
            numpy_helper.from_array(self.whitening.astype(np.float32), "whitening"),
        ]
        nodes = [
            helper.make_node("Sub", [INPUT, "centre"], ["deviation"]),
            helper.make_node("MatMul", ["deviation", "whitening"], ["white"]),
            helper.make_node("Mul", ["white", "white"], ["squared"]),
            helper.make_node("ReduceMean", ["squared"], ["mean"], axes=[1], keepdims=0),
            helper.make_node("Sqrt", ["mean"], [OUTPUT]),
        ]
        graph = helper.make_graph(
            nodes,
            "mahalanobis",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, width])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None])],
            constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())


def fit(features: NDArray[np.float32]) -> Mahalanobis:
    """Fit on healthy rows, shape (n, features).

    Raises:
        InputError: `baseline-too-short`, fewer than 4 rows.
    """
    from sklearn.covariance import ledoit_wolf

    rows = np.asarray(features, dtype=np.float64)
    if rows.shape[0] < _LEAST_ROWS:
        raise InputError(
            "baseline-too-short",
            f"A baseline needs at least {_LEAST_ROWS} healthy windows to fit on and there are {rows.shape[0]}.",
            "Record more healthy operation.",
        )
    low, centre, high = np.quantile(rows, [0.25, 0.5, 0.75], axis=0)
    # A column that never moved in the baseline must neither divide by zero nor alarm on rounding.
    spread = np.maximum((high - low) / 1.349, _LEAST_SPREAD)
    scaled = (rows - centre) / spread
    centre = centre + scaled.mean(axis=0) * spread
    covariance, _ = ledoit_wolf(scaled)
    factor = np.linalg.cholesky(covariance + 1e-9 * np.eye(rows.shape[1]))
    whitening = np.linalg.inv(factor).T / spread[:, None]
    return Mahalanobis(centre, whitening)
