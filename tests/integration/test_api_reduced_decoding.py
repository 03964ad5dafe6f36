"""A served model whose card allows reduced decoding and encoding again, and one whose card does not."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from almenara.contracts import Candidate, Shortcut
from almenara.vision import images
from camera_worker.client import VisionClient
from tests.support.api import RunningApi, cache_champions, running_api
from tests.support.packages import vision_candidate

YES = Shortcut(allowed=True, pictures=40, p50=0.001, p99=0.002, reason="drawn")


def cheaply_judged(name: str) -> Candidate:
    made = vision_candidate(name)
    spec = made.card.input.model_copy(update={"reduced_decoding": YES, "reencoding": YES})
    return Candidate(made.card.model_copy(update={"input": spec}), made.graph, made.probes, made.reference, made.scales)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    var = tmp_path_factory.mktemp("api") / "var"
    cache_champions(var, [cheaply_judged("cheap"), vision_candidate("strict")])
    with running_api(var, {}) as running:
        yield running


@pytest.fixture(scope="module")
def large() -> bytes:
    """Dark on the right, 1200x800 pixels."""
    picture = np.full((800, 1200, 3), 190, np.uint8)
    picture[:, 700:] = 25
    return images.encode_jpeg(picture)


def judged(api: RunningApi, model: str, body: bytes, heatmap: str = "none") -> dict[str, Any]:
    answer = api.http.post(
        f"/v1/vision/{model}/predict",
        content=body,
        headers={"content-type": "image/jpeg"},
        params={"heatmap": heatmap},
    )
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def regions(verdict: dict[str, Any]) -> list[dict[str, float]]:
    return list(verdict["regions"])


def test_the_verdict_does_not_depend_on_the_heatmap(api: RunningApi, large: bytes) -> None:
    plain = judged(api, "cheap", large)
    for heatmap in ("png", "overlay"):
        assert judged(api, "cheap", large, heatmap) | {"heatmap": None} == plain


def test_both_models_see_the_same_in_the_same_place(api: RunningApi, large: bytes) -> None:
    cheap, strict = judged(api, "cheap", large), judged(api, "strict", large)
    assert cheap["label"] == strict["label"] == "anomaly"
    assert cheap["score"] == pytest.approx(strict["score"], rel=0.01)
    (found,), (expected,) = regions(cheap), regions(strict)
    for side in ("x", "y", "width", "height"):
        assert found[side] == pytest.approx(expected[side], abs=1e-9)


@pytest.mark.parametrize("heatmap", ["png", "overlay"])
def test_the_heatmap_has_the_whole_pictures_size(api: RunningApi, large: bytes, heatmap: str) -> None:
    file = judged(api, "cheap", large, heatmap)["heatmap"]
    shown = images.decode(base64.b64decode(file["base64"]), max_pixels=2_000_000)
    assert shown.shape == (800, 1200, 3)


def test_models_tell_what_was_measured(api: RunningApi) -> None:
    rows = {row["name"]: row for row in api.http.get("/v1/models").json()["models"]}
    assert rows["cheap"]["reduced_decoding"] == rows["cheap"]["reencoding"] == YES.model_dump()
    assert rows["strict"]["reduced_decoding"] is rows["strict"]["reencoding"] is None


def test_the_worker_learns_from_the_first_answer_at_which_quality_to_encode(api: RunningApi, large: bytes) -> None:
    async def ask() -> list[tuple[int, int]]:
        found = []
        async with VisionClient(str(api.http.base_url), timeout=30) as client:
            for model in ("cheap", "strict"):
                before = client.jpeg_quality(model)
                await client.predict(large, model)
                found.append((before, client.jpeg_quality(model)))
        return found

    assert asyncio.run(ask()) == [(100, 95), (100, 100)]
