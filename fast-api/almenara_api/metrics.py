"""What Prometheus reads at /metrics: requests, latency by stage, refused inputs, served models, alarms."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

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

from almenara.contracts import ModelRef, VibrationVerdict
from almenara_api.store import Snapshot

disable_created_metrics()  # type: ignore[no-untyped-call]
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SCORES = tuple(step / 10 for step in range(1, 11))


class AlarmGauges:
    """How alarms and disk were when `AlarmWatch` looked last."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
            return Gauge(f"almenara_{name}", text, labels, registry=registry)

        self.store_up = gauge("alarm_store_up", "1 when the alarm database answered at the last look")
        self.standing = gauge("alarms_standing", "Alarms that stand", ["kind", "priority"])
        self.unacknowledged = gauge("alarms_unacknowledged", "Alarms that stand and nobody has acknowledged")
        self.raised_lately = gauge("alarms_raised_lately", "Raised, or raised again, in the last 10 minutes")
        self.judged = gauge("alarms_judged", "Alarms of the last 24 hours by what people found them to be", ["verdict"])
        self.outbox_late = gauge("outbox_late_seconds", "How late the oldest message is that waits to be sent")
        self.heartbeat_withheld = gauge("heartbeat_withheld", "1 while something is wrong that stops the heartbeat")
        self.evidence_waiting = gauge(
            "evidence_waiting_seconds", "For how long the oldest evidence has waited for object storage"
        )
        self.disk_free = gauge("disk_free_bytes", "Free on the disk of the var folder")
        self.disk_size = gauge("disk_size_bytes", "Size of the disk of the var folder")


class ShadowMetrics:
    """Challengers beside their champions."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.served = Gauge(
            "almenara_shadow_served", "1 for each challenger that is loaded", ["name", "version"], registry=registry
        )
        self.requests = Counter(
            "almenara_shadow_requests",
            "Requests that a challenger could have judged too: compared, failed, dropped",
            ["name", "version", "outcome"],
            registry=registry,
        )
        self.labels_differ = Counter(
            "almenara_shadow_labels_differ",
            "Inputs that the challenger labels otherwise than its champion",
            ["name", "version"],
            registry=registry,
        )
        self.difference = Histogram(
            "almenara_shadow_difference",
            "How far the challenger's judgement is from its champion's, 0 to 1",
            ["name", "version"],
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
            registry=registry,
        )
        self.seconds = Histogram(
            "almenara_shadow_seconds",
            "Judging the same request, by the model that did it: champion or challenger",
            ["name", "model"],
            buckets=_SECONDS,
            registry=registry,
        )


class Spans(Protocol):
    """Where traces hear of a request's stages and of its model."""

    def stage(self, task: str, stage: str, /) -> AbstractContextManager[object]:
        """Lasts as long as one stage of the current request."""

    def model(self, name: str, version: str, /) -> None:
        """The current request is about that model."""


class _NoSpans:
    def stage(self, *_: str) -> AbstractContextManager[object]:
        return nullcontext()

    def model(self, *_: str) -> None:
        pass


