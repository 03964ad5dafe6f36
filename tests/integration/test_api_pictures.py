"""The served API over HTTP: verdicts on pictures, heatmaps, and pictures that are refused."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from almenara.contracts import VisionVerdict
from almenara.vision import images
from tests.support.api import RunningApi
from tests.support.posting import DARK_JPEG, GOOD_JPEG, VISION, full_service, picture, post_picture, problem_of


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    with full_service(tmp_path_factory.mktemp("api") / "var") as running:
        yield running


def test_a_dark_picture_is_an_anomaly_and_a_bright_one_is_not(api: RunningApi) -> None:
    dark = VisionVerdict.model_validate_json(post_picture(api, DARK_JPEG).content)
    bright = VisionVerdict.model_validate_json(post_picture(api, GOOD_JPEG).content)
    assert (dark.label, bright.label) == ("anomaly", "normal")
    assert dark.anomaly > 0.5 > bright.anomaly
    assert dark.model.model_dump() == {"name": "darkness", "version": "1", "alias": "champion"}
    assert bright.heatmap is None


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_each_format_is_judged_the_same(api: RunningApi, suffix: str) -> None:
    body = cv2.imencode(suffix, picture(60))[1].tobytes()
    kind = {"content-type": f"image/{suffix[1:].replace('jpg', 'jpeg')}"}
    answer = api.http.post(VISION, content=body, headers=kind)
    assert answer.json()["anomaly"] == pytest.approx(
        post_picture(api, images.encode_jpeg(picture(60))).json()["anomaly"], abs=0.02
    )


def test_a_form_is_judged_like_the_bare_file(api: RunningApi) -> None:
    answer = api.http.post(VISION, files={"file": ("frame.jpg", DARK_JPEG, "image/jpeg")})
    assert answer.json() == post_picture(api, DARK_JPEG).json()


def form(*pictures: bytes) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("file", (f"{number}.jpg", each, "image/jpeg")) for number, each in enumerate(pictures)]


def test_pictures_of_one_form_are_judged_in_their_order_like_single_ones(api: RunningApi) -> None:
    answer = api.http.post(VISION, files=form(DARK_JPEG, GOOD_JPEG, DARK_JPEG))
    assert answer.status_code == 200
    dark, bright = post_picture(api, DARK_JPEG).json(), post_picture(api, GOOD_JPEG).json()
    assert answer.json()["verdicts"] == [dark, bright, dark]


def test_a_broken_picture_among_several_is_named_and_refuses_all(api: RunningApi) -> None:
    answer = api.http.post(VISION, files=form(GOOD_JPEG, DARK_JPEG[:200]))
    assert problem_of(answer)[0] == 400
    assert answer.json()["detail"].startswith("file[1]: ")


def test_more_pictures_than_a_request_may_have_are_refused(api: RunningApi) -> None:
    assert len(api.http.post(VISION, files=form(*[GOOD_JPEG] * 64)).json()["verdicts"]) == 64
    assert problem_of(api.http.post(VISION, files=form(*[GOOD_JPEG] * 65))) == (400, "multipart-invalid")


@pytest.mark.parametrize(("heatmap", "kind"), [("png", "image/png"), ("overlay", "image/jpeg")])
def test_the_heatmap_has_the_pictures_size_and_is_bright_where_it_is_dark(
    api: RunningApi, heatmap: str, kind: str
) -> None:
    half_dark = picture(200)
    half_dark[:, 32:] = 20
    posted = post_picture(api, images.encode_jpeg(half_dark), heatmap=heatmap)
    found = VisionVerdict.model_validate_json(posted.content).heatmap
    assert found is not None
    assert found.media_type == kind
    shown = images.decode(base64.b64decode(found.base64), max_pixels=10_000).astype(float)
    assert shown.shape == (48, 64, 3)
    changed = np.abs(shown - (half_dark if heatmap == "overlay" else 0)).mean(axis=(0, 2))
    assert changed[48:].mean() > 2 * changed[:16].mean()


@pytest.mark.parametrize("heatmap", ["png", "overlay"])
def test_the_heatmap_of_a_large_picture_is_shrunk_and_its_verdict_is_not(api: RunningApi, heatmap: str) -> None:
    body = images.encode_jpeg(picture(20, height=2000, width=4000))
    found = post_picture(api, body, heatmap=heatmap).json()
    shown = images.decode(base64.b64decode(found["heatmap"]["base64"]), max_pixels=10_000_000)
    assert shown.shape == (800, 1600, 3)
    assert found | {"heatmap": None} == post_picture(api, body).json()


def bomb() -> bytes:
    """A well-formed PNG header that promises 10000x10000 pixels, and next to no data."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 100_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


BAD_PICTURES = {
    "empty": (b"", 400, "image-empty"),
    "truncated": (GOOD_JPEG[: len(GOOD_JPEG) // 2], 400, "image-truncated"),
    "text": (b"this is no picture at all", 415, "image-type"),
    "bomb": (bomb(), 413, "image-too-large"),
    "too large": (b"\xff" * 1_000_001, 413, "body-too-large"),
}


@pytest.mark.parametrize("case", BAD_PICTURES)
def test_a_bad_picture_is_a_clear_problem_and_the_next_good_one_is_judged(api: RunningApi, case: str) -> None:
    body, status, code = BAD_PICTURES[case]
    answer = post_picture(api, body)
    assert problem_of(answer) == (status, code)
    assert answer.json()["remedy"]
    assert post_picture(api, GOOD_JPEG).status_code == 200


def test_a_form_without_the_file_is_told_how(api: RunningApi) -> None:
    answer = api.http.post(VISION, files={"image": ("frame.jpg", GOOD_JPEG, "image/jpeg")})
    assert problem_of(answer) == (400, "multipart-invalid")
