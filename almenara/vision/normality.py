"""What normal looks like: PaDiM, one Gaussian of deep features for every place in the picture; training only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from almenara.errors import InputError

Selection = Literal["random", "variance"]


@dataclass(frozen=True)
class Padim:
    """Fitted PaDiM (Defard et al., "PaDiM: a Patch Distribution Modeling Framework", 2020, arXiv:2011.08785).

    A cell's score is its Mahalanobis distance |W (x - mean)|, with W the inverse Cholesky factor of the cell's
    covariance: whitening first keeps float32 arithmetic accurate where the inverse covariance would not.

    Attributes:
        dimensions: the selected feature indices, sorted, shape (k,).
        mean: shape (h, w, k), float64.
        whitening: lower triangular factors, shape (h, w, k, k), float64.
    """

    dimensions: NDArray[np.intp]
    mean: NDArray[np.float64]
    whitening: NDArray[np.float64]

    @classmethod
    def fit(
        cls,
        features: ArrayLike,
        *,
        dimensions: int = 100,
        selection: Selection = "random",
        shrinkage: float = 0.3,
        ridge: float = 1e-3,
        seed: int = 0,
    ) -> Padim:
        """Fit mean and covariance of every cell.

        Few pictures cannot carry a full covariance for every cell, so each is shrunk towards the average over all
        cells, and a ridge keeps it invertible.

        Args:
            features: normal pictures, shape (n, h, w, d), n >= 2.
            dimensions: how many of the d features to keep; all of them when there are fewer.
            selection: `random` (PaDiM's own) or `variance` (those that vary most over pictures).
            shrinkage: weight of the average covariance, 0 to 1.
            ridge: added to the diagonal, in units of the average variance.
            seed: of the random selection.

        Raises:
            InputError: the shape is another, a value is not finite, or the features do not vary at all.
        """
        values = _checked(features)
        chosen = _select(values, min(dimensions, values.shape[3]), selection, seed)
        count, height, width, _ = values.shape
        kept = values[..., chosen].astype(np.float64).reshape(count, height * width, chosen.size)
        mean = kept.mean(axis=0)
        centred = (kept - mean).transpose(1, 2, 0)
        # A thousand small matrices: threads that wait for each other cost three to ten times as much as one.
        with threadpool_limits(1):
            covariance = centred @ centred.transpose(0, 2, 1) / (count - 1)
        average = covariance.mean(axis=0)
        variance = float(np.trace(average)) / chosen.size
        if variance == 0:
            raise InputError("features-constant", f"The {count} pictures are all alike.", "Give pictures that differ.")
        covariance = (1 - shrinkage) * covariance + shrinkage * average
        covariance += ridge * variance * np.eye(chosen.size)
        with threadpool_limits(1):
            whitening = np.linalg.inv(np.linalg.cholesky(covariance))
        return cls(
            dimensions=chosen,
            mean=mean.reshape(height, width, -1),
            whitening=np.tril(whitening).reshape(height, width, chosen.size, chosen.size),
        )

    def score_map(self, features: ArrayLike) -> NDArray[np.float64]:
        """Distance of every cell from normal, in standard deviations, in float64: the reference for exports.

        Args:
            features: shape (n, h, w, d), all d features.

        Returns:
            shape (n, h, w), at least 0.
        """
        values = np.asarray(features)
        height, width, size = self.mean.shape
        if values.ndim != 4 or values.shape[1:3] != (height, width) or values.shape[3] <= self.dimensions.max():
            raise InputError("features-shape", f"Features are {values.shape}, and (n, {height}, {width}, d) is needed.")
        kept = values[..., self.dimensions].astype(np.float64).reshape(len(values), height * width, size)
        centred = (kept - self.mean.reshape(-1, size)).transpose(1, 2, 0)
        with threadpool_limits(1):
            whitened = self.whitening.reshape(-1, size, size) @ centred
        return np.asarray(np.sqrt(np.square(whitened).sum(axis=1)).T.reshape(len(values), height, width))


def _checked(features: ArrayLike) -> NDArray[np.floating]:
    values = np.asarray(features)
    if values.ndim != 4 or len(values) < 2 or 0 in values.shape:
        raise InputError("features-shape", f"Features are {values.shape}, and (n >= 2, h, w, d) is needed.")
    if not np.isfinite(values).all():
        raise InputError("features-finite", "Some features are not finite.", "Check the pictures and the backbone.")
    return values


def _select(values: NDArray[np.floating], kept: int, selection: Selection, seed: int) -> NDArray[np.intp]:
    if selection == "variance":
        spread = values.var(axis=0, dtype=np.float64).mean(axis=(0, 1))
        return np.sort(np.argsort(-spread, kind="stable")[:kept])
    return np.sort(np.random.default_rng(seed).permutation(values.shape[3])[:kept])
