"""How good anomaly scores and maps are: AUROC, average precision and per-region overlap; training only."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

PRO_LIMIT = 0.3


def auroc(scores: ArrayLike, anomalous: ArrayLike) -> float:
    """Area under the ROC curve: how often an anomalous score exceeds a normal one, ties counted half.

    Args:
        scores: shape (n,).
        anomalous: shape (n,), bool; both kinds must occur.
    """
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(np.asarray(anomalous, dtype=bool), np.asarray(scores)))


def average_precision(scores: ArrayLike, anomalous: ArrayLike) -> float:
    """Area under the precision-recall curve (AUPR) by the step rule, anomalous being positive."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(np.asarray(anomalous, dtype=bool), np.asarray(scores)))


def per_region_overlap(
    maps: Sequence[NDArray[np.floating]], masks: Sequence[NDArray[np.bool_]], limit: float = PRO_LIMIT
) -> float:
    """PRO: how much of each defect is found on average, integrated over false-positive rates up to a limit.

    Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, section 5.3; small defects weigh as much as
    large ones.

    Args:
        maps: anomaly maps, each of its mask's shape (h, w).
        masks: ground truth; connected parts (8 neighbours) are the regions.
        limit: false-positive rate of pixels up to which is integrated; the area is divided by it.

    Returns:
        0 to 1.
    """
    negatives = np.sort(np.concatenate([found[~mask] for found, mask in zip(maps, masks, strict=True)]))
    rates = np.linspace(0, limit, 301)
    thresholds = negatives[np.clip(np.ceil((1 - rates) * negatives.size).astype(int) - 1, 0, negatives.size - 1)]
    overlaps = []
    for found, mask in zip(maps, masks, strict=True):
        count, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        for part in range(1, count):
            inside = np.sort(found[parts == part])
            overlaps.append(1 - np.searchsorted(inside, thresholds, side="right") / inside.size)
    return float(np.trapezoid(np.mean(overlaps, axis=0), rates) / limit)


def resize_mask(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Mask on a square grid; a cell counts when the defect touches it, so that thin cracks do not vanish."""
    shrunk = cv2.resize(mask.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk > 0)


def resize_map(raw_map: NDArray[np.floating], side: int) -> NDArray[np.float32]:
    """Map stretched to a square grid by linear interpolation."""
    values = np.asarray(raw_map, dtype=np.float32)
    return np.asarray(cv2.resize(values, (side, side), interpolation=cv2.INTER_LINEAR), dtype=np.float32)
