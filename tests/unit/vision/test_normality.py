"""PaDiM against the textbook's formulas."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from almenara.errors import InputError
from almenara.vision.normality import Padim


@pytest.fixture
def features() -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(2, 3, 6, 6))
    return np.asarray(np.einsum("nhwd,hwde->nhwe", rng.normal(size=(400, 2, 3, 6)), mixing), dtype=np.float32)


def test_without_shrinkage_it_is_the_mahalanobis_distance(features: NDArray[np.float32]) -> None:
    padim = Padim.fit(features, shrinkage=0, ridge=0)
    probe = features[:5] + 1
    found = padim.score_map(probe)
    for row in range(2):
        for column in range(3):
            normal = features[:, row, column].astype(np.float64)
            away = probe[:, row, column] - normal.mean(axis=0)
            inverse = np.linalg.inv(np.cov(normal, rowvar=False))
            expected = np.sqrt(np.einsum("nd,de,ne->n", away, inverse, away))
            assert np.allclose(found[:, row, column], expected, rtol=1e-6)


def test_full_shrinkage_uses_the_average_covariance(features: NDArray[np.float32]) -> None:
    padim = Padim.fit(features, shrinkage=1, ridge=0)
    average = np.mean([np.cov(features[:, i, j], rowvar=False) for i in range(2) for j in range(3)], axis=0)
    covariance = np.linalg.inv(padim.whitening[1, 2].T @ padim.whitening[1, 2])
    assert np.allclose(covariance, average, rtol=1e-5)
    assert np.allclose(padim.whitening[0, 0], padim.whitening[1, 2])


def test_random_selection_follows_the_seed(features: NDArray[np.float32]) -> None:
    chosen = [Padim.fit(features, dimensions=3, seed=seed).dimensions.tolist() for seed in range(6)]
    assert chosen[0] == Padim.fit(features, dimensions=3, seed=0).dimensions.tolist()
    assert len({tuple(each) for each in chosen}) > 1
    assert all(len(each) == 3 for each in chosen)


def test_variance_selection_takes_the_liveliest(features: NDArray[np.float32]) -> None:
    scaled = features * np.array([1, 9, 1, 1, 8, 1], dtype=np.float32)
    assert Padim.fit(scaled, dimensions=2, selection="variance").dimensions.tolist() == [1, 4]


def test_fewer_pictures_than_dimensions_still_fit() -> None:
    few = np.random.default_rng(0).normal(size=(5, 4, 4, 50))
    padim = Padim.fit(few, dimensions=50)
    assert np.isfinite(padim.score_map(few)).all()


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (np.zeros((1, 2, 2, 3)), "features-shape"),
        (np.zeros((4, 2, 3)), "features-shape"),
        (np.full((4, 2, 2, 3), np.nan), "features-finite"),
        (np.ones((4, 2, 2, 3)), "features-constant"),
    ],
)
def test_unusable_features_are_refused(bad: NDArray[np.float64], code: str) -> None:
    with pytest.raises(InputError) as raised:
        Padim.fit(bad)
    assert raised.value.code == code


def test_another_grid_is_refused(features: NDArray[np.float32]) -> None:
    with pytest.raises(InputError, match="is needed"):
        Padim.fit(features).score_map(features[:, :1])
