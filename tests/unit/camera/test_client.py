"""The API client against a real HTTP server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import cv2
import numpy as np
import pytest
from aiohttp import web

from almenara.contracts import VisionVerdict
from camera_worker.client import (
    ApiAwayError,
    ApiRefusedError,
    CircuitBreaker,
    MalformedVerdictError,
    PictureRefusedError,
    VisionClient,
)
from tests.support.camera import LoopThread, ScoringApi, scoring_api

T = TypeVar("T")
RED = cv2.imencode(".jpg", np.full((48, 64, 3), (0, 0, 255), np.uint8))[1].tobytes()
VERDICT: dict[str, Any] = {
    "model": {"name": "wall", "version": "3"},
    "label": "normal",
    "score": 1.0,
    "anomaly": 0.1,
    "p_value": 0.5,
    "threshold": 5.0,
}


class OddApi:
    """An HTTP server that answers every request as a test wants it, and remembers what it was sent."""

    def __init__(self, answer: Callable[[web.Request], web.Response]) -> None:
        self._answer = answer
        self.requests: list[web.Request] = []
        self.peers: set[object] = set()
        self.url = ""

    async def start(self) -> web.AppRunner:
        application = web.Application(client_max_size=2**20)
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def _handle(self, request: web.Request) -> web.Response:
        await request.read()
        self.requests.append(request)
        self.peers.add(request.transport and request.transport.get_extra_info("peername"))
        return self._answer(request)

    def predict(self, *, url: str = "", key: str | None = None) -> VisionVerdict:
        async def ask() -> VisionVerdict:
            async with VisionClient(url or self.url, key=key, timeout=2) as client:
                try:
                    return await client.predict(RED, "wall")
                finally:
                    assert not client.breaker.open
                    assert client.breaker.failures == 0

        return asyncio.run(ask())


@contextlib.contextmanager
def odd_api(answer: Callable[[web.Request], web.Response]) -> Iterator[OddApi]:
    with LoopThread() as loop:
        api = OddApi(answer)
        runner = loop.run(api.start())
        yield api
        loop.run(runner.cleanup())


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


@pytest.mark.parametrize(("mode", "of_the_picture"), [("400", True), ("413", True), ("422", True), ("403", False)])
def test_a_refusal_of_the_picture_itself_is_told_from_others(api: ScoringApi, mode: str, of_the_picture: bool) -> None:
    api.mode = mode
    with pytest.raises(ApiRefusedError, match=rf"\({mode}\): As the test wants it") as refused:
        predict(api)
    assert isinstance(refused.value, PictureRefusedError) is of_the_picture


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


def test_later_failures_do_not_put_off_the_next_try() -> None:
    now = 0.0
    breaker = CircuitBreaker(failures=1, pause=1.0, clock=lambda: now)
    breaker.failed()
    now = 0.9
    breaker.failed()
    now = 1.0
    assert breaker.permits()


def test_an_api_that_did_not_answer_is_found_again_within_two_seconds(api: ScoringApi) -> None:
    """Though the request that is out when it comes back is never answered, and the time limit is long."""

    async def work(client: VisionClient) -> float:
        await client.predict(RED, "wall")
        api.mode = "hang"
        client.breaker.failed()
        client.breaker.failed()
        client.breaker.failed()
        await asyncio.sleep(client.breaker.pause)
        trial = asyncio.create_task(client.predict(RED, "wall"))
        await asyncio.sleep(0.1)
        api.mode = "ok"
        back_at = time.monotonic()
        with pytest.raises(ApiAwayError):
            await trial
        while True:
            with contextlib.suppress(ApiAwayError):
                await client.predict(RED, "wall")
                return time.monotonic() - back_at
            await asyncio.sleep(0.05)

    assert asking(api, work, timeout=30) < 2


def test_every_eighth_try_has_all_the_time_for_an_api_that_has_become_slow(api: ScoringApi) -> None:
    async def work(client: VisionClient) -> int:
        client.breaker = CircuitBreaker(failures=3, pause=0.0)
        await client.predict(RED, "wall")
        for _ in range(7):
            client.breaker.failed()
        api.delay = 1.3
        for tries in range(1, 4):
            with contextlib.suppress(ApiAwayError):
                await client.predict(RED, "wall")
                return tries
        return 0

    assert asking(api, work, timeout=5) == 2


def test_an_endless_answer_is_malformed_and_the_api_alive() -> None:
    with (
        odd_api(lambda _: web.Response(body=b" " * (17 * 2**20))) as api,
        pytest.raises(MalformedVerdictError, match="over 16 MiB"),
    ):
        api.predict()


def test_the_key_does_not_travel_along_a_redirect() -> None:
    with odd_api(lambda _: web.json_response(VERDICT)) as elsewhere:

        def redirect(_: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": f"{elsewhere.url}/v1/vision/wall/predict"})

        with odd_api(redirect) as api, pytest.raises(ApiRefusedError, match=r"redirects \(307\)"):
            api.predict(key="let me in")
        assert elsewhere.requests == []


def test_a_verdict_of_another_model_is_malformed() -> None:
    verdict = {**VERDICT, "model": {"name": "floor", "version": "1"}}
    with odd_api(lambda _: web.json_response(verdict)) as api, pytest.raises(MalformedVerdictError, match="'floor'"):
        api.predict()


@pytest.mark.parametrize(
    "wrong",
    [
        {"anomaly": 1.5},
        {"anomaly": -0.1},
        {"score": float("inf")},
        {"threshold": float("-inf")},
        {"p_value": 0.0},
        {"anomaly": "high"},
        {"regions": [{"x": 2, "y": 0, "width": 0, "height": 0, "score": 1}]},
        {"label": "x" * 201},
        {"surprise": 1},
    ],
)
def test_what_a_verdict_cannot_say_is_malformed(wrong: dict[str, Any]) -> None:
    body = json.dumps({**VERDICT, **wrong})
    with odd_api(lambda _: web.Response(text=body)) as api, pytest.raises(MalformedVerdictError):
        api.predict()


def test_a_key_that_the_api_repeats_is_not_shown() -> None:
    def refuse(request: web.Request) -> web.Response:
        return web.json_response({"detail": f"{request.headers['X-API-Key']} is no key"}, status=401)

    with odd_api(refuse) as api, pytest.raises(ApiRefusedError) as refused:
        api.predict(key="let-me-in")
    assert "(401): *** is no key" in str(refused.value)
    assert "let-me-in" not in str(refused.value)


def test_credentials_in_the_address_are_used_and_never_shown() -> None:
    with odd_api(lambda _: web.Response(status=302)) as api, pytest.raises(ApiRefusedError) as refused:
        api.predict(url=api.url.replace("//", "//op:hunter2@"))
    assert api.requests[0].headers["Authorization"].startswith("Basic ")
    assert "http://***@127.0.0.1" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_an_api_that_is_away_is_named_without_credentials(api: ScoringApi) -> None:
    async def ask() -> None:
        async with VisionClient("http://op:hunter2@127.0.0.1:1") as client:
            await client.predict(RED, "wall")

    with pytest.raises(ApiAwayError, match=r"http://\*\*\*@127.0.0.1:1 is away") as away:
        asyncio.run(ask())
    assert "hunter2" not in str(away.value)


def test_one_connection_serves_many_requests() -> None:
    with odd_api(lambda _: web.json_response(VERDICT)) as api:

        async def ask() -> None:
            async with VisionClient(api.url) as client:
                for _ in range(5):
                    await client.predict(RED, "wall")

        asyncio.run(ask())
    assert len(api.requests) == 5
    assert len(api.peers) == 1
