"""The latest-frame slot."""

from __future__ import annotations

import numpy as np

from camera_worker.slot import Frame, LatestFrame


def picture(value: int, height: int = 4, width: int = 6) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def value_of(frame: Frame) -> int:
    assert isinstance(frame.picture, np.ndarray)
    return int(frame.picture[0, 0, 0])


def test_newest_picture_overwrites_the_older() -> None:
    slot = LatestFrame()
    generation = slot.new_generation()
    for value in (1, 2, 3):
        assert slot.put(picture(value), generation)
    frame = slot.newest()
    assert frame is not None
    assert value_of(frame) == 3
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
    assert value_of(frame) == 1
    assert frame.generation == new


def test_empty_slot_has_no_frame() -> None:
    assert LatestFrame().newest() is None


def test_a_picture_of_an_earlier_connection_is_gone() -> None:
    slot = LatestFrame()
    slot.put(picture(1), slot.new_generation())
    slot.new_generation()
    assert slot.newest() is None
