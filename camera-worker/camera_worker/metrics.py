"""The worker's state as Prometheus metrics, read from the cameras whenever somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from camera_worker.alarming import DeskFigures
from camera_worker.camera import Camera
from camera_worker.states import CameraState

_PER_CAMERA: tuple[tuple[str, str, Callable[[Camera], float]], ...] = (
    ("frames", "Undamaged pictures that were received", lambda camera: camera.capture.meter.counters.frames),
    ("damaged", "Damaged pictures, which are never scored", lambda camera: camera.capture.meter.counters.damaged),
    ("connections", "Connections that brought a picture", lambda camera: camera.capture.meter.counters.connections),
    ("losses", "Connections that were lost", lambda camera: camera.capture.meter.counters.losses),
    ("scored", "Pictures with a verdict", lambda camera: camera.counters.scored),
)
_UNSCORABLE: tuple[tuple[str, Callable[[Camera], float]], ...] = (
    ("picture", lambda camera: camera.counters.unscorable),
    ("api", lambda camera: camera.counters.api_failures),
    ("refused", lambda camera: camera.counters.refused),
    ("verdict", lambda camera: camera.counters.malformed),
)
_PER_DESK: tuple[tuple[str, str, Callable[[DeskFigures], float | None]], ...] = (
    ("outbox_late_seconds", "How late the oldest message is that waits to be sent", lambda desk: desk.outbox_late),
    ("record_late_seconds", "For how long the record has lacked a transition", lambda desk: desk.record_late),
    ("heartbeat_withheld", "1 while something is wrong that stops the heartbeat", lambda desk: desk.heartbeat_withheld),
    (
        "evidence_waiting_seconds",
        "For how long the oldest evidence has waited for object storage",
        lambda desk: desk.evidence_waiting,
    ),
    ("disk_free_bytes", "Free on the disk of the var folder", lambda desk: desk.disk_free),
    ("disk_size_bytes", "Size of the disk of the var folder", lambda desk: desk.disk_size),
)


class Detection(Protocol):
    """Detection as a whole."""

    @property
    def detection_blind(self) -> bool:
        """Whether verdicts have been missing for so long that it is an alarm."""
        ...


class Desk(Protocol):
    """The worker's alarms."""

    def figures(self) -> DeskFigures:
        """How they are doing; raises SQLAlchemyError or OSError."""
        ...


class Worker(Protocol):
    """What is read of the supervisor."""

    @property
    def cameras(self) -> Mapping[str, Camera]:
        """Every camera that is watched, by its name."""
        ...

    @property
    def sight(self) -> Detection: ...

    @property
    def breaker_open(self) -> bool:
        """Whether the API is taken to be away."""
        ...

    @property
    def desk(self) -> Desk | None:
        """None while nothing is raised."""
        ...


class WorkerCollector(Collector):
    """Metrics of the cameras there are; one that a reload removes vanishes with its numbers."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def collect(self) -> Iterable[Metric]:
        cameras = tuple(self._worker.cameras.values())
        yield from _states(cameras)
        yield from _counts(cameras)
        yield _ages(cameras)
        yield from self._whole(cameras)
        if desk := self._worker.desk:
            yield from _alarms(desk)

    def _whole(self, cameras: tuple[Camera, ...]) -> Iterator[Metric]:
        def total(count: Callable[[Camera], float]) -> float:
            return sum(map(count, cameras))

        blind, away = self._worker.sight.detection_blind, self._worker.breaker_open
        yield GaugeMetricFamily("almenara_detection_blind", "1 while no verdicts come; an alarm stands", blind)
        yield GaugeMetricFamily("almenara_api_away", "1 while the circuit to the API is open", away)
        for name, text, count in (
            ("api_failures", "Requests that the API did not answer", lambda camera: camera.counters.api_failures),
            ("api_refusals", "Requests that it answered without a verdict", lambda camera: camera.counters.refused),
            ("malformed_verdicts", "Answers that were no verdict", lambda camera: camera.counters.malformed),
            ("alarm_store_failures", "Observations it did not take", lambda camera: camera.counters.store_failures),
            ("abandoned_threads", "Stuck capture threads", lambda camera: camera.counters.abandoned_threads),
        ):
            yield CounterMetricFamily(f"almenara_{name}", text, total(count))


def worker_registry(worker: Worker) -> CollectorRegistry:
    """A registry of its own with the worker's metrics and those of the process."""
    registry = CollectorRegistry()
    registry.register(WorkerCollector(worker))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


def _states(cameras: tuple[Camera, ...]) -> Iterator[Metric]:
    up = GaugeMetricFamily("almenara_camera_up", "1 while its pictures are scored", labels=["camera"])
    state = GaugeMetricFamily("almenara_camera_state", "1 for the state it is in", labels=["camera", "state"])
    fps = GaugeMetricFamily("almenara_camera_fps", "Pictures a second, lately", labels=["camera"])
    lag = GaugeMetricFamily("almenara_camera_lag_seconds", "How late its stream comes", labels=["camera"])
    damaged = GaugeMetricFamily("almenara_camera_damaged_share", "0 to 1 of its pictures, lately", labels=["camera"])
    for camera in cameras:
        now = camera.state
        seen = now in (CameraState.LIVE, CameraState.DEGRADED, CameraState.BLURRED)
        up.add_metric([camera.name], seen and camera.blindness is None and camera.last is not None)
        fps.add_metric([camera.name], camera.capture.meter.fps)
        lag.add_metric([camera.name], camera.capture.meter.lag)
        damaged.add_metric([camera.name], camera.capture.meter.damaged_share)
        for possible in CameraState:
            state.add_metric([camera.name, possible], possible is now)
    yield from (up, state, fps, lag, damaged)


def _counts(cameras: tuple[Camera, ...]) -> Iterator[Metric]:
    for name, text, count in _PER_CAMERA:
        family = CounterMetricFamily(f"almenara_camera_{name}", text, labels=["camera"])
        for camera in cameras:
            family.add_metric([camera.name], count(camera))
        yield family
    unscorable = CounterMetricFamily(
        "almenara_camera_unscorable",
        "Pictures without a verdict, by what was missing",
        labels=["camera", "reason"],
    )
    for camera in cameras:
        for reason, count in _UNSCORABLE:
            unscorable.add_metric([camera.name, reason], count(camera))
    yield unscorable


def _alarms(desk: Desk) -> Iterator[Metric]:
    """When the alarm store or the disk does not answer, that alone is told."""
    try:
        figures = desk.figures()
    except (SQLAlchemyError, OSError):
        figures = None
    yield GaugeMetricFamily("almenara_alarm_store_up", "1 when the alarm store answers", figures is not None)
    if figures is None:
        return
    for name, text, figure in _PER_DESK:
        if (value := figure(figures)) is not None:
            yield GaugeMetricFamily(f"almenara_{name}", text, value)


def _ages(cameras: tuple[Camera, ...]) -> Metric:
    text = "From capture to the request for a verdict"
    family = HistogramMetricFamily("almenara_camera_frame_age_seconds", text, labels=["camera"])
    for camera in cameras:
        family.add_metric([camera.name], camera.counters.ages.buckets, camera.counters.ages.total)
    return family
