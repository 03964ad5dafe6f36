"""Pictures of a local camera."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np

from camera_worker.slot import Picture
from camera_worker.sources.reading import SourceLostError


def read_webcam(number: int, *, on_damage: Callable[[], None] = lambda: None) -> Iterator[Picture]:
    """The undamaged pictures of a local camera; SourceLostError when it cannot be opened or gives none."""
    camera = cv2.VideoCapture(number)
    try:
        if not camera.isOpened():
            raise SourceLostError(f"there is no webcam {number}")
        while True:
            there, image = camera.read()
            if not there:
                raise SourceLostError(f"webcam {number} gives no picture")
            try:
                picture = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            except cv2.error:
                on_damage()
                continue
            yield np.asarray(picture, dtype=np.uint8)
    finally:
        camera.release()
