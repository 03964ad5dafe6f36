"""From a captured frame to the JPEG that is scored, and what the picture is worth."""

from __future__ import annotations

from dataclasses import dataclass

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

from almenara.vision.images import EXACT_QUALITY
from camera_worker.quality import Condition, QualityJudge, sample
from camera_worker.slot import Frame, Picture
from camera_worker.view import View

Image = NDArray[np.uint8]

_FULL_RANGE = frozenset({"yuvj420p", "yuvj422p", "yuvj444p", "gray"})
_LUMA_FIRST = _FULL_RANGE | {"yuv420p", "yuv422p", "yuv444p", "nv12", "nv21"}  # eight bits each
_BT601 = frozenset({2, Colorspace.ITU601, 6})  # 2: not named; 6: SMPTE 170M, the same matrix
_GREEN = 1


@dataclass(frozen=True)
class Prepared:
    """A picture that is ready to be scored.

    Attributes:
        jpeg: the looked-at part, masked, longest side at most 1024 pixels.
        condition: what the picture is worth.
    """

    jpeg: bytes
    condition: Condition


class Preparer:
    """Prepares one camera's frames in their order, over all its connections: a freeze outlasts them.

    Not safe between threads.

    Args:
        view: the part of the picture that is looked at.
        frozen_after: seconds without change after which a picture counts as frozen; None switches the check off.
    """

    def __init__(self, view: View, *, frozen_after: float | None) -> None:
        self._view = view
        self._converter = VideoReformatter()
        self._judge = QualityJudge(frozen_after=frozen_after)

    def prepare(self, frame: Frame, jpeg_quality: int = EXACT_QUALITY) -> Prepared:
        """The JPEG of a frame and its condition."""
        image, pixels = self._look(frame.picture)
        self._view.paint(image)
        condition = self._judge.judge(image, frame.monotonic, self._view.visible(pixels))
        encoded, jpeg = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, jpeg_quality))
        if not encoded:
            raise RuntimeError("OpenCV could not encode a JPEG")
        return Prepared(jpeg.tobytes(), condition)

    def _look(self, picture: Picture) -> tuple[Image, Image]:
        """The looked-at part, uint8 BGR (height, width, 3), and single pixels of it as the camera sent them."""
        if not isinstance(picture, av.VideoFrame):
            image = self._view.apply(picture)
            return image, sample(image[:, :, _GREEN])
        part = self._view.cut(picture)
        # Shrunk first and converted then: swscale does both at once at three times the cost.
        image = self._convert(self._view.shrink(part))
        return image, _brightness(part) if part.format.name in _LUMA_FIRST else sample(image[:, :, _GREEN])

    def _convert(self, picture: av.VideoFrame) -> Image:
        """A copy in BGR."""
        if _is_plain(picture):
            # As cheap as swscale, which makes every channel a grey level too dark unless it may take ten times as long.
            return np.asarray(cv2.cvtColor(picture.to_ndarray(), cv2.COLOR_YUV2BGR_I420), dtype=np.uint8)
        converted = self._converter.reformat(picture, format="bgr24", threads=1)
        return np.array(converted.to_ndarray(), dtype=np.uint8, copy=True if converted is picture else None)


def _brightness(part: av.VideoFrame) -> Image:
    """Single pixels of the luma plane, 0 black to 255 white."""
    plane = part.planes[0]
    luma = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: part.height, : part.width]
    pixels = sample(luma)
    if not _is_studio_range(part):
        return pixels
    return np.asarray(cv2.convertScaleAbs(pixels, alpha=255 / 219, beta=-16 * 255 / 219), dtype=np.uint8)


def _is_plain(picture: av.VideoFrame) -> bool:
    """Whether it is coded in the one way that OpenCV reads: 4:2:0 after BT.601, which unnamed colours are taken for."""
    even = picture.width % 2 == picture.height % 2 == 0
    return picture.format.name == "yuv420p" and picture.colorspace in _BT601 and _is_studio_range(picture) and even


def _is_studio_range(picture: av.VideoFrame) -> bool:
    """Whether its luma goes from 16 to 235, as video's does unless it says otherwise."""
    return picture.color_range != ColorRange.JPEG and picture.format.name not in _FULL_RANGE
