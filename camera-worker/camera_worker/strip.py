"""A contact sheet of the moments around an alarm, the raising one framed."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from camera_worker.history import Moment
from camera_worker.quality import Condition

Image = NDArray[np.uint8]

MOST_PICTURES = 12
_COLUMNS = 4
_CELL_WIDTH, _MOST_CELL_HEIGHT = 480, 480
_MARGIN, _CAPTION_HEIGHT = 8, 32
_PAPER, _INK, _FRAME = (32, 32, 32), (235, 235, 235), (0, 0, 255)  # BGR
_JPEG_QUALITY = 85


def contact_sheet(moments: Sequence[Moment], raising: Moment) -> bytes:
    """A JPEG, at most 1960 pixels wide, of up to twelve moments in their order, evenly spread over time.

    Under each stands its distance from `raising` in seconds, and its anomaly or why it was not scored. `raising` is
    always among them, in a red frame. Raises ValueError when its picture cannot be read.
    """
    chosen = _chosen(moments, raising)
    first = _decode(raising.jpeg)
    if first is None:
        raise ValueError("the raising picture cannot be decoded")
    rows, columns = first.shape[:2]
    reading = cv2.IMREAD_REDUCED_COLOR_2 if columns >= 2 * _CELL_WIDTH else cv2.IMREAD_COLOR
    height = min(_MOST_CELL_HEIGHT, max(1, round(_CELL_WIDTH * rows / columns)))
    across = min(_COLUMNS, len(chosen))
    down = -(-len(chosen) // across)
    pitch = (_CELL_WIDTH + _MARGIN, height + _CAPTION_HEIGHT + _MARGIN)
    sheet = np.full((down * pitch[1] + _MARGIN, across * pitch[0] + _MARGIN, 3), _PAPER, np.uint8)
    for index, moment in enumerate(chosen):
        left, top = _MARGIN + index % across * pitch[0], _MARGIN + index // across * pitch[1]
        picture = first if moment is raising else _decode(moment.jpeg, reading)
        if picture is not None:
            _paste(sheet[top : top + height, left : left + _CELL_WIDTH], picture)
        at = (left + 4, top + height + _CAPTION_HEIGHT - 10)
        cv2.putText(sheet, _caption(moment, raising), at, cv2.FONT_HERSHEY_SIMPLEX, 0.65, _INK, 1, cv2.LINE_AA)
        if moment is raising:
            corner = (left + _CELL_WIDTH + 1, top + height + 1)
            cv2.rectangle(sheet, (left - 2, top - 2), corner, _FRAME, 4)
    encoded, jpeg = cv2.imencode(".jpg", sheet, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
    if not encoded:
        raise ValueError("OpenCV could not encode a JPEG")
    return jpeg.tobytes()


def _chosen(moments: Sequence[Moment], raising: Moment) -> list[Moment]:
    """The raising moment and, of the others, those nearest to even steps between the first and the last."""
    others = [moment for moment in moments if moment.monotonic != raising.monotonic]
    if len(others) >= MOST_PICTURES:
        start, end = others[0].monotonic, others[-1].monotonic
        steps = np.linspace(start, end, MOST_PICTURES - 1)
        times = np.array([moment.monotonic for moment in others])
        others = [others[index] for index in sorted({int(np.abs(times - step).argmin()) for step in steps})]
    return sorted([*others, raising], key=lambda moment: moment.monotonic)


def _caption(moment: Moment, raising: Moment) -> str:
    offset = moment.monotonic - raising.monotonic
    worth = "not scored" if moment.condition is Condition.GOOD else str(moment.condition)
    if moment.anomaly is not None:
        worth = f"anomaly {moment.anomaly:.2f}"
    return f"{offset:+.1f} s  {worth}" if moment is not raising else f"alarm  {worth}"


def _decode(jpeg: bytes, reading: int = cv2.IMREAD_COLOR) -> Image | None:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), reading) if jpeg else None
    return None if image is None else np.asarray(image, dtype=np.uint8)


def _paste(cell: Image, picture: Image) -> None:
    """Puts the picture in the middle of the cell, as large as it fits."""
    rows, columns = picture.shape[:2]
    scale = min(cell.shape[1] / columns, cell.shape[0] / rows)
    width, height = max(1, round(columns * scale)), max(1, round(rows * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    left, top = (cell.shape[1] - width) // 2, (cell.shape[0] - height) // 2
    shrunk = cv2.resize(picture, (width, height), interpolation=interpolation)
    cell[top : top + height, left : left + width] = shrunk
