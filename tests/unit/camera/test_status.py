"""The status server over real HTTP, with cameras whose state a test sets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, TypeVar

import aiohttp
import pytest
from pydantic import SecretStr

from almenara.contracts import ModelRef, VisionVerdict
from almenara.errors import ConfigurationError
from almenara.processes import free_port
from camera_worker.config import CameraConfig, StatusConfig
from camera_worker.sight import Sighting
from camera_worker.states import Blindness, CameraCounters, CameraState, Scored
from camera_worker.status import StatusServer

T = TypeVar("T")
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
VERDICT = VisionVerdict(
    model=ModelRef(name="wall", version="3"), label="normal", score=1, anomaly=0.1, p_value=0.5, threshold=5
)


class FakeCamera:
    """What the status server reads of a camera, as a live and scored one by default."""

    def __init__(self, name: str = "outflow", **settings: Any) -> None:
        source = {"source": "rtsp://plant.op:hunter2@10.0.0.7/live?token=hunter2"}
        self.config = CameraConfig.model_validate({"name": name, **source, "model": "wall", **settings})
        self.name = name
        self.state = CameraState.LIVE
        self.state_since = NOON
        self.reason = ""
        self.blindness: Blindness | None = None
        self.blind_since: float | None = None
        self.counters = CameraCounters(scored=7, unscorable=2, malformed=1, api_failures=3, refused=4)
        self.last: Scored | None = Scored(name, NOON, b"jpeg", VERDICT, 0.1234, 0.05)
        counters = SimpleNamespace(frames=100, damaged=5, connections=2, losses=1)
        self.capture = SimpleNamespace(
            meter=SimpleNamespace(
                counters=counters, size=(640, 480), fps=15.0, damaged_share=0.05, keyframe_interval=2.0, lag=0.25
            ),
            silence=0.1,
            stuck_after=15.0,
            alive=True,
        )

    def sighting(self, now: float) -> Sighting | None:
        if self.state in (CameraState.PAUSED, CameraState.ENDED):
            return None
        return Sighting(self.name, self.blindness is None and self.last is not None, reason=self.reason)


@dataclass
class FakeWorker:
    cameras: dict[str, Any] = field(default_factory=lambda: {"outflow": FakeCamera()})
    sight: Any = field(default_factory=lambda: SimpleNamespace(detection_blind=False))
    breaker_open: bool = False
    desk: Any = None

    @property
    def camera(self) -> FakeCamera:
        camera: FakeCamera = next(iter(self.cameras.values()))
        return camera


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def serving(worker: FakeWorker, work: Callable[[str], Awaitable[T]]) -> T:
    async def serve() -> T:
        server = StatusServer(worker, StatusConfig(port=0))
        await server.start()
        try:
            return await work(server.address)
        finally:
            await server.stop()

    return asyncio.run(serve())


def ask(worker: FakeWorker, path: str, *, method: str = "GET", **headers: str) -> Answer:
    async def work(address: str) -> Answer:
        async with aiohttp.ClientSession() as session, session.request(method, address + path, headers=headers) as told:
            return Answer(told.status, dict(told.headers), await told.text())

    return serving(worker, work)


def metrics(worker: FakeWorker) -> dict[str, float]:
    lines = ask(worker, "/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_a_worker_whose_threads_run_is_alive() -> None:
    answer = ask(FakeWorker(), "/healthz")
    assert (answer.status, answer.json) == (200, {"status": "alive", "cameras": 1})


def test_a_capture_thread_that_is_stuck_beyond_help_makes_the_worker_unhealthy() -> None:
    worker = FakeWorker()
    worker.camera.capture.silence = 30
    answer = ask(worker, "/healthz")
    assert answer.status == 503
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.json["detail"] == "outflow: the capture thread is stuck"


def test_a_capture_thread_that_was_given_long_to_connect_is_not_stuck() -> None:
    worker = FakeWorker()
    worker.camera.capture.silence, worker.camera.capture.stuck_after = 60, 65
    assert ask(worker, "/healthz").status == 200


@pytest.mark.parametrize("state", [CameraState.PAUSED, CameraState.ENDED])
def test_a_camera_at_rest_is_neither_stuck_nor_blind(state: CameraState) -> None:
    worker = FakeWorker()
    worker.camera.capture.silence, worker.camera.state = 30, state
    assert ask(worker, "/healthz").status == 200
    assert ask(worker, "/readyz").status == 200


def test_a_worker_that_scores_every_camera_is_ready() -> None:
    answer = ask(FakeWorker(), "/readyz")
    assert (answer.status, answer.json) == (200, {"status": "ready", "cameras": 1})


def test_who_is_blind_is_named() -> None:
    dark, dead, fine = FakeCamera("dark"), FakeCamera("dead"), FakeCamera("fine")
    dark.blindness, dark.reason = Blindness.PICTURE, "the picture is black"
    dead.blindness, dead.reason = Blindness.CAMERA, "rtsp://op:hunter2@cam is offline"
    answer = ask(FakeWorker({camera.name: camera for camera in (dark, dead, fine)}), "/readyz")
    assert answer.status == 503
    assert answer.json["type"] == "urn:almenara:problem:worker-blind"
    assert answer.json["detail"] == "dark: the picture is black; dead: rtsp://***@cam is offline"


def test_a_camera_that_was_never_scored_is_not_ready() -> None:
    worker = FakeWorker()
    worker.camera.last = None
    assert ask(worker, "/readyz").json["detail"] == "outflow: no picture has been scored yet"


def test_a_worker_without_detection_is_not_ready() -> None:
    worker = FakeWorker(sight=SimpleNamespace(detection_blind=True))
    assert ask(worker, "/readyz").json["detail"] == "detection: no verdicts come"


def test_a_worker_without_cameras_is_not_ready() -> None:
    assert ask(FakeWorker(cameras={}), "/readyz").json["detail"] == "no camera is watched"


def test_a_camera_is_told_whole_and_without_credentials() -> None:
    worker = FakeWorker()
    worker.camera.blindness, worker.camera.blind_since = Blindness.API, time.monotonic() - 42
    answer = ask(worker, "/cameras")
    (camera,) = answer.json
    assert camera["name"] == "outflow"
    assert camera["source"] == "rtsp://***@10.0.0.7/live?token=***"
    assert (camera["model"], camera["state"], camera["since"]) == ("wall", "live", NOON.isoformat())
    assert (camera["size"], camera["fps"], camera["lag"]) == ({"width": 640, "height": 480}, 15.0, 0.25)
    assert camera["sampled_fps"] == 2.0
    assert camera["counters"]["frames"] == 100
    assert camera["counters"]["api_failures"] == 3
    assert camera["last_verdict"] == {
        "label": "normal",
        "anomaly": 0.1,
        "captured_at": NOON.isoformat(),
        "position": None,
        "age": 0.123,
        "posted_age": 0.05,
    }
    assert camera["blindness"] == "api"
    assert camera["blind_seconds"] == pytest.approx(42, abs=1)
    assert camera["schedule_changes_at"] is None
    assert "hunter2" not in answer.text
    assert "plant.op" not in answer.text


def test_a_camera_of_which_nothing_is_known_yet_is_told_too() -> None:
    worker = FakeWorker()
    worker.camera.capture.meter.size = worker.camera.capture.meter.keyframe_interval = worker.camera.last = None
    (camera,) = ask(worker, "/cameras").json
    assert (camera["size"], camera["keyframe_interval"], camera["last_verdict"]) == (None, None, None)


def test_a_schedule_tells_its_next_change() -> None:
    camera = FakeCamera(schedule={"time_zone": "UTC", "active": ["mon-sun 06:00-22:00"]})
    (told,) = ask(FakeWorker({"outflow": camera}), "/cameras").json
    change = datetime.fromisoformat(told["schedule_changes_at"])
    assert timedelta(0) < change - datetime.now(UTC) < timedelta(hours=17)


def test_the_source_of_a_file_that_has_gone_is_told_all_the_same() -> None:
    camera = FakeCamera()
    camera.config = camera.config.model_copy(update={"source": SecretStr("gone.mp4")})
    assert ask(FakeWorker({"outflow": camera}), "/cameras").json[0]["source"] == "gone.mp4"


def test_metrics_count_what_the_cameras_count() -> None:
    worker = FakeWorker()
    for age in (0.04, 0.15, 9.0):
        worker.camera.counters.ages.add(age)
    told = metrics(worker)
    assert told['almenara_camera_up{camera="outflow"}'] == 1
    assert told['almenara_camera_state{camera="outflow",state="live"}'] == 1
    assert told['almenara_camera_state{camera="outflow",state="black"}'] == 0
    assert told['almenara_camera_frames_total{camera="outflow"}'] == 100
    assert told['almenara_camera_damaged_total{camera="outflow"}'] == 5
    assert told['almenara_camera_scored_total{camera="outflow"}'] == 7
    assert told['almenara_camera_connections_total{camera="outflow"}'] == 2
    assert told['almenara_camera_losses_total{camera="outflow"}'] == 1
    assert told['almenara_camera_unscorable_total{camera="outflow",reason="picture"}'] == 2
    assert told['almenara_camera_unscorable_total{camera="outflow",reason="api"}'] == 3
    assert told['almenara_camera_frame_age_seconds_bucket{camera="outflow",le="0.05"}'] == 1
    assert told['almenara_camera_frame_age_seconds_bucket{camera="outflow",le="0.2"}'] == 2
    assert told['almenara_camera_frame_age_seconds_bucket{camera="outflow",le="+Inf"}'] == 3
    assert told['almenara_camera_frame_age_seconds_count{camera="outflow"}'] == 3
    assert told['almenara_camera_frame_age_seconds_sum{camera="outflow"}'] == pytest.approx(9.19)
    assert told["almenara_detection_blind"] == 0
    assert told["almenara_api_failures_total"] == 3
    assert told["almenara_malformed_verdicts_total"] == 1
    assert told["process_resident_memory_bytes"] > 0


def test_a_blind_camera_is_not_up_and_blind_detection_shows() -> None:
    worker = FakeWorker(sight=SimpleNamespace(detection_blind=True), breaker_open=True)
    worker.camera.blindness = Blindness.API
    told = metrics(worker)
    assert told['almenara_camera_up{camera="outflow"}'] == 0
    assert (told["almenara_detection_blind"], told["almenara_api_away"]) == (1, 1)


def test_a_camera_that_a_reload_removes_vanishes_from_the_metrics() -> None:
    worker = FakeWorker({name: FakeCamera(name) for name in ("a", "b")})

    async def work(address: str) -> tuple[str, str]:
        async with aiohttp.ClientSession() as session:
            before = await (await session.get(f"{address}/metrics")).text()
            del worker.cameras["b"]
            return before, await (await session.get(f"{address}/metrics")).text()

    before, after = serving(worker, work)
    assert 'camera="b"' in before
    assert 'camera="b"' not in after
    assert 'camera="a"' in after


def test_who_wants_openmetrics_gets_it() -> None:
    answer = ask(FakeWorker(), "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/cameras"])
def test_head_is_answered_without_a_body(path: str) -> None:
    answer = ask(FakeWorker(), path, method="HEAD")
    assert (answer.status, answer.text) == (200, "")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(method: str) -> None:
    answer = ask(FakeWorker(), "/cameras", method=method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")
    assert answer.json["type"] == "urn:almenara:problem:method-not-allowed"


def test_another_path_is_a_problem() -> None:
    answer = ask(FakeWorker(), "/../etc/passwd")
    assert (answer.status, answer.json["type"]) == (404, "urn:almenara:problem:path-unknown")


def test_a_fault_of_ours_is_a_problem_without_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    worker = FakeWorker()
    del worker.camera.capture.meter.size
    answer = ask(worker, "/cameras")
    assert (answer.status, answer.json["type"]) == (500, "urn:almenara:problem:internal-error")
    assert "/cameras could not be answered" in caplog.text


@pytest.mark.parametrize("path", ["/cameras", "/readyz", "/nowhere"])
def test_every_answer_has_its_security_headers_and_no_banner(path: str) -> None:
    headers = ask(FakeWorker(), path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert "Server" not in headers


@pytest.mark.parametrize("request_line", [b"NONSENSE", b"GET /" + b"a" * 20_000 + b" HTTP/1.1"])
def test_who_speaks_no_http_is_refused_and_fills_no_log(request_line: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def work(address: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
        writer.write(request_line + b"\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(200), 3)
        writer.close()
        return answer

    assert b" 400 Bad Request" in serving(FakeWorker(), work)
    assert not [record for record in caplog.records if record.name.startswith(("camera_worker", "aiohttp"))]


def test_a_port_that_is_taken_is_one_sentence() -> None:
    async def start_twice() -> None:
        port = free_port()
        first, second = (StatusServer(FakeWorker(), StatusConfig(port=port)) for _ in range(2))
        await first.start()
        try:
            with pytest.raises(
                ConfigurationError, match=f"cannot listen on 127.0.0.1, port {port}: address already in use\\."
            ) as taken:
                await second.start()
            assert "\n" not in str(taken.value)
        finally:
            await first.stop()

    asyncio.run(start_twice())


def test_an_address_of_ipv6_is_written_as_a_url() -> None:
    async def address() -> str:
        server = StatusServer(FakeWorker(), StatusConfig(host="::1", port=0))
        await server.start()
        try:
            return server.address
        finally:
            await server.stop()

    try:
        assert asyncio.run(address()).startswith("http://[::1]:")
    except ConfigurationError:
        pytest.skip("no IPv6 on this machine")
