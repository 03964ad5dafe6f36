"""Pictures of a data set as the graph sees them, and their features, in batches; training only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from almenara.contracts import ImageInput, Progress
from almenara.errors import InputError
from almenara.vision.export import Extractor
from almenara.vision.images import Sample, prepare, read

BATCH = 16
METHODS = ("padim",)


def check_method(method: str) -> None:
    """Refuse a method that there is not."""
    if method not in METHODS:
        raise InputError("unknown-method", f"There is no method {method!r}.", f"Use one of: {', '.join(METHODS)}.")


def read_all(samples: Sequence[Sample], spec: ImageInput, progress: Progress | None = None) -> NDArray[np.uint8]:
    """Every sample decoded and prepared: uint8, shape (n, spec.height, spec.width, 3)."""
    pictures = np.empty((len(samples), spec.height, spec.width, 3), dtype=np.uint8)
    for index, sample in enumerate(samples):
        pictures[index] = prepare(read(sample.file), spec)
        _tell(progress, "reading pictures", index + 1, len(samples))
    return pictures


def extract(extractor: Extractor, pictures: NDArray[np.uint8], progress: Progress | None = None) -> NDArray[np.float32]:
    """Features of pictures, shape (n, cells, cells, d)."""
    parts = []
    for start in range(0, len(pictures), BATCH):
        parts.append(extractor(pictures[start : start + BATCH]))
        _tell(progress, "extracting features", min(start + BATCH, len(pictures)), len(pictures))
    return np.concatenate(parts)


def _tell(progress: Progress | None, stage: str, done: int, total: int) -> None:
    if progress is not None:
        progress(stage, done, total)
