"""JPEGs decoded at reduced scale: never too small, turned and coloured like the whole picture, and nothing else."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from almenara.contracts import ImageInput
from almenara.errors import InputError
from almenara.vision import images
from almenara.vision.containers import Header

LIMIT = 10_000_000


def slopes(height: int, width: int) -> NDArray[np.uint8]:
    """A smooth colour picture with no two corners alike."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [x / width * 250, y / height * 250, 200 - x / width * 150]
    return np.stack(channels, axis=-1).astype(np.uint8)


def saved(picture: NDArray[np.uint8], kind: str = "JPEG", mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(file, kind, **options)
    return file.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 500),
    width=st.integers(1, 500),
    enough=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    orientation=st.integers(1, 8),
    mode=st.sampled_from(["RGB", "L", "CMYK"]),
    progressive=st.booleans(),
    subsampling=st.sampled_from([0, 1, 2]),
)
def test_what_is_enough_is_there_and_not_much_more(
    height: int,
    width: int,
    enough: tuple[int, int],
    orientation: int,
    mode: str,
    progressive: bool,
    subsampling: int,
) -> None:
    body = saved(
        slopes(height, width),
        mode=mode,
        quality=95,
        exif=turned(orientation),
        progressive=progressive,
        subsampling=subsampling,
    )
    whole = images.decode(body, max_pixels=LIMIT)
    found = images.decode(body, max_pixels=LIMIT, enough=enough)
    by = images.reduction(Header("JPEG", width, height), enough)
    assert found.dtype == np.uint8
    assert found.shape == (-(-whole.shape[0] // by), -(-whole.shape[1] // by), 3)
    if by == 1:
        assert np.array_equal(found, whole)
    else:
        assert min(found.shape[:2]) >= max(enough)
    if by < 8:
        assert min(-(-side // (2 * by)) for side in whole.shape[:2]) < max(enough)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("enough", [200, 100, 50])
def test_it_shows_what_the_whole_picture_shows(mode: str, orientation: int, enough: int) -> None:
    body = saved(slopes(400, 640), mode=mode, quality=95, exif=turned(orientation))
    whole = images.decode(body, max_pixels=LIMIT)
    found = images.decode(body, max_pixels=LIMIT, enough=(enough, enough))
    assert min(found.shape[:2]) == enough
    shrunk = cv2.resize(whole, found.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(found.astype(int) - shrunk).max() <= 6


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_other_formats_come_whole(kind: str) -> None:
    body = saved(slopes(400, 640), kind)
    found = images.decode(body, max_pixels=LIMIT, enough=(20, 20))
    assert np.array_equal(found, images.decode(body, max_pixels=LIMIT))


def codes(body: bytes, max_pixels: int = LIMIT) -> tuple[str, str]:
    """Of the errors that decoding raises, whole and reduced."""
    found = []
    for enough in (None, (20, 20)):
        with pytest.raises(InputError) as raised:
            images.decode(body, max_pixels=max_pixels, enough=enough)
        found.append(raised.value.code)
    return found[0], found[1]


def test_bad_files_are_refused_as_before() -> None:
    body = saved(slopes(400, 640))
    small, hidden = saved(slopes(40, 40)), saved(slopes(400, 400))
    assert codes(b"") == ("image-empty",) * 2
    assert codes(b"hello") == ("image-type",) * 2
    assert codes(body[: len(body) // 2]) == ("image-truncated",) * 2
    assert codes(b"\xff\xd8\xff\xd9") == ("image-corrupt",) * 2
    assert codes(small[:2] + b"\xff\x01" + len(hidden).to_bytes(2, "big") + hidden[2:]) == ("image-corrupt",) * 2


def test_the_limit_is_on_the_files_own_size() -> None:
    body = saved(slopes(400, 640))
    assert codes(body, max_pixels=400 * 640 - 1) == ("image-too-large",) * 2
    assert images.decode(body, max_pixels=400 * 640, enough=(50, 50)).shape == (50, 80, 3)


@pytest.mark.parametrize("size", [64, 128])
def test_a_reduced_picture_prepares_to_nearly_the_same(size: int) -> None:
    rng = np.random.default_rng(3)
    grain = cv2.GaussianBlur(rng.normal(0, 60, (720, 1280, 3)), (0, 0), 3) + slopes(720, 1280)
    body = saved(np.clip(grain, 0, 255).astype(np.uint8), quality=90)
    spec = ImageInput(height=size, width=size)
    whole = images.decode(body, max_pixels=LIMIT)
    reduced = images.decode(body, max_pixels=LIMIT, enough=images.enough_for(spec))
    assert reduced.shape[0] in (360, 180)
    change = np.abs(images.prepare(reduced, spec).astype(int) - images.prepare(whole, spec))
    assert change.mean() < 1
    assert change.max() <= 8


def test_the_worker_sends_no_side_above_1024() -> None:
    sent = images.decode(images.as_sent(slopes(1080, 1920)), max_pixels=LIMIT)
    assert sent.shape == (576, 1024, 3)
    assert images.decode(images.as_sent(slopes(300, 200)), max_pixels=LIMIT).shape == (300, 200, 3)
