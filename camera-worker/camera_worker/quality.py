"""Whether a picture shows anything: black, frozen and blurred pictures are told from live ones."""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

_BLACK_LEVEL = 32  # of 255: video black is 16, a capped or unlit camera adds its noise
_LIT_SHARES = (0.005, 0.01)  # of the pixels: below the first a picture turns black, above the second it is lit again
_STILL_DIFFERENCE, _KEYFRAME_DIFFERENCE, _REPEATED_DIFFERENCE = 0.6, 1.25, 0.01  # grey levels, see `QualityJudge`
_LEAST_CHANGES, _MOST_CHANGES = 4, 64  # from picture to picture, behind their median
_BLURRED_SHARES = (0.2, 0.3)  # of the usual sharpness: below the first a picture turns blurred, above the second sharp
_JUDGED_WIDTH = 320
_SHARPNESS_EVERY = 0.9  # seconds; looked at about once a second, for its cost
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


@dataclass
class _Still:
    """A row of pictures that resemble its first.

    Attributes:
        first, last: pixels of its first and its last picture.
        since: when it began, seconds.
        earlier: when the row before it began, if what parted them may have been a key frame; else as `since`.
    """

    first: Image
    last: Image
    since: float
    earlier: float


class QualityJudge:
    """Judges one camera's pictures in their order.

    *Black*: fewer than .5 % of the pixels reach 32, until 1 % do. *Frozen*: for `frozen_after` seconds no picture
    differed by .6 grey levels (mean absolute difference) from the first of them, or by 1.25 while the median change
    from picture to picture stayed under .01. Compared are single pixels of the camera's own resolution, where sensor
    noise is whole. A repeated picture changes by less than .01 but for its key frames, which differ by .1 to 1.2 at
    4 Mbit/s. Under one grey level of noise pictures change by .15 and more; a starved encoder hides that, but not from
    its key frames: they differ by 1.4. A frozen camera whose encoder starves counts as live. *Blurred*: for
    `blurred_after` seconds the variance of the Laplacian, over that of the picture, was under a fifth of its usual
    value, until it reaches three tenths; looked at once a second.

    The first key frame after a freeze comes before the pictures are known to repeat. If it differs by less than 1.25
    and they repeat from then on, the seconds before it count as well: a picture is flagged `frozen_after` seconds and
    two pictures after it froze, and a key frame interval later where the encoder takes so long to settle.

    Args:
        frozen_after: seconds; None switches the check off, as for a noise-free still scene.
        blurred_after: seconds; None switches the check off.
    """

    def __init__(self, *, frozen_after: float | None = 8.0, blurred_after: float | None = 4.0) -> None:
        self._frozen_after, self._blurred_after = frozen_after, blurred_after
        self._black = False
        self._still: _Still | None = None
        self._changes: deque[float] = deque(maxlen=_MOST_CHANGES)
        self._blurred_since: float | None = None
        self._sharpness_due = -math.inf
        self._sharpness: deque[float] = deque(maxlen=_REFERENCE_SIZES[1])

    def judge(self, image: Image, at: float, pixels: Image | None = None) -> Condition:
        """The condition of a picture.

        Args:
            image: uint8 BGR (height, width, 3); shrunk here until noise is averaged out.
            at: when it was taken, in seconds, on any clock that runs evenly.
            pixels: what `sample` takes of the same picture's brightness before it was shrunk, without what a mask
                hides, in any shape; of `image` by default. Where there are none the picture is black.
        """
        if pixels is None:
            pixels = sample(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
        still = self._still_seconds(pixels, at)
        if self._is_black(pixels):
            return Condition.BLACK
        if self._frozen_after is not None and still >= self._frozen_after:
            return Condition.FROZEN
        if self._blurred_after is not None and self._blurred_seconds(image, at) >= self._blurred_after:
            return Condition.BLURRED
        return Condition.GOOD

    def _is_black(self, pixels: Image) -> bool:
        lit = np.count_nonzero(pixels >= _BLACK_LEVEL) / max(1, pixels.size)
        self._black = bool(lit < _LIT_SHARES[self._black])
        return self._black

    def _still_seconds(self, pixels: Image, at: float) -> float:
        still, earlier = self._still, at
        if still is not None and still.first.shape == pixels.shape:
            self._changes.append(_difference(pixels, still.last))
            repeats = len(self._changes) >= _LEAST_CHANGES and statistics.median(self._changes) < _REPEATED_DIFFERENCE
            difference = _difference(pixels, still.first)
            if difference < (_KEYFRAME_DIFFERENCE if repeats else _STILL_DIFFERENCE):
                still.last = pixels
                if repeats:
                    still.since = still.earlier
                return at - still.since
            earlier = still.since if difference < _KEYFRAME_DIFFERENCE else at
        self._still = _Still(pixels, pixels, since=at, earlier=earlier)
        self._changes.clear()
        return 0.0

    def _blurred_seconds(self, image: Image, at: float) -> float:
        if at < self._sharpness_due:
            return 0.0 if self._blurred_since is None else at - self._blurred_since
        self._sharpness_due = at + _SHARPNESS_EVERY
        sharpness = _sharpness(image)
        known = len(self._sharpness) >= _REFERENCE_SIZES[0]
        share = _BLURRED_SHARES[self._blurred_since is not None]
        if known and sharpness < share * statistics.median(self._sharpness):
            self._blurred_since = at if self._blurred_since is None else self._blurred_since
            return at - self._blurred_since
        self._sharpness.append(sharpness)
        self._blurred_since = None
        return 0.0


def sample(plane: cv2.typing.MatLike) -> Image:
    """Single pixels of a grey picture on an even grid, about 320 a row, copied; nothing is averaged."""
    step = max(1, round(plane.shape[1] / _JUDGED_WIDTH))
    return np.array(plane[::step, ::step], dtype=np.uint8)


def _shrunk(image: Image) -> Image:
    """Halved until it is at most 320 wide; halving is many times cheaper than shrinking to an exact size."""
    while image.shape[1] > _JUDGED_WIDTH and image.shape[0] > 1:
        rows, columns = image.shape[0] // 2, image.shape[1] // 2
        even = image[: 2 * rows, : 2 * columns]
        image = np.asarray(cv2.resize(even, (columns, rows), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return image


def _sharpness(image: Image) -> float:
    """Variance of the Laplacian over the variance, after Pertuz et al., Pattern Recognition 46 (2013) 1415."""
    grey = _shrunk(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), dtype=np.uint8))
    return _variance(cv2.Laplacian(grey, cv2.CV_16S)) / (_variance(grey) + 1.0)


def _difference(one: Image, other: Image) -> float:
    """Mean absolute difference in grey levels."""
    return float(cv2.mean(cv2.absdiff(one, other))[0])


def _variance(values: cv2.typing.MatLike) -> float:
    return float(cv2.meanStdDev(values)[1][0, 0]) ** 2
