"""The latest-frame slot."""

from __future__ import annotations

import av
import numpy as np
import pytest

from camera_worker.slot import LatestFrame


def picture(value: int, height: int = 4, width: int = 6) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_newest_picture_overwrites_the_older() -> None:
    slot = LatestFrame()
    generation = slot.new_generation()
    for value in (1, 2, 3):
        assert slot.put(picture(value), generation)
    frame = slot.newest()
    assert frame is not None
    assert frame.rgb(1024)[0, 0, 0] == 3
    assert frame.sequence == 3


def test_a_frame_is_new_only_once() -> None:
    slot = LatestFrame()
    slot.put(picture(1), slot.new_generation())
    frame = slot.newest()
    assert frame is not None
    assert slot.newest(after=frame.sequence) is None


def test_an_earlier_connection_cannot_put_any_more() -> None:
    slot = LatestFrame()
    old = slot.new_generation()
    new = slot.new_generation()
    assert slot.put(picture(1), new)
    assert not slot.put(picture(9), old)
    frame = slot.newest()
    assert frame is not None
    assert frame.rgb(1024)[0, 0, 0] == 1
    assert frame.generation == new


def test_empty_slot_has_no_frame() -> None:
    assert LatestFrame().newest() is None


@pytest.mark.parametrize("decoded", [False, True])
def test_rgb_shrinks_to_the_longest_side_and_keeps_colours_and_aspect(decoded: bool) -> None:
    image = np.zeros((600, 1200, 3), np.uint8)
    image[:, :, 0] = 200
    slot = LatestFrame()
    slot.put(av.VideoFrame.from_ndarray(image, format="rgb24") if decoded else image, slot.new_generation())
    frame = slot.newest()
    assert frame is not None
    rgb = frame.rgb(1024)
    assert rgb.shape == (512, 1024, 3)
    assert rgb.dtype == np.uint8
    assert rgb[256, 512].tolist() == [200, 0, 0]


def test_rgb_never_enlarges() -> None:
    slot = LatestFrame()
    slot.put(picture(7), slot.new_generation())
    frame = slot.newest()
    assert frame is not None
    assert frame.rgb(1024).shape == (4, 6, 3)
