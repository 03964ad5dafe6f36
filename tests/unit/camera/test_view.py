"""Region of interest and mask."""

from __future__ import annotations

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from camera_worker.config import RegionConfig
from camera_worker.view import MASK_GREY, View

RIGHT_HALF = RegionConfig(x=0.5, y=0.0, width=0.5, height=1.0)
MIDDLE = RegionConfig(x=0.25, y=0.25, width=0.5, height=0.5)
UPPER_LEFT_QUARTER = ((0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (0.0, 0.5))


def gradient(width: int, height: int) -> NDArray[np.uint8]:
    """RGB: red grows to the right, green downwards."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, :, 0] = np.linspace(0, 255, width).astype(np.uint8)
    image[:, :, 1] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    return image


def decoded(image: NDArray[np.uint8], pixel_format: str) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixel_format)


def test_without_region_and_mask_a_small_picture_stays_as_it_is() -> None:
    image = gradient(321, 243)
    assert np.array_equal(View().apply(image), image)


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(1920, 1080, (1024, 576)), (1080, 1920, (576, 1024)), (2047, 3, (1024, 2)), (1024, 1024, (1024, 1024))],
)
def test_longest_side_is_1024_and_the_aspect_is_kept(width: int, height: int, expected: tuple[int, int]) -> None:
    view = View()
    assert view.apply(gradient(width, height)).shape == (expected[1], expected[0], 3)
    part = view.shrink(view.cut(av.VideoFrame(width, height, "yuv420p")))
    assert (part.width, part.height) == expected


def test_region_is_cut_out_of_an_array() -> None:
    image = gradient(400, 200)
    assert np.array_equal(View(MIDDLE).apply(image), image[50:150, 100:300])


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "yuv422p", "nv12", "gray", "rgb24", "yuv420p10le"])
def test_region_is_cut_out_of_a_decoded_picture_without_changing_a_pixel(pixel_format: str) -> None:
    picture = decoded(gradient(400, 200), pixel_format)
    part = View(MIDDLE).cut(picture)
    whole = picture.to_ndarray(format="gray")
    assert (part.width, part.height, part.format.name) == (200, 100, pixel_format)
    difference = np.abs(part.to_ndarray(format="gray").astype(int) - whole[50:150, 100:300])
    assert difference.max() <= (1 if pixel_format.endswith("10le") else 0)  # ten bits are dithered


def test_a_new_size_of_the_camera_is_followed() -> None:
    view = View(RIGHT_HALF)
    sizes = [(400, 200), (640, 360), (400, 200)]
    parts = [view.cut(decoded(gradient(*size), "yuv420p")) for size in sizes]
    assert [(part.width, part.height) for part in parts] == [(200, 200), (320, 360), (200, 200)]


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (5, 7)])
def test_the_tiniest_region_of_the_tiniest_picture_has_a_pixel(size: tuple[int, int]) -> None:
    view = View(RegionConfig(x=0.99, y=0.99, width=0.01, height=0.01))
    part = view.apply(gradient(*size))
    assert min(part.shape) >= 1
    cut = view.cut(av.VideoFrame(*size, "yuv444p"))
    assert (cut.height, cut.width) == part.shape[:2]


def test_mask_is_one_grey_whatever_lies_below_and_nothing_else_is_touched() -> None:
    view, image = View(mask=(UPPER_LEFT_QUARTER,)), gradient(400, 200)
    masked = view.apply(image)
    assert set(masked[:99, :199].ravel().tolist()) == {MASK_GREY}
    assert np.array_equal(masked[102:], image[102:])
    assert np.array_equal(masked[:, 202:], image[:, 202:])


def test_the_picture_that_is_masked_stays_as_it_was() -> None:
    image = gradient(400, 200)
    View(mask=(UPPER_LEFT_QUARTER,)).apply(image)
    assert np.array_equal(image, gradient(400, 200))


def test_mask_is_relative_to_the_whole_picture_also_when_a_region_is_cut_out() -> None:
    masked = View(MIDDLE, mask=(UPPER_LEFT_QUARTER,)).apply(gradient(400, 200))
    grey = (masked == MASK_GREY).all(axis=2)
    assert grey[:49, :99].all()
    assert not grey[52:].any()
    assert not grey[:, 102:].any()


def test_a_mask_outside_of_the_region_changes_nothing() -> None:
    image, edge = gradient(400, 200), 2
    masked = View(RIGHT_HALF, mask=(UPPER_LEFT_QUARTER,)).apply(image)
    assert np.array_equal(masked[:, edge:], image[:, 200 + edge :])


def test_channels_keep_their_order() -> None:
    view, image = View(MIDDLE, mask=(UPPER_LEFT_QUARTER,)), gradient(2000, 1000)
    assert np.array_equal(view.apply(image)[:, :, ::-1], view.apply(np.ascontiguousarray(image[:, :, ::-1])))


@pytest.mark.parametrize(
    ("region", "point", "whole"),
    [
        (None, (0.3, 0.7), (0.3, 0.7)),
        (RIGHT_HALF, (0.0, 0.5), (0.5, 0.5)),
        (MIDDLE, (0.5, 1.0), (0.5, 0.75)),
    ],
)
def test_points_are_led_back_to_the_whole_picture(
    region: RegionConfig | None, point: tuple[float, float], whole: tuple[float, float]
) -> None:
    assert View(region).to_whole(*point) == pytest.approx(whole)
