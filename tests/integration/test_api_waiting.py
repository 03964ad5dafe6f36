"""While every inference thread is busy: deadlines that clients set, clients that leave, stacks that form."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import uvicorn

from almenara.settings import Settings
from almenara_api.__main__ import listen
from almenara_api.app import create_app
from almenara_api.inference import Costs
from almenara_api.services import Services
from tests.support.api import NOWHERE, cache_champions, healthy_signal, wait_until
from tests.support.packages import classifier_candidate

PATH = "/v1/vibration/bearing/predict?sampling_rate_hz=12000&shaft_rpm=1772&bearing=6205-2RS"
RAW = {"Content-Type": "application/octet-stream"}
BODY = healthy_signal(0, 2048).tobytes()


class BlockedApi:
    """The API in a thread, and a switch that keeps its inference threads busy."""

    def __init__(self, address: tuple[str, int], services: Services, loop: asyncio.AbstractEventLoop) -> None:
        self.address, self.services, self._loop = address, services, loop
        self.http = httpx.Client(base_url=f"http://{address[0]}:{address[1]}", timeout=30)

    def value(self, name: str, **labels: str) -> float:
        return self.services.metrics.registry.get_sample_value(f"almenara_{name}", labels) or 0.0

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """Every thread is busy until the block ends, and of no kind of window it is known that it is quick."""
        self.services.pool._costs = Costs()
        gate, threads = threading.Event(), self.services.pool.workers
        begun = threading.Barrier(threads + 1)

        def hold() -> None:
            begun.wait(30)
            gate.wait(30)

        jobs = [
            asyncio.run_coroutine_threadsafe(self.services.pool.run("vision", hold), self._loop) for _ in range(threads)
        ]
        begun.wait(30)
        try:
            yield
        finally:
            gate.set()
            for job in jobs:
                job.result(30)

    def waits(self, number: int) -> Callable[[], bool]:
        """Whether so many requests wait besides the jobs that block."""
        return lambda: self.value("inference_in_flight") == self.services.pool.workers + number


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlockedApi]:
    var = tmp_path_factory.mktemp("var")
    cache_champions(var, [classifier_candidate()])
    app = create_app(Settings(var_dir=var, mlflow_tracking_uri=NOWHERE))
    with listen("127.0.0.1", 0) as listener:
        address = listener.getsockname()[:2]
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
        loops: list[asyncio.AbstractEventLoop] = []

        async def serve() -> None:
            loops.append(asyncio.get_running_loop())
            await server.serve([listener])

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        wait_until(lambda: server.started, 60)
        started = BlockedApi(address, app.state.services, loops[0])
        wait_until(lambda: started.http.get("/health/ready").status_code == 200, 60)
        yield started
        started.http.close()
        server.should_exit = True
        thread.join(30)


def test_a_deadline_ends_a_request_that_waits_and_it_is_never_judged(api: BlockedApi) -> None:
    judged = api.value("stage_seconds_count", task="vibration", stage="inference")
    with api.blocked():
        begun = time.monotonic()
        late = api.http.post(PATH, content=BODY, headers=RAW | {"X-Request-Timeout": "0.2"})
        assert time.monotonic() - begun < 8  # it did not wait for the service's own ten seconds
        wait_until(api.waits(0), 10)
    assert (late.status_code, late.headers["retry-after"]) == (503, "1")
    assert late.json()["type"].endswith(":inference-timeout")
    assert api.http.post(PATH, content=BODY, headers=RAW | {"X-Request-Timeout": "9"}).status_code == 200
    assert api.value("stage_seconds_count", task="vibration", stage="inference") == judged + 1


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("soon", "parameters-invalid"),
        ("0", "parameters-invalid"),
        ("-1", "parameters-invalid"),
        ("nan", "parameters-invalid"),
        ("11", "request-timeout-invalid"),
        ("inf", "request-timeout-invalid"),
    ],
)
def test_a_deadline_that_cannot_be_kept_is_refused(api: BlockedApi, given: str, code: str) -> None:
    refused = api.http.post(PATH, content=BODY, headers=RAW | {"X-Request-Timeout": given})
    assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (422, code)


def test_a_request_whose_client_leaves_is_dropped_unjudged_and_logged_as_499(
    api: BlockedApi, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "almenara_api.requests")
    judged = api.value("stage_seconds_count", task="vibration", stage="inference")
    head = f"POST {PATH} HTTP/1.1\r\nHost: api\r\nX-Request-ID: leaves\r\nContent-Type: application/octet-stream\r\n"
    with api.blocked():
        with socket.create_connection(api.address) as client:
            client.sendall(f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY)
            wait_until(api.waits(1), 10)
        wait_until(api.waits(0), 10)
    assert api.http.post(PATH, content=BODY, headers=RAW).status_code == 200
    assert api.value("stage_seconds_count", task="vibration", stage="inference") == judged + 1
    wait_until(lambda: any(line.__dict__.get("status") == 499 for line in caplog.records), 10)


def test_windows_that_wait_are_judged_together_and_answered_as_alone(api: BlockedApi) -> None:
    bodies = [healthy_signal(seed, 2048).tobytes() for seed in range(5)] + [b"abc"]

    def post(body: bytes) -> httpx.Response:
        return httpx.post(f"{api.http.base_url}{PATH}", content=body, headers=RAW, timeout=30)

    alone = [post(body) for body in bodies]
    stacks, items = (api.value(f"inference_stack_{what}", task="vibration") for what in ("count", "sum"))
    with ThreadPoolExecutor(len(bodies)) as clients:
        with api.blocked():
            asked = [clients.submit(post, body) for body in bodies]
            wait_until(api.waits(5), 20)
        together = [each.result() for each in asked]
    assert [each.status_code for each in together] == [200] * 5 + [400]
    for one, other in zip(alone[:5], together[:5], strict=True):
        assert other.json()["probabilities"] == pytest.approx(one.json()["probabilities"], abs=1e-5)
        assert other.json()["label"] == one.json()["label"]
    assert together[5].json()["type"] == alone[5].json()["type"]
    assert api.value("inference_stack_sum", task="vibration") == items + 5
    assert api.value("inference_stack_count", task="vibration") == stacks + 1


def test_windows_of_both_routes_that_wait_are_judged_together(api: BlockedApi) -> None:
    signal = healthy_signal(1, 2048)
    told = {"sampling_rate_hz": 12_000, "shaft_rpm": 1772, "bearing": "6205-2RS"}
    good = {"name": "signal", "shape": [2, 2048], "datatype": "FP32", "data": [signal.tolist(), signal.tolist()]}
    short = {"name": "signal", "shape": [1, 9], "datatype": "FP32", "data": signal[:9].tolist()}
    many = {"name": "signal", "shape": [1000, 3000], "datatype": "FP32", "data": [0.0]}
    asked = [
        (200, "", {"inputs": [good], "parameters": told}),
        (422, "signal[0]: ", {"inputs": [short], "parameters": told}),
        (413, "3000000 elements", {"inputs": [many], "parameters": told}),
        (422, "no output 'anomaly'", {"inputs": [good], "parameters": told, "outputs": [{"name": "anomaly"}]}),
        (422, "no parameter asset", {"inputs": [good], "parameters": told | {"asset": "pump-1"}}),
    ]

    def infer(body: dict[str, Any]) -> httpx.Response:
        return httpx.post(f"{api.http.base_url}/v2/models/bearing/infer", json=body, timeout=30)

    def post() -> httpx.Response:
        return httpx.post(f"{api.http.base_url}{PATH}", content=signal.tobytes(), headers=RAW, timeout=30)

    stacks, items = (api.value(f"inference_stack_{what}", task="vibration") for what in ("count", "sum"))
    with ThreadPoolExecutor(len(asked) + 1) as clients:
        with api.blocked():
            typed = clients.submit(post)
            given = [clients.submit(infer, body) for *_, body in asked]
            wait_until(api.waits(4), 20)  # two are refused as they are read
        answers = [each.result() for each in given]
    for (status, sentence, _), answer in zip(asked, answers, strict=True):
        assert answer.status_code == status
        assert sentence in answer.json().get("detail", "")
    verdicts = {each["name"]: each["data"] for each in answers[0].json()["outputs"]}["verdict"]
    for verdict in map(json.loads, verdicts):
        assert verdict["probabilities"] == pytest.approx(typed.result().json()["probabilities"], abs=1e-5)
    assert api.value("inference_stack_sum", task="vibration") == items + 4
    assert api.value("inference_stack_count", task="vibration") == stacks + 1


def test_a_window_of_a_kind_that_was_quick_needs_no_thread(api: BlockedApi) -> None:
    quick = healthy_signal(2, 3000).tobytes()
    with ThreadPoolExecutor(1) as clients, api.blocked():
        first = clients.submit(api.http.post, PATH, content=quick, headers=RAW)
        wait_until(api.waits(1), 20)
        api.services.pool._costs.learn(("bearing", "1", 12_000.0, 3000), 0.001)
        at_once = api.http.post(PATH, content=quick, headers=RAW)
        assert not first.done()
    assert (at_once.status_code, at_once.json()) == (200, first.result().json())


def test_inputs_that_are_refused_are_counted_by_reason(api: BlockedApi) -> None:
    before = api.value("problems_total", code="recording-truncated")
    assert api.http.post(PATH, content=b"abc", headers=RAW).status_code == 400
    wait_until(lambda: api.value("problems_total", code="recording-truncated") == before + 1, 10)


def test_every_stage_of_a_window_is_measured(api: BlockedApi) -> None:
    assert api.http.post(PATH, content=BODY, headers=RAW).status_code == 200
    for stage in ("read", "queue", "decode", "features", "inference"):
        assert api.value("stage_seconds_count", task="vibration", stage=stage) > 0
