"""Pictures that carry the time at which they were taken, so that whoever receives one can tell its age."""

from __future__ import annotations

import binascii
import time

import cv2
import numpy as np
from numpy.typing import NDArray

_ROWS, _COLUMNS = 2, 28
_TIME_BITS, _CHECK_BITS = 40, 16  # 34 years of milliseconds, CRC-16
_ROW_HEIGHT = 1 / 18  # of the picture
_DARK, _LIGHT = 16, 235
_SURELY_DARK, _SURELY_LIGHT = 96, 160


def write_timecode(picture: NDArray[np.uint8], milliseconds: int) -> None:
    """Draws a time into the top of an RGB picture (height, width, 3): 56 dark and light blocks in two rows.

    The first 40 blocks are the time in binary, the highest bit first, the other 16 its CRC-16 (CCITT).
    """
    time_bytes = milliseconds.to_bytes(_TIME_BITS // 8, "big")
    code = time_bytes + binascii.crc_hqx(time_bytes, 0xFFFF).to_bytes(_CHECK_BITS // 8, "big")
    bits = np.unpackbits(np.frombuffer(code, np.uint8)).reshape(_ROWS, _COLUMNS)
    blocks = np.where(bits, _LIGHT, _DARK).astype(np.uint8)
    height, width = picture.shape[:2]
    band = cv2.resize(blocks, (width, round(_ROWS * _ROW_HEIGHT * height)), interpolation=cv2.INTER_NEAREST)
    picture[: band.shape[0]] = band[:, :, None]


def read_timecode(picture: NDArray[np.uint8]) -> int | None:
    """Milliseconds that `write_timecode` drew into a whole RGB picture, of any size and after compression.

    None when there is no time to be read: a block is neither dark nor light, or the checksum is wrong.
    """
    height, width = picture.shape[:2]
    band = picture[: round(_ROWS * _ROW_HEIGHT * height)]
    if band.shape[0] < 2 * _ROWS or width < 2 * _COLUMNS:
        return None
    green = np.ascontiguousarray(band[:, :, 1])
    fine = cv2.resize(green, (_COLUMNS * 4, _ROWS * 4), interpolation=cv2.INTER_AREA)
    levels = fine.reshape(_ROWS, 4, _COLUMNS, 4)[:, 1:3, :, 1:3].mean(axis=(1, 3)).ravel()
    if np.any((levels > _SURELY_DARK) & (levels < _SURELY_LIGHT)):
        return None
    code = np.packbits(levels >= _SURELY_LIGHT).tobytes()
    time_bytes, check = code[: _TIME_BITS // 8], code[_TIME_BITS // 8 :]
    if binascii.crc_hqx(time_bytes, 0xFFFF) != int.from_bytes(check, "big"):
        return None
    return int.from_bytes(time_bytes, "big")


def now_milliseconds() -> int:
    """The machine's monotonic clock, the same in all its processes."""
    return round(time.monotonic() * 1000)
