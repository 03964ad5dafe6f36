"""A running API with models of every role, and what is posted to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

from almenara.vision import images
from tests.support.api import RunningApi, cache_champions, healthy_features, running_api
from tests.support.packages import classifier_candidate, novelty_candidate, vision_candidate

VISION = "/v1/vision/darkness/predict"
VIBRATION = "/v1/vibration/bearing/predict"
POSTED: dict[str, str | float] = {"sampling_rate_hz": 12_000, "shaft_rpm": 1772, "bearing": "6205-2RS"}
RAW = {"content-type": "application/octet-stream"}
JPEG = {"content-type": "image/jpeg"}


def picture(grey: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), grey, dtype=np.uint8)


GOOD_JPEG = images.encode_jpeg(picture(200))
DARK_JPEG = images.encode_jpeg(picture(20))


@contextmanager
def full_service(var_dir: Path) -> Iterator[RunningApi]:
    """The API with small limits and a vision model, a vibration classifier, and baselines of `pump-1` and `mill-2`."""
    pump, mill = (
        novelty_candidate(healthy_features(), each, f"bearing-baseline-{each}") for each in ("pump-1", "mill-2")
    )
    cache_champions(var_dir, [vision_candidate(), classifier_candidate(), pump, mill])
    limits = {"VIBRATION_ON_DELAY_SECONDS": "0.2", "MAX_BODY_BYTES": "1000000", "MAX_SAMPLES": "100000"}
    with running_api(var_dir, {f"ALMENARA_{name}": value for name, value in limits.items()}) as running:
        yield running


def post_picture(api: RunningApi, body: bytes, **parameters: str) -> httpx.Response:
    return api.http.post(VISION, content=body, headers=JPEG, params=parameters)


def post_window(api: RunningApi, signal: np.ndarray, **parameters: str | float) -> httpx.Response:
    return api.http.post(
        VIBRATION, content=signal.astype("<f4").tobytes(), headers=RAW, params={**POSTED, **parameters}
    )


def problem_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an answer, which must be problem+json."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    content = answer.json()
    assert content["status"] == answer.status_code
    assert content["detail"]
    assert content["instance"] == f"urn:almenara:request:{answer.headers['x-request-id']}"
    return answer.status_code, content["type"].removeprefix("urn:almenara:problem:")
