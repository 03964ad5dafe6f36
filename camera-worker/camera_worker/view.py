"""The part of a camera's picture that is looked at: cut out, shrunk and masked, for training as for scoring."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from almenara.vision.images import SENT_LONGEST_SIDE
from camera_worker.config import Polygon, RegionConfig

MASK_GREY = 128
"""Value of all channels where the mask lies, whatever the camera shows there."""

Image = NDArray[np.uint8]

_WHOLE = RegionConfig(x=0, y=0, width=1, height=1)
_FRACTION_BITS = 8  # of the corners of polygons, in cv2.fillPoly


class View:
    """Region of interest and mask of one camera.

    A model that scores a part of the picture must be trained on the same part: run `apply` over the training
    pictures, with the camera's own `region` and `mask`. Not safe between threads.

    Args:
        region: the only part that is looked at, relative to the whole picture; all of it by default.
        mask: polygons that are painted in one grey, their corners relative to the whole picture as well.
    """

    def __init__(self, region: RegionConfig | None = None, mask: Sequence[Polygon] = ()) -> None:
        self._region = region or _WHOLE
        self._polygons = [np.array([self._to_part(x, y) for x, y in polygon]) for polygon in mask]
        self._crop: _Crop | None = None
        self._scaler = VideoReformatter()
        self._open: NDArray[np.bool_] = np.ones((0, 0), dtype=np.bool_)

    def to_whole(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the looked-at part lies in the whole picture, both relative, 0 to 1.

        Exact to two of the camera's pixels, because regions begin at even ones.
        """
        region = self._region
        return region.x + x * region.width, region.y + y * region.height

    def apply(self, image: Image) -> Image:
        """The looked-at part of a whole picture: cut out, no side longer than 1024, masked.

        Args:
            image: uint8 (height, width, 3), RGB or BGR; left as it is.
        """
        rows, columns = image.shape[:2]
        left, top, width, height = self._box(columns, rows)
        part = image[top : top + height, left : left + width]
        size = _within(width, height)
        if size != (width, height):
            part = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        elif self._polygons:
            part = part.copy()
        self.paint(part)
        return part

    def cut(self, picture: av.VideoFrame) -> av.VideoFrame:
        """The looked-at part of a decoded picture, in its own size and pixel format, not masked; no pixel is copied."""
        box = self._box(picture.width, picture.height)
        if box == (0, 0, picture.width, picture.height):
            return picture
        if self._crop is None or not self._crop.fits(picture):
            self._crop = _Crop(picture, box)
        return self._crop(picture)

    def shrink(self, part: av.VideoFrame) -> av.VideoFrame:
        """What `cut` gave, no side longer than 1024. Pixels are taken for square, whatever the stream says."""
        width, height = _within(part.width, part.height)
        if (width, height) == (part.width, part.height):
            return part
        return self._scaler.reformat(part, width, height, interpolation="BILINEAR", threads=1)

    def paint(self, part: Image) -> None:
        """Masks a picture of the looked-at part, of any size and number of channels, in place."""
        rows, columns = part.shape[:2]
        scale = np.array([columns, rows]) * (1 << _FRACTION_BITS)
        half_a_pixel = 1 << (_FRACTION_BITS - 1)  # cv2 counts from the middle of the first pixel
        for polygon in self._polygons:
            corners = np.rint(polygon * scale).astype(np.int32) - half_a_pixel
            cv2.fillPoly(part, [corners], (MASK_GREY,) * 3, shift=_FRACTION_BITS)

    def visible(self, pixels: Image) -> Image:
        """The pixels that no mask hides, in a row, of a grey picture of the looked-at part, of any size."""
        if not self._polygons:
            return pixels.reshape(-1)
        if self._open.shape != pixels.shape:
            hidden = np.full_like(pixels, MASK_GREY - 1)
            self.paint(hidden)
            self._open = hidden != MASK_GREY
        return np.asarray(pixels[self._open], dtype=np.uint8)

    def _to_part(self, x: float, y: float) -> tuple[float, float]:
        region = self._region
        return (x - region.x) / region.width, (y - region.y) / region.height

    def _box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, width and height of the region in a picture's pixels; begins at even ones, as chroma does."""
        left, right = _span(self._region.x, self._region.width, width)
        top, bottom = _span(self._region.y, self._region.height, height)
        return left, top, right - left, bottom - top


class _Crop:
    """Cuts one box out of decoded pictures of one size and format, without copying a pixel."""

    def __init__(self, picture: av.VideoFrame, box: tuple[int, int, int, int]) -> None:
        self._shape = _shape(picture)
        left, top, width, height = box
        self._graph = av.filter.Graph()
        source = self._graph.add_buffer(
            width=picture.width, height=picture.height, format=picture.format, time_base=Fraction(1, 1000)
        )
        crop = self._graph.add("crop", f"{width}:{height}:{left}:{top}")
        self._graph.link_nodes(source, crop, self._graph.add("buffersink")).configure()

    def fits(self, picture: av.VideoFrame) -> bool:
        return _shape(picture) == self._shape

    def __call__(self, picture: av.VideoFrame) -> av.VideoFrame:
        self._graph.vpush(picture)
        return self._graph.vpull()


def _shape(picture: av.VideoFrame) -> tuple[int, int, str, int, int]:
    return picture.width, picture.height, picture.format.name, picture.colorspace, picture.color_range


def _span(start: float, length: float, pixels: int) -> tuple[int, int]:
    first = min(round(start * pixels), pixels - 1) // 2 * 2
    return first, min(pixels, max(first + 2, round((start + length) * pixels)))


def _within(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, SENT_LONGEST_SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
