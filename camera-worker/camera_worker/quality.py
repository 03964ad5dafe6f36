"""Whether a picture shows anything: black, frozen and blurred pictures are told from live ones."""

from __future__ import annotations

import statistics
from collections import deque
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

_BLACK_LEVEL = 32  # of 255: video black is 16, a capped or unlit camera adds its noise
_BLACK_QUANTILE = 99.5
_STILL_DIFFERENCE = 0.4  # grey levels, see `QualityJudge`
_BLURRED_SHARE = 0.2
_SHARPNESS_WIDTH = 320
_REFERENCE_SIZES = (20, 240)  # least and most pictures behind the usual sharpness


class Condition(StrEnum):
    """What a picture is worth."""

    GOOD = "good"
    BLACK = "black"
    FROZEN = "frozen"
    BLURRED = "blurred"

    @property
    def scorable(self) -> bool:
        """Whether a model may judge the picture; a blurred one shows that something happened to the camera."""
        return self in (Condition.GOOD, Condition.BLURRED)


class QualityJudge:
    """Judges one camera's pictures in their order.

    *Black*: 99.5 % of the pixels are darker than 32. *Frozen*: for `frozen_after` seconds no picture differed by .4
    grey levels (mean absolute difference) from the first of them. The same picture encoded again and again differs
    by less than .2 at sane bit rates, a still scene under a sensor with one grey level of noise by .85; a starved
    encoder blurs the two, and then the camera counts as live. *Blurred*: for `blurred_after` seconds the variance
    of the Laplacian, over that of the picture, was under a fifth of its usual value.

    Args:
        frozen_after: seconds; None switches the check off, as for a noise-free still scene.
        blurred_after: seconds; None switches the check off.
    """

    def __init__(self, *, frozen_after: float | None = 8.0, blurred_after: float | None = 4.0) -> None:
        self._frozen_after, self._blurred_after = frozen_after, blurred_after
        self._still: tuple[Image, float] | None = None
        self._blurred_since: float | None = None
        self._sharpness: deque[float] = deque(maxlen=_REFERENCE_SIZES[1])

    def judge(self, image: Image, at: float) -> Condition:
        """The condition of a picture, uint8 RGB (height, width, 3), taken at `at` seconds (monotonic)."""
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        still = self._still_seconds(grey, at)
        if np.percentile(grey, _BLACK_QUANTILE) < _BLACK_LEVEL:
            return Condition.BLACK
        if self._frozen_after is not None and still >= self._frozen_after:
            return Condition.FROZEN
        blurred = self._blurred_seconds(grey, at)
        if self._blurred_after is not None and blurred >= self._blurred_after:
            return Condition.BLURRED
        return Condition.GOOD

    def _still_seconds(self, grey: Image, at: float) -> float:
        if self._still is not None and self._still[0].shape == grey.shape:
            reference, since = self._still
            if float(np.mean(cv2.absdiff(grey, reference))) < _STILL_DIFFERENCE:
                return at - since
        self._still = (grey, at)
        return 0.0

    def _blurred_seconds(self, grey: Image, at: float) -> float:
        sharpness = _sharpness(grey)
        known = len(self._sharpness) >= _REFERENCE_SIZES[0]
        if known and sharpness < _BLURRED_SHARE * statistics.median(self._sharpness):
            self._blurred_since = at if self._blurred_since is None else self._blurred_since
            return at - self._blurred_since
        self._sharpness.append(sharpness)
        self._blurred_since = None
        return 0.0


def _sharpness(grey: Image) -> float:
    """Variance of the Laplacian over the variance, of a picture shrunk until sensor noise is averaged out."""
    rows, columns = grey.shape
    if columns > _SHARPNESS_WIDTH:
        size = (_SHARPNESS_WIDTH, max(1, round(rows * _SHARPNESS_WIDTH / columns)))
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    contrast = float(grey.var())
    return float(cv2.Laplacian(grey, cv2.CV_64F).var()) / (contrast + 1.0)
