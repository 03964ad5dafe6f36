"""A simulated camera and a scoring API, both real servers on loopback, in threads of their own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import av
import cv2
import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from camera_worker.simulator import Fault, SimulatedCamera

T = TypeVar("T")


def wait_for(condition: Callable[[], object], seconds: float, what: str = "the condition") -> float:
    """Seconds until `condition` held; fails the test when it did not in time."""
    start = time.monotonic()
    while not condition():
        waited = time.monotonic() - start
        assert waited < seconds, f"{what} did not come within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - start


class LoopThread:
    """An event loop in a thread; a context manager."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> LoopThread:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._finish())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)

    async def _finish(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)


class Scene:
    """A grey textured wall with sensor noise, a moving box, and a red square while `anomalous`."""

    def __init__(self, width: int = 320, height: int = 240, *, noise: float = 4.0) -> None:
        random = np.random.default_rng(0)
        coarse = random.integers(40, 200, (height // 8, width // 8, 1), dtype=np.uint8)
        wall = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
        self._wall = np.repeat(wall[:, :, None], 3, axis=2)
        self._random, self._noise = random, noise
        self.anomalous = False

    def __call__(self, t: float) -> NDArray[np.uint8]:
        picture = self._wall.copy()
        left = int(t * 40) % (picture.shape[1] - 40)
        picture[100:130, left : left + 30] = 220
        if self.anomalous:
            picture[30:90, 60:140] = (255, 0, 0)
        noise = self._random.normal(0, self._noise, picture.shape)
        return np.clip(picture + noise, 0, 255).astype(np.uint8)


class CameraThread:
    """The simulated camera, HTTP included, in a loop of its own; may be stopped and started again on the same ports."""

    def __init__(self, loop: LoopThread, scene: Callable[[float], NDArray[np.uint8]], **options: Any) -> None:
        self._loop, self._scene, self._options = loop, scene, options
        self.port = self.http_port = 0
        self.start()

    def start(self) -> None:
        async def start() -> SimulatedCamera:
            camera = SimulatedCamera(self._scene, **{"width": 320, "height": 240, **self._options})
            await camera.start(self.port, control_port=0, http_port=self.http_port)
            return camera

        self.camera = self._loop.run(start())
        self.port, self.http_port = self.camera.port, self.camera.http_port

    def stop(self) -> None:
        self._loop.run(self.camera.stop())

    def switch(self, fault: str) -> None:
        self._loop.loop.call_soon_threadsafe(self.camera.switch, Fault.parse(fault))

    @property
    def url(self) -> str:
        return self.camera.url

    @property
    def mjpeg_url(self) -> str:
        return self.camera.mjpeg_url

    @property
    def snapshot_url(self) -> str:
        return self.camera.snapshot_url


def write_video(path: Path, *, frames: int, fps: int = 10, anomalous_from: int | None = None) -> Path:
    """An H.264 file of the scene, an anomaly in it from that frame on."""
    scene = Scene()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for index in range(frames):
            scene.anomalous = anomalous_from is not None and index >= anomalous_from
            frame = av.VideoFrame.from_ndarray(scene(index / fps), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@contextlib.contextmanager
def simulated_camera(
    scene: Callable[[float], NDArray[np.uint8]] | None = None, **options: Any
) -> Iterator[CameraThread]:
    with LoopThread() as loop:
        camera = CameraThread(loop, scene or Scene(), **options)
        try:
            yield camera
        finally:
            camera.stop()


@dataclass
class ScoringApi:
    """Speaks the API's vision contract: a picture with a red part is an anomaly.

    Attributes:
        mode: ok, nan, garbage, partial, hang, or an HTTP status as text.
        key: X-API-Key that requests must carry, if any.
        requests: heatmap parameter of every request.
        pictures: shapes of the pictures that were posted.
        most_in_flight: most requests at a time.
    """

    loop: LoopThread
    mode: str = "ok"
    key: str | None = None
    delay: float = 0.0
    requests: list[str] = field(default_factory=list)
    pictures: list[tuple[int, ...]] = field(default_factory=list)
    most_in_flight: int = 0
    port: int = 0
    _in_flight: int = 0
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.loop.run(self._start())

    def stop(self) -> None:
        if self._runner:
            self.loop.run(self._runner.cleanup())
            self._runner = None

    async def _start(self) -> None:
        application = web.Application(client_max_size=8 * 2**20)
        application.router.add_post("/v1/vision/{model}/predict", self._count)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _count(self, request: web.Request) -> web.StreamResponse:
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            await asyncio.sleep(self.delay)
            return await self._predict(request)
        finally:
            self._in_flight -= 1

    async def _predict(self, request: web.Request) -> web.Response:
        body = await request.read()
        assert request.content_type == "image/jpeg"
        self.requests.append(request.query.get("heatmap", "none"))
        if self.key and request.headers.get("X-API-Key") != self.key:
            return _problem(401, "The API key is missing or wrong.")
        if request.match_info["model"] != "wall":
            return _problem(404, "There is no model of that name.")
        if self.mode == "hang":
            await asyncio.sleep(30)
        if self.mode.isdigit():
            return _problem(int(self.mode), "As the test wants it.")
        if self.mode == "garbage":
            return web.Response(text="<html>hello</html>")
        verdict = self._verdict(body, overlay=request.query.get("heatmap") == "overlay")
        if self.mode == "nan":
            verdict["anomaly"] = float("nan")
        if self.mode == "partial":
            del verdict["anomaly"]
        return web.Response(text=json.dumps(verdict), content_type="application/json")

    def _verdict(self, jpeg: bytes, *, overlay: bool) -> dict[str, Any]:
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        self.pictures.append(image.shape)
        blue, _, red = (image[:, :, channel].astype(int) for channel in range(3))
        anomalous = bool(((red - blue) > 100).mean() > 0.01)
        png = cv2.imencode(".png", image)[1].tobytes()
        return {
            "model": {"name": "wall", "version": "3", "alias": "champion"},
            "label": "anomaly" if anomalous else "normal",
            "score": 9.0 if anomalous else 1.0,
            "anomaly": 0.9 if anomalous else 0.1,
            "p_value": 0.01 if anomalous else 0.6,
            "threshold": 5.0,
            "regions": [{"x": 0.2, "y": 0.1, "width": 0.3, "height": 0.3, "score": 9.0}] if anomalous else [],
            "heatmap": {"media_type": "image/png", "base64": base64.b64encode(png).decode()} if overlay else None,
        }


@contextlib.contextmanager
def scoring_api(**options: Any) -> Iterator[ScoringApi]:
    with LoopThread() as loop:
        api = ScoringApi(loop, **options)
        api.start()
        try:
            yield api
        finally:
            api.stop()


def _problem(status: int, detail: str) -> web.Response:
    problem = {"type": "urn:almenara:problem:test", "title": "test", "status": status, "detail": detail, "remedy": ""}
    return web.json_response(problem, status=status, content_type="application/problem+json")
