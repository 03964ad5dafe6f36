"""What Prometheus reads at /metrics: requests, latency by stage, refused inputs, served models, alarms."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

disable_created_metrics()  # type: ignore[no-untyped-call]
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SCORES = tuple(step / 10 for step in range(1, 11))


class Metrics:
    """The service's instruments, on a registry of their own so that two apps in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "almenara_requests", "Answered requests", ["route", "method", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "almenara_request_seconds", "From request to answer", ["route"], buckets=_SECONDS, registry=self.registry
        )
        self.stage_seconds = Histogram(
            "almenara_stage_seconds",
            "One stage of a request: read, queue, decode, inference, render, alarm",
            ["task", "stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.problems = Counter("almenara_problems", "Error answers by code", ["code"], registry=self.registry)
        self.anomaly = Histogram(
            "almenara_anomaly", "Anomaly of verdicts, 0 to 1", ["model"], buckets=_SCORES, registry=self.registry
        )
        self.in_flight = Gauge(
            "almenara_inference_in_flight", "Inference jobs running or queued", registry=self.registry
        )
        self.served = Gauge(
            "almenara_model_served", "1 for each version in service", ["name", "version"], registry=self.registry
        )
        self.registry_up = Gauge(
            "almenara_registry_up", "1 when the last poll of the registry succeeded", registry=self.registry
        )
        self.alarms_raised = Counter("almenara_alarms_raised", "Alarms raised", ["source"], registry=self.registry)

    @contextmanager
    def stage(self, task: str, stage: str) -> Iterator[None]:
        """Measure one stage of a request, failed ones too."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.stage_seconds.labels(task, stage).observe(time.perf_counter() - start)

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)
