"""At which quality the worker encodes what it sends."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile

from almenara.vision import images
from camera_worker.picture import Preparer
from camera_worker.slot import Frame
from camera_worker.view import View


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    """BGR, with much detail."""
    return np.random.default_rng(0).integers(0, 256, (576, 1400, 3), dtype=np.uint8)


def sent(picture: NDArray[np.uint8], *quality: int) -> bytes:
    frame = Frame(picture, 0.0, datetime.now(UTC), 1, 1)
    return Preparer(View(), frozen_after=None).prepare(frame, *quality).jpeg


def coarsest_step(jpeg: bytes) -> int:
    with JpegImageFile(io.BytesIO(jpeg)) as file:
        return max(max(table) for table in file.quantization.values())


def test_the_best_is_sent_unless_less_is_asked_for(picture: NDArray[np.uint8]) -> None:
    assert coarsest_step(sent(picture)) == coarsest_step(sent(picture, 100)) == 1
    assert coarsest_step(sent(picture, 95)) > 5
    assert len(sent(picture, 95)) < 0.75 * len(sent(picture))


def test_it_is_what_models_were_measured_with(picture: NDArray[np.uint8]) -> None:
    rgb = np.ascontiguousarray(picture[..., ::-1])
    assert sent(picture, images.SENT_QUALITY) == images.as_sent(rgb)
