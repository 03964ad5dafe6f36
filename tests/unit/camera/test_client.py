"""The API client against a real HTTP server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import cv2
import numpy as np
import pytest

from almenara.contracts import VisionVerdict
from camera_worker.client import (
    ApiAwayError,
    ApiRefusedError,
    CircuitBreaker,
    MalformedVerdictError,
    VisionClient,
)
from tests.support.camera import ScoringApi, scoring_api

T = TypeVar("T")
RED = cv2.imencode(".jpg", np.full((48, 64, 3), (0, 0, 255), np.uint8))[1].tobytes()


@pytest.fixture
def api() -> Iterator[ScoringApi]:
    with scoring_api() as server:
        yield server


def asking(
    api: ScoringApi, work: Callable[[VisionClient], Awaitable[T]], *, key: str | None = None, timeout: float = 2.0
) -> T:
    async def ask() -> T:
        async with VisionClient(api.url, key=key, timeout=timeout) as client:
            return await work(client)

    return asyncio.run(ask())


def predict(api: ScoringApi, *, overlay: bool = False, model: str = "wall", key: str | None = None) -> VisionVerdict:
    return asking(api, lambda client: client.predict(RED, model, overlay=overlay), key=key)


def test_a_picture_gets_its_verdict(api: ScoringApi) -> None:
    verdict = predict(api)
    assert (verdict.label, verdict.anomaly, verdict.model.version) == ("anomaly", 0.9, "3")
    assert verdict.heatmap is None
    assert api.requests == ["none"]


def test_an_overlay_comes_when_asked_for(api: ScoringApi) -> None:
    verdict = predict(api, overlay=True)
    assert verdict.heatmap is not None
    assert api.requests == ["overlay"]


def test_the_key_is_sent(api: ScoringApi) -> None:
    api.key = "let me in"
    assert predict(api, key="let me in").label == "anomaly"
    with pytest.raises(ApiRefusedError, match=r"401.*key is missing"):
        predict(api, key="wrong")


@pytest.mark.parametrize("mode", ["nan", "partial", "garbage"])
def test_what_is_no_verdict_is_malformed(api: ScoringApi, mode: str) -> None:
    api.mode = mode
    with pytest.raises(MalformedVerdictError):
        predict(api)


def test_an_unknown_model_is_a_refusal_with_the_apis_words(api: ScoringApi) -> None:
    with pytest.raises(ApiRefusedError, match="no model of that name"):
        predict(api, model="other")


@pytest.mark.parametrize("mode", ["500", "503", "429"])
def test_an_api_that_cannot_score_now_says_so(api: ScoringApi, mode: str) -> None:
    api.mode = mode
    with pytest.raises(ApiRefusedError, match=rf"cannot score now \({mode}\): As the test wants it"):
        predict(api)


def test_an_api_that_does_not_answer_is_away_in_time(api: ScoringApi) -> None:
    api.mode = "hang"
    with pytest.raises(ApiAwayError, match="no answer in time"):
        asking(api, lambda client: client.predict(RED, "wall"), timeout=0.3)


def test_an_api_that_does_not_listen_is_away(api: ScoringApi) -> None:
    api.stop()
    with pytest.raises(ApiAwayError, match="away"):
        predict(api)


def test_a_dead_api_is_not_asked_at_every_turn_and_is_found_again(api: ScoringApi) -> None:
    async def work(client: VisionClient) -> None:
        client.breaker = CircuitBreaker(failures=3, pause=0.2)
        api.mode = "hang"
        for _ in range(20):
            with pytest.raises(ApiAwayError):
                await client.predict(RED, "wall")
        assert len(api.requests) == 3
        api.mode = "ok"
        await asyncio.sleep(0.25)
        assert (await client.predict(RED, "wall")).label == "anomaly"
        assert not client.breaker.open

    asking(api, work, timeout=0.1)


@pytest.mark.parametrize("mode", ["500", "503", "429", "404", "garbage"])
def test_an_api_that_answers_is_not_dead_whatever_it_answers(api: ScoringApi, mode: str) -> None:
    """The breaker is shared: one camera whose model is refused must not blind the others."""

    async def work(client: VisionClient) -> None:
        api.mode = mode
        for _ in range(5):
            with pytest.raises((ApiRefusedError, MalformedVerdictError)):
                await client.predict(RED, "wall")
        api.mode = "ok"
        assert (await client.predict(RED, "wall")).label == "anomaly"

    asking(api, work)
    assert len(api.requests) == 6


def test_the_open_breaker_lets_one_request_a_pause_through() -> None:
    now = 0.0
    breaker = CircuitBreaker(failures=2, pause=1.0, clock=lambda: now)
    breaker.failed()
    assert breaker.permits()
    breaker.failed()
    assert breaker.open
    assert not breaker.permits()
    now = 1.0
    assert [breaker.permits(), breaker.permits()] == [True, False]
    breaker.succeeded()
    assert breaker.permits()