class Metrics:
    """The service's instruments, on a registry of their own so that two apps in one process do not mix."""

    def __init__(self) -> None:
        self.spans: Spans = _NoSpans()
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
            "One stage of a request: read, queue, decode, features, inference, render, alarm",
            ["task", "stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.stack_size = Histogram(
            "almenara_inference_stack",
            "Requests that were judged in one call",
            ["task"],
            buckets=(1, 2, 4, 8, 16),
            registry=self.registry,
        )
        self.problems = Counter("almenara_problems", "Error answers by code", ["code"], registry=self.registry)
        self.anomaly = Histogram(
            "almenara_anomaly",
            "Anomaly of verdicts, 0 to 1",
            ["model", "version"],
            buckets=_SCORES,
            registry=self.registry,
        )
        self.confidence = Histogram(
            "almenara_confidence",
            "Probability of a classifier's most probable label, 0 to 1",
            ["model", "version"],
            buckets=_SCORES,
            registry=self.registry,
        )
        self.abstentions = Counter(
            "almenara_abstentions",
            "Verdicts whose classifier named no fault",
            ["model", "version"],
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "almenara_inference_in_flight", "Inference jobs running or queued", registry=self.registry
        )
        self.served = Gauge(
            "almenara_model_served", "1 for each version in service", ["name", "version"], registry=self.registry
        )
        self.refused = Gauge(
            "almenara_model_refused",
            "1 for each champion that cannot be put in service",
            ["name", "version"],
            registry=self.registry,
        )
        self.champions = Gauge(
            "almenara_champions", "Models with a champion, as the registry said last", registry=self.registry
        )
        self.registry_up = Gauge(
            "almenara_registry_up", "1 when the last poll of the registry succeeded", registry=self.registry
        )
        self.asset_windows = Counter(
            "almenara_asset_windows",
            "Requests with an asset or a key: kept, late, replayed (a repeat), lost (judged, and in no trend)",
            ["outcome"],
            registry=self.registry,
        )
        self.alarms_raised = Counter("almenara_alarms_raised", "Alarms raised", ["source"], registry=self.registry)
        self.alarms = AlarmGauges(self.registry)
        self.shadow = ShadowMetrics(self.registry)

    def show_models(self, snapshot: Snapshot) -> None:
        """Set the gauges of the models and of the registry, and forget the versions that are out of service."""
        self.registry_up.set(snapshot.registry == "up")
        self.champions.set(len(snapshot.champions))
        self.served.clear()
        for name, loaded in snapshot.loaded.items():
            self.served.labels(name, loaded.entry.version).set(1)
        self.refused.clear()
        for name, refusal in snapshot.refused.items():
            self.refused.labels(name, refusal.entry.version).set(1)
        self.shadow.served.clear()
        for name, loaded in snapshot.challengers.items():
            self.shadow.served.labels(name, loaded.entry.version).set(1)
        champions = {(name, loaded.entry.version) for name, loaded in snapshot.loaded.items()}
        for metric in (self.anomaly, self.confidence, self.abstentions):
            _keep(metric, "model", champions)
        challengers = {(name, loaded.entry.version) for name, loaded in snapshot.challengers.items()}
        for metric in (self.shadow.requests, self.shadow.labels_differ, self.shadow.difference):
            _keep(metric, "name", challengers)

    def jobs_in_flight(self) -> float:
        """Inference jobs that run or wait."""
        (family,) = self.in_flight.collect()
        return family.samples[0].value

    def show_vibration(self, verdict: VibrationVerdict) -> None:
        """Count a verdict by how sure it is, and by its anomaly where a baseline gave one."""
        model = (verdict.model.name, verdict.model.version)
        self.confidence.labels(*model).observe(max(verdict.probabilities.values()))
        if verdict.abstained:
            self.abstentions.labels(*model).inc()
        if verdict.novelty is not None:
            self.show_anomaly(verdict.novelty.model, verdict.novelty.anomaly)

    def show_anomaly(self, model: ModelRef, anomaly: float) -> None:
        """Count a verdict by its anomaly, 0 to 1."""
        self.anomaly.labels(model.name, model.version).observe(anomaly)

    @contextmanager
    def stage(self, task: str, stage: str) -> Iterator[None]:
        """Measure one stage of a request, failed ones too."""
        start = time.perf_counter()
        try:
            with self.spans.stage(task, stage):
                yield
        finally:
            self.stage_seconds.labels(task, stage).observe(time.perf_counter() - start)

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)


def _keep(metric: Counter | Histogram, name: str, versions: set[tuple[str, str]]) -> None:
    """Remove the series of every other version; what a request still adds to one goes the next time."""
    found = {(sample.labels[name], sample.labels["version"]) for each in metric.collect() for sample in each.samples}
    for gone in found - versions:
        metric.remove_by_labels({name: gone[0], "version": gone[1]})
