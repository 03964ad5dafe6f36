"""Pictures of a local camera."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from typing import Any, Protocol

import cv2
import numpy as np

from camera_worker.slot import Picture
from camera_worker.sources.reading import Description, ReadOptions, SourceLostError, Witness


class Device(Protocol):
    """What a reader needs of a local camera; `cv2.VideoCapture` has it."""

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        """Whether there is such a camera."""
        ...

    def grab(self) -> bool:
        """Waits for the next picture; whether it came."""
        ...

    def retrieve(self) -> tuple[bool, Any]:
        """Whether the picture that came could be decoded, and the picture, BGR."""
        ...

    def get(self, propId: int) -> float:  # noqa: N803 - OpenCV's name
        """A property such as `cv2.CAP_PROP_FPS`; 0 when it is not known."""
        ...

    def release(self) -> None:
        """Closes the camera."""
        ...


def open_device(number: int, options: ReadOptions) -> Device:
    """Opens a local camera; OpenCV's own lines about one that is absent stay out of the log."""
    os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"] = str(math.ceil(options.read))
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.VideoCapture(number)
    finally:
        cv2.utils.logging.setLogLevel(level)


def read_webcam(number: int, options: ReadOptions, witness: Witness) -> Iterator[Picture]:
    """The undamaged pictures of a local camera, BGR, `options.decode_every` seconds apart or more.

    Raises SourceLostError when it cannot be opened or gives none.
    """
    camera = open_device(number, options)
    try:
        if not camera.isOpened():
            raise SourceLostError(f"there is no webcam {number}")
        witness.described(Description("raw", "webcam", fps=camera.get(cv2.CAP_PROP_FPS) or None))
        decode_at = time.monotonic()
        while camera.grab():
            if time.monotonic() < decode_at:
                continue
            there, picture = camera.retrieve()
            if not there or picture.ndim != 3 or picture.shape[2] != 3:
                witness.damaged("a picture came broken or in an odd format")
                continue
            decode_at = time.monotonic() + options.decode_every
            yield np.asarray(picture, dtype=np.uint8)
        raise SourceLostError(f"webcam {number} gives no picture")
    finally:
        camera.release()
