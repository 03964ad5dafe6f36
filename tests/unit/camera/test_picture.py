"""From a frame to the JPEG that is scored."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from camera_worker.config import RegionConfig
from camera_worker.picture import Prepared, Preparer
from camera_worker.quality import Condition
from camera_worker.slot import Frame, Picture
from camera_worker.view import MASK_GREY, View
from tests.support.camera import Scene

COLOURS = [
    (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255),
    (255, 0, 255), (128, 128, 128), (255, 255, 255), (0, 0, 0), (40, 90, 160),
]  # fmt: skip
PLANAR = ["yuv420p", "yuv422p", "yuv444p", "nv12", "yuvj420p", "yuvj422p", "yuv420p10le"]
LEFT_HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
WHOLE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
MOST = ((0.0, 0.0), (1.0, 0.0), (1.0, 0.9), (0.0, 0.9))


def chart(width: int = 320, height: int = 180) -> NDArray[np.uint8]:
    stripes = np.array([COLOURS], np.uint8)
    return np.asarray(cv2.resize(stripes, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def bgr(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As webcams give it."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8)


def prepare(picture: Picture, view: View | None = None, at: float = 0.0) -> Prepared:
    return Preparer(view or View(), frozen_after=8.0).prepare(frame(picture, at))


def frame(picture: Picture, at: float) -> Frame:
    return Frame(picture, at, datetime.now(UTC), 1, 1)


def opened(prepared: Prepared) -> NDArray[np.uint8]:
    return np.asarray(cv2.imdecode(np.frombuffer(prepared.jpeg, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)


def stripes(image: NDArray[np.uint8]) -> NDArray[np.int_]:
    columns = (np.arange(len(COLOURS)) + 0.5) * image.shape[1] / len(COLOURS)
    return np.asarray(image[image.shape[0] // 2, columns.astype(int)], dtype=np.int_)


@pytest.mark.parametrize("luma", [40, 97, 126, 200])
def test_the_usual_picture_of_a_camera_is_as_bright_as_it_was_sent(luma: int) -> None:
    sent = np.full((540, 640), 128, np.uint8)  # planes of 640 x 360: brightness, then two without colour
    sent[:360] = luma
    picture = prepare(av.VideoFrame.from_ndarray(sent, format="yuv420p"))
    assert opened(picture).astype(float).mean(axis=(0, 1)) == pytest.approx([(luma - 16) * 255 / 219] * 3, abs=0.6)


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("limited", [True, False])
@pytest.mark.parametrize("colorspace", [Colorspace.ITU601, Colorspace.ITU709])
@pytest.mark.parametrize("pixel_format", PLANAR)
def test_colours_are_right_whatever_the_camera_codes_them_in(
    pixel_format: str, colorspace: Colorspace, limited: bool, width: int
) -> None:
    color_range = ColorRange.MPEG if limited else ColorRange.JPEG
    coded = av.VideoFrame.from_ndarray(chart(width, width * 9 // 16), format="rgb24").reformat(
        format=pixel_format, dst_colorspace=colorspace, dst_color_range=color_range
    )
    assert np.abs(stripes(opened(prepare(coded))) - COLOURS).max() <= 6


@pytest.mark.parametrize("pixel_format", ["rgb24", "bgr24", "gbrp"])
def test_colours_of_a_snapshot_without_chroma_planes_are_right(pixel_format: str) -> None:
    coded = av.VideoFrame.from_ndarray(chart(), format="rgb24").reformat(format=pixel_format)
    assert np.abs(stripes(opened(prepare(coded))) - COLOURS).max() <= 6


def test_colours_of_a_webcam_are_right() -> None:
    assert np.abs(stripes(opened(prepare(bgr(chart())))) - COLOURS).max() <= 6


def test_a_grey_camera_stays_grey() -> None:
    grey = np.tile(np.linspace(0, 255, 320).astype(np.uint8), (180, 1))
    image = opened(prepare(av.VideoFrame.from_ndarray(grey, format="gray"))).astype(int)
    assert np.abs(image - grey[:, :, None]).max() <= 4


@pytest.mark.parametrize("size", [(1, 1), (37, 23), (641, 361), (1921, 1081)])
def test_odd_sizes_are_prepared(size: tuple[int, int]) -> None:
    image = opened(prepare(av.VideoFrame.from_ndarray(chart(*size), format="rgb24").reformat(format="yuv420p")))
    scale = min(1, 1024 / max(size))
    assert image.shape == (max(1, round(size[1] * scale)), max(1, round(size[0] * scale)), 3)


def test_pixels_that_are_not_square_are_taken_for_square() -> None:
    graph = av.filter.Graph()
    wide = av.VideoFrame.from_ndarray(chart(), format="rgb24").reformat(format="yuv420p")
    source = graph.add_buffer(width=wide.width, height=wide.height, format=wide.format, time_base=Fraction(1, 15))
    graph.link_nodes(source, graph.add("setsar", "2"), graph.add("buffersink")).configure()
    graph.vpush(wide)
    assert opened(prepare(graph.vpull())).shape == (180, 320, 3)


def test_shrinking_is_faithful_to_area_averaging() -> None:
    scene = Scene(1280, 720, noise=0.0)(1.0)
    picture = av.VideoFrame.from_ndarray(scene, format="rgb24").reformat(format="yuv420p")
    averaged = cv2.resize(scene, (1024, 576), interpolation=cv2.INTER_AREA).astype(float)
    assert 10 * np.log10(255**2 / np.mean((opened(prepare(picture)) - averaged) ** 2)) > 33


@pytest.mark.parametrize("decoded", [True, False])
def test_only_the_region_is_sent_and_the_mask_hides_its_part(decoded: bool) -> None:
    image = chart(400, 200)
    view = View(RegionConfig(x=0.25, y=0.0, width=0.75, height=1.0), mask=(LEFT_HALF,))
    picture = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p") if decoded else bgr(image)
    sent = opened(prepare(picture, view)).astype(int)
    assert sent.shape == (200, 300, 3)
    assert np.abs(sent[:, :88] - MASK_GREY).max() <= 2
    assert np.abs(sent[100, 220] - image[100, 320]).max() <= 8


def test_the_frame_itself_is_never_painted_on() -> None:
    picture = av.VideoFrame.from_ndarray(chart(), format="rgb24").reformat(format="bgr24")
    before = picture.to_ndarray().copy()
    prepare(picture, View(mask=(LEFT_HALF,)))
    assert np.array_equal(picture.to_ndarray(), before)


@pytest.mark.parametrize("color_range", [ColorRange.MPEG, ColorRange.JPEG])
@pytest.mark.parametrize(("level", "condition"), [(24, Condition.BLACK), (40, Condition.GOOD)])
def test_black_means_the_same_in_limited_and_full_range(
    level: int, condition: Condition, color_range: ColorRange
) -> None:
    dark = av.VideoFrame.from_ndarray(np.full((180, 320, 3), level, np.uint8), format="rgb24")
    assert prepare(dark.reformat(format="yuv420p", dst_color_range=color_range)).condition is condition


def test_a_ticking_clock_keeps_a_frozen_picture_live_until_it_is_masked() -> None:
    def picture(t: int) -> NDArray[np.uint8]:
        image = Scene(noise=0.0)(0.0)
        image[:40, :100] = (t * 67) % 256
        return image

    clock = ((0.0, 0.0), (0.35, 0.0), (0.35, 0.2), (0.0, 0.2))
    conditions = {}
    for name, view in {"open": View(), "masked": View(mask=(clock,))}.items():
        preparer = Preparer(view, frozen_after=8.0)
        conditions[name] = [preparer.prepare(frame(picture(t), t)).condition for t in range(10)][-1]
    assert conditions == {"open": Condition.GOOD, "masked": Condition.FROZEN}


@pytest.mark.parametrize("decoded", [True, False])
def test_a_black_picture_is_black_under_a_mask_too(decoded: bool) -> None:
    dark = np.full((180, 320, 3), 4, np.uint8)
    picture = av.VideoFrame.from_ndarray(dark, format="rgb24").reformat(format="yuv420p") if decoded else dark
    for mask in ((), (LEFT_HALF,), (LEFT_HALF, WHOLE)):
        assert prepare(picture, View(mask=mask)).condition is Condition.BLACK


def test_a_noisy_scene_is_not_frozen_by_a_mask_over_most_of_it() -> None:
    random = np.random.default_rng(0)
    scene = np.repeat(np.repeat(random.integers(60, 190, (45, 80, 1)), 4, 0), 4, 1)
    preparer = Preparer(View(mask=(MOST,)), frozen_after=8.0)
    noisy = [np.asarray(scene + random.normal(0, 2, (180, 320, 3)), dtype=np.uint8) for _ in range(20)]
    conditions = {preparer.prepare(frame(image, t)).condition for t, image in enumerate(noisy)}
    assert conditions == {Condition.GOOD}


def test_a_freeze_outlasts_reconnections() -> None:
    preparer, image = Preparer(View(), frozen_after=2.0), Scene()(0)
    frames = [Frame(image, at, datetime.now(UTC), generation, 1) for generation, at in enumerate((0.0, 1.5, 3.0), 1)]
    assert [preparer.prepare(each).condition for each in frames] == [Condition.GOOD, Condition.GOOD, Condition.FROZEN]
