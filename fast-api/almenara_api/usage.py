"""How much each model in service is asked, and how soon it answers, as /v1/models tells it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from pydantic import Field

from almenara.contracts import Contract, ModelRef

_LATEST = 1000


class Latency(Contract):
    """From the whole request to the verdict, in milliseconds, of the latest thousand answers."""

    p50_ms: float
    p95_ms: float
    p99_ms: float


class Usage(Contract):
    """Since this process has had the version in service."""

    requests: int = Field(default=0, description="that were answered with a verdict")
    latency: Latency | None = Field(default=None, description="null before the first answer")


@dataclass
class _Counted:
    requests: int = 0
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_LATEST))


class UsageCount:
    """Counts on the event loop, so that no lock is needed; of each model the two versions that came last."""

    def __init__(self) -> None:
        self._by_name: dict[str, dict[str, _Counted]] = {}

    def add(self, model: ModelRef, seconds: float) -> None:
        """Count an answer."""
        versions = self._by_name.setdefault(model.name, {})
        counted = versions.setdefault(model.version, _Counted())
        counted.requests += 1
        counted.seconds.append(seconds)
        if len(versions) > 2:
            del versions[next(iter(versions))]

    def of(self, name: str, version: str | None) -> Usage:
        """What a version has answered so far."""
        counted = self._by_name.get(name, {}).get(version or "")
        if counted is None:
            return Usage()
        p50, p95, p99 = (round(float(value) * 1e3, 2) for value in np.quantile(counted.seconds, (0.5, 0.95, 0.99)))
        return Usage(requests=counted.requests, latency=Latency(p50_ms=p50, p95_ms=p95, p99_ms=p99))
