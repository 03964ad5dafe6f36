"""How the worker is, over HTTP: /healthz, /readyz, /metrics and /cameras."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from almenara.errors import ConfigurationError
from almenara.redaction import redact, redact_address
from camera_worker.camera import Camera
from camera_worker.config import DEFAULT_FPS, StatusConfig
from camera_worker.metrics import Worker, worker_registry
from camera_worker.playback import Playback
from camera_worker.states import CameraState

logger = logging.getLogger(__name__)

_BEYOND_HELP_SECONDS = 5.0  # so long ago the supervisor should have replaced a stuck thread
_SHUTDOWN_SECONDS = 0.2
_AT_REST = (CameraState.PAUSED, CameraState.ENDED)
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class StatusServer:
    """Answers GET and HEAD in the event loop that `start` is called in; nothing it says holds credentials.

    Args:
        worker: whose state is told.
        config: where to listen; port 0 takes a free one.
    """

    def __init__(self, worker: Worker, config: StatusConfig) -> None:
        self._worker, self._config = worker, config
        self._registry = worker_registry(worker)
        application = web.Application(middlewares=[_as_problem], client_max_size=1024)
        application.on_response_prepare.append(_finish_headers)
        application.router.add_get("/healthz", self._health)
        application.router.add_get("/readyz", self._readiness)
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/cameras", self._cameras)
        self._runner = web.AppRunner(
            application, access_log=None, logger=_protocol_logger(), shutdown_timeout=_SHUTDOWN_SECONDS
        )

    @property
    def address(self) -> str:
        """URL without a path; only between `start` and `stop`."""
        host, port = self._runner.addresses[0][:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self) -> None:
        """Listens; ConfigurationError when it cannot."""
        host, port = self._config.host, self._config.port
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            # The number is negative for a name that cannot be resolved, and then the words are plain already.
            known = error.errno if error.errno and error.errno > 0 else 0
            reason = (os.strerror(known) if known else error.strerror or str(error)).lower()
            fact = f"The status server cannot listen on {host}, port {port}: {reason}."
            raise ConfigurationError(fact, "Free the port, or set status.host and status.port.") from error

    async def stop(self) -> None:
        """Stops listening and ends every connection."""
        await self._runner.cleanup()

    async def _health(self, _: web.Request) -> web.Response:
        """Alive: the event loop turns, since it answers, and no capture thread is stuck beyond help."""
        stuck = [f"{camera.name}: the capture thread is stuck" for camera in self._all if _is_stuck(camera)]
        if stuck:
            return _problem(503, "worker-stuck", stuck, "Restart the worker.")
        return web.json_response({"status": "alive", "cameras": len(self._all)})

    async def _readiness(self, _: web.Request) -> web.Response:
        """Ready: every camera that should be scored was scored in its last turns."""
        if blind := what_is_blind(self._worker):
            return _problem(503, "worker-blind", blind, "See /cameras.")
        return web.json_response({"status": "ready", "cameras": len(self._all)})

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, media_type = choose_encoder(request.headers.get("Accept", ""))
        body = await asyncio.to_thread(encode, self._registry)  # it looks into the alarm store, which may take its time
        return web.Response(body=body, headers={"Content-Type": media_type})

    async def _cameras(self, _: web.Request) -> web.Response:
        return web.json_response([describe(camera) for camera in self._all])

    @property
    def _all(self) -> tuple[Camera, ...]:
        return tuple(self._worker.cameras.values())


def what_is_blind(worker: Worker) -> list[str]:
    """Each camera that should be scored and is not, with the reason, and detection; callable from any thread."""
    cameras = tuple(worker.cameras.values())
    blind = ["detection: no verdicts come"] if worker.sight.detection_blind else []
    blind += [f"{camera.name}: {why}" for camera in cameras if (why := _why_blind(camera))]
    return blind if cameras else [*blind, "no camera is watched"]


def describe(camera: Camera) -> dict[str, Any]:
    """One camera for /cameras; times in seconds, ages in seconds, moments in ISO 8601."""
    config, capture, counters = camera.config, camera.capture, camera.counters
    size = capture.meter.size
    schedule = config.parsed_schedule()
    change = schedule.next_change(datetime.now(UTC)) if schedule else None
    return {
        "name": camera.name,
        "source": redact_address(config.source.get_secret_value()),
        "model": config.model,
        "state": camera.state,
        "since": camera.state_since.isoformat(),
        "reason": redact(camera.reason),
        "size": {"width": size[0], "height": size[1]} if size else None,
        "fps": round(capture.meter.fps, 2),
        "lag": round(capture.meter.lag, 3),
        "sampled_fps": config.fps or (None if isinstance(capture, Playback) else DEFAULT_FPS),
        "damaged_share": round(capture.meter.damaged_share, 4),
        "keyframe_interval": capture.meter.keyframe_interval,
        "counters": {
            "frames": capture.meter.counters.frames,
            "damaged": capture.meter.counters.damaged,
            "connections": capture.meter.counters.connections,
            "losses": capture.meter.counters.losses,
            "scored": counters.scored,
            "unscorable": counters.unscorable,
            "api_failures": counters.api_failures,
            "refused": counters.refused,
            "malformed": counters.malformed,
            "store_failures": counters.store_failures,
            "abandoned_threads": counters.abandoned_threads,
        },
        "last_verdict": _last_verdict(camera),
        "blindness": camera.blindness,
        "blind_seconds": None if camera.blind_since is None else round(time.monotonic() - camera.blind_since, 1),
        "schedule_changes_at": change.isoformat() if change else None,
    }


def _last_verdict(camera: Camera) -> Mapping[str, Any] | None:
    last = camera.last
    if last is None:
        return None
    return {
        "label": last.verdict.label,
        "anomaly": last.verdict.anomaly,
        "captured_at": last.captured_at.isoformat(),
        "position": last.position,
        "age": round(last.age, 3),
        "posted_age": round(last.posted_age, 3),
    }


def _is_stuck(camera: Camera) -> bool:
    overdue = camera.capture.silence - camera.capture.stuck_after
    return overdue > _BEYOND_HELP_SECONDS and camera.state not in _AT_REST


def _why_blind(camera: Camera) -> str:
    """Empty for a camera that is scored, and for one that is not to be."""
    if camera.state in _AT_REST:
        return ""
    sighting = camera.sighting(time.monotonic())
    if sighting is None:
        return "it is not watched"
    return "" if sighting.sees else redact(sighting.reason) or "no picture has been scored yet"


def _protocol_logger() -> logging.Logger:
    """Silent: who speaks no HTTP is answered 400, and must not be able to fill the log."""
    protocol = logging.getLogger(f"{__name__}.protocol")
    protocol.setLevel(logging.CRITICAL)
    return protocol


def _problem(status: int, code: str, facts: list[str], remedy: str = "") -> web.Response:
    """An RFC 9457 answer, as the API gives them."""
    problem = {
        "type": f"urn:almenara:problem:{code}",
        "title": code.replace("-", " ").capitalize(),
        "status": status,
        "detail": "; ".join(facts),
        "remedy": remedy,
    }
    return web.json_response(problem, status=status, content_type="application/problem+json")


@web.middleware
async def _as_problem(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        answer = _problem(405, "method-not-allowed", ["Only GET and HEAD are answered."])
        answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except web.HTTPNotFound:
        return _problem(404, "path-unknown", ["There is nothing at this path."], "Try /cameras.")
    except web.HTTPException:
        raise
    except Exception:
        logger.exception("%s could not be answered.", request.path)
        return _problem(500, "internal-error", ["The worker failed on this request; its log has the reason."])


async def _finish_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
    response.headers.pop("Server", None)
