"""The API as a real process, and a registry in a folder that can be switched off."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray

from almenara import servable
from almenara.alarms import AlarmRecord, Phase
from almenara.alarms.records import EvidenceFile, Report, Transition
from almenara.alarms.vocabulary import Change
from almenara.contracts import BearingFeaturesInput, Candidate, Card
from almenara.errors import RegistryError
from almenara.processes import answers, free_port
from almenara.registry import Served
from almenara.vibration import verdict as vibration
from almenara.vibration.bearings import bearing
from almenara_api.cache import Entry, ModelCache
from tests.support import servers
from tests.support.packages import classifier_candidate

NOWHERE = "http://127.0.0.1:9"
"""A registry's address at which nothing listens."""


def entry_of(card: Card, version: str = "1") -> Entry:
    """A card's champion entry."""
    return Entry(name=card.name, version=version, alias="champion", task=card.task, role=card.role, asset=card.asset)


def cache_champions(var_dir: Path, candidates: Sequence[Candidate], origin: str = NOWHERE) -> None:
    """Leave packages in the disk cache as a service would that had served them before the registry went away."""
    cache = ModelCache(var_dir / "models-cache", origin)
    entries = [entry_of(candidate.card) for candidate in candidates]
    for entry, candidate in zip(entries, candidates, strict=True):
        servable.write(candidate, cache.directory(entry))
    cache.keep(entries)


class FolderRegistry:
    """Versions in memory, packages in a folder; `away` makes it fail as a registry does."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.champions: dict[str, tuple[Card, str]] = {}
        self.challengers: dict[str, str] = {}
        self.created_ms = 0
        self.away = False
        self.artifacts_away = False
        self.fetches = 0

    def register(self, candidate: Candidate, version: str = "1") -> Path:
        """Add a version and make it champion; returns the package's folder."""
        self.champions[candidate.card.name] = (candidate.card, version)
        return servable.write(candidate, self.root / candidate.card.name / version)

    def challenge(self, candidate: Candidate, version: str) -> Path:
        """Add a version and make it challenger; returns the package's folder."""
        self.challengers[candidate.card.name] = version
        return servable.write(candidate, self.root / candidate.card.name / version)

    def served(self) -> list[Served]:
        if self.away:
            raise RegistryError("The registry does not answer.")
        return [
            Served(
                name,
                version,
                "champion",
                card.task,
                card.role,
                card.asset,
                self.created_ms,
                challenger=self.challengers.get(name),
            )
            for name, (card, version) in self.champions.items()
        ]

    def fetch(self, name: str, version: str, destination: Path) -> Path:
        if self.away or self.artifacts_away:
            raise RegistryError("The artifacts do not answer.")
        self.fetches += 1
        return Path(shutil.copytree(self.root / name / version, destination))


@dataclass(frozen=True)
class RunningApi:
    """A served API: a client bound to it, its process and its log."""

    http: httpx.Client
    process: subprocess.Popen[bytes]
    log: Path

    def lines(self) -> list[dict[str, object]]:
        """Its log so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def line_of(self, request_id: str) -> dict[str, object]:
        """The one log line of a request; it is written after the answer has gone out."""
        wait_until(lambda: any(line["request_id"] == request_id for line in self.lines()), 5, self.log)
        (line,) = [line for line in self.lines() if line["request_id"] == request_id]
        return line

    def wait_ready(self, seconds: float = 60) -> None:
        """Wait until a model is in service."""
        wait_until(lambda: self.http.get("/health/ready").status_code == 200, seconds, self.log)


@contextmanager
def running_api(var_dir: Path, environment: Mapping[str, str], *, ready: bool = True) -> Iterator[RunningApi]:
    """Start `python -m almenara_api` on a free port; SIGTERM at the end.

    Args:
        var_dir: its var directory.
        environment: further variables; a registry that is away unless MLFLOW_TRACKING_URI is among them.
        ready: wait until a model is in service.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    var_dir.mkdir(parents=True, exist_ok=True)
    settings = {"ALMENARA_VAR_DIR": str(var_dir), "MLFLOW_TRACKING_URI": NOWHERE, **environment}
    command = [sys.executable, "-m", "almenara_api", "--port", str(port)]
    log = var_dir / "api.log"
    live = f"{url}/health/live"
    with (
        servers.running(command, log, ready=lambda: answers(live), environment=settings) as process,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        api = RunningApi(client, process, log)
        if ready:
            api.wait_ready()
        yield api


def wait_until(condition: Callable[[], bool], seconds: float, log: Path | None = None) -> None:
    """Poll a condition; AssertionError with the end of the log when the time is over."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} s" + (f":\n{log.read_text()[-3000:]}" if log else ""))
        time.sleep(0.05)


def reported(source: str, at: datetime, origin: str = "worker-1") -> Report:
    """What a worker reports when it raises its first alarm of a source, with one file that is not here."""
    key, alarm_id = str(uuid.uuid4()), str(uuid.uuid4())
    frame = EvidenceFile(
        name="frame.jpg", uri=f"/elsewhere/{alarm_id}/frame.jpg", sha256="0" * 64, size=10, media_type="image/jpeg"
    )
    alarm = AlarmRecord(
        id=alarm_id,
        origin=origin,
        revision=1,
        source=source,
        kind="vision",
        priority="high",
        phase=Phase.UNACKNOWLEDGED,
        score=0.9,
        peak=0.9,
        reason="",
        model=None,
        evidence=(frame,),
        raised_at=at,
        idempotency_key=key,
    )
    transition = Transition(
        key=key,
        origin=origin,
        source=source,
        alarm_id=alarm_id,
        change=Change.RAISED,
        previous=Phase.PENDING,
        phase=Phase.UNACKNOWLEDGED,
        at=at,
        anomaly=0.9,
        reason="",
    )
    return Report(transition=transition, alarm=alarm)


def healthy_signal(seed: int, samples: int = 12_000) -> NDArray[np.float32]:
    """One second of a quiet machine at 12 kHz: a shaft line in white noise."""
    time_s = np.arange(samples) / 12_000
    noise = np.random.default_rng(seed).normal(0, 0.1, samples)
    return (noise + 0.05 * np.sin(2 * np.pi * 29.5 * time_s)).astype(np.float32)


def healthy_features() -> NDArray[np.float32]:
    """What a baseline of the quiet machine is learnt from: one row a signal."""
    spec = classifier_candidate().card.input
    assert isinstance(spec, BearingFeaturesInput)
    rows = [
        vibration.prepare(healthy_signal(seed), 12_000, 1772, bearing("6205-2RS"), spec).features for seed in range(12)
    ]
    return np.concatenate(rows)


def faulty_signal(seed: int, samples: int = 12_000) -> NDArray[np.float32]:
    """The same machine struck 160 times a second, each impact ringing at 3 kHz."""
    ring = np.exp(-np.arange(200) / 30) * np.sin(2 * np.pi * 3000 * np.arange(200) / 12_000)
    train = np.zeros(samples)
    train[::75] = 3
    return (healthy_signal(seed, samples) + np.convolve(train, ring)[:samples]).astype(np.float32)
