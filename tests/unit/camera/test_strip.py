"""The strip of pictures around an alarm: which are shown, in which order, the raising one framed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from camera_worker.history import Moment
from camera_worker.quality import Condition
from camera_worker.strip import MOST_PICTURES, contact_sheet

MOMENT = datetime(2026, 3, 4, 5, 6, 7, 890000, tzinfo=UTC)
CELL = (480, 360)  # of a picture of 640x480, pixels


def jpeg(grey: int, size: tuple[int, int] = (640, 480)) -> bytes:
    return cv2.imencode(".jpg", np.full((size[1], size[0], 3), grey, np.uint8))[1].tobytes()


def moment(at: float, grey: int = 100, *, condition: Condition = Condition.GOOD, anomaly: float | None = 0.1) -> Moment:
    return Moment(at, MOMENT + timedelta(seconds=at), jpeg(grey), condition, anomaly)


def drawn(sheet: bytes) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(sheet, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(image, dtype=np.uint8)


def cells(sheet: bytes, count: int) -> list[NDArray[np.uint8]]:
    """The pictures of a sheet of such 4:3 pictures, in their order."""
    image = drawn(sheet)
    across = min(4, count)
    found = []
    for index in range(count):
        left = 8 + index % across * (CELL[0] + 8)
        top = 8 + index // across * (CELL[1] + 32 + 8)
        found.append(image[top : top + CELL[1], left : left + CELL[0]])
    return found


def framed(sheet: bytes) -> int:
    """How many pixels are of the frame's red."""
    blue, green, red = (drawn(sheet)[:, :, channel].astype(int) for channel in range(3))
    return int(((red > 180) & (blue < 90) & (green < 90)).sum())


def test_a_strip_shows_the_moments_in_their_order_and_frames_the_raising_one() -> None:
    raising = moment(10, 200, anomaly=0.9)
    sheet = contact_sheet([moment(9, 40), raising, moment(11, 120)], raising)
    brightness = [float(np.median(cell)) for cell in cells(sheet, 3)]
    assert brightness == pytest.approx([40, 200, 120], abs=6)
    assert framed(sheet) > 2000


def test_the_raising_moment_is_shown_though_the_history_has_thinned_it_out() -> None:
    raising = moment(10, 200)
    sheet = contact_sheet([moment(9, 40), moment(11, 120)], raising)
    brightness = [float(np.median(cell)) for cell in cells(sheet, 3)]
    assert brightness == pytest.approx([40, 200, 120], abs=6)


def test_of_many_moments_twelve_are_shown_evenly_spread() -> None:
    raising = moment(24, 250)
    sheet = contact_sheet([moment(at, 20 + at * 4) for at in range(48)], raising)
    assert drawn(sheet).shape == (3 * (CELL[1] + 40) + 8, 4 * (CELL[0] + 8) + 8, 3)
    assert drawn(sheet).shape[1] <= 2000
    shown = [float(np.median(cell)) for cell in cells(sheet, MOST_PICTURES)]
    assert sum(grey > 240 for grey in shown) == 1
    assert shown[0] == pytest.approx(20, abs=6)
    assert shown[-1] == pytest.approx(20 + 47 * 4, abs=6)


def test_pictures_of_another_shape_are_fitted_in() -> None:
    raising = moment(1)
    odd = [
        Moment(0, MOMENT, jpeg(200, size), Condition.GOOD) for size in ((64, 1024), (1024, 64), (16, 16), (320, 240))
    ]
    for other in odd:
        assert len(cells(contact_sheet([other], raising), 2)) == 2


def test_a_moment_that_cannot_be_read_is_left_empty() -> None:
    raising = moment(1, 200)
    sheet = contact_sheet(
        [Moment(0, MOMENT, b"no picture", Condition.GOOD), Moment(0.5, MOMENT, b"", Condition.GOOD)], raising
    )
    assert [float(np.median(cell)) for cell in cells(sheet, 3)] == pytest.approx([32, 32, 200], abs=6)


def test_a_raising_picture_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(ValueError, match="cannot be decoded"):
        contact_sheet([], Moment(0, MOMENT, b"no picture", Condition.GOOD))
