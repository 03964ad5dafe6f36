"""Challengers judge a copy of the traffic after its answer, in spare time, and are compared with their champions."""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pydantic import Field
from starlette.background import BackgroundTask

from almenara import servable
from almenara.contracts import Contract, Novelty, VibrationVerdict, VisionVerdict
from almenara.errors import AlmenaraError
from almenara_api.loading import Loaded, Model
from almenara_api.metrics import ShadowMetrics
from almenara_api.signals import Posted

_LOG = logging.getLogger(__name__)
_WAITING = 8
"""Requests that wait for spare time; each holds its input."""
_LOOK_SECONDS = 0.02
_REST = 9.0
"""Times as long as a comparison took: requests that arrive meanwhile share its core, so they are a tenth at most."""
_LATEST = 1000


@dataclass(frozen=True)
class Judgement:
    """What is compared: the label, and figures from 0 to 1 (`anomaly`, or a classifier's probabilities)."""

    label: str
    figures: Mapping[str, float]

    @classmethod
    def of(cls, verdict: VisionVerdict | VibrationVerdict | Novelty) -> Judgement:
        if isinstance(verdict, VibrationVerdict):
            return cls(verdict.label, verdict.probabilities)
        return cls(verdict.label, {"anomaly": verdict.anomaly})

    def difference(self, other: Judgement) -> float:
        """The largest of any figure; a label that one of the two does not know has probability 0 there."""
        names = self.figures.keys() | other.figures.keys()
        return max(abs(self.figures.get(name, 0.0) - other.figures.get(name, 0.0)) for name in names)


Judge = Callable[[Model], Sequence[Judgement]]
"""Lets a model judge the inputs of one request."""


class Comparison(Contract):
    """A challenger beside its champion since both are in service; both judge an input, one after the other."""

    requests: int = Field(default=0, description="compared")
    dropped: int = Field(default=0, description="requests for which there was no spare time")
    failed: int = Field(default=0, description="requests that the challenger could not judge")
    last_failure: str | None = None
    labels_differ: int = Field(default=0, description="inputs with another label; a request may have several inputs")
    mean_difference: float | None = Field(
        default=None, description="of `anomaly` (0 to 1; .5 is each one's own threshold) or of a class's probability"
    )
    largest_difference: float | None = None
    champion_p50_ms: float | None = Field(default=None, description="to judge one input, without waiting for a thread")
    challenger_p50_ms: float | None = None


@dataclass(frozen=True)
class _Job:
    champion: Model
    challenger: Loaded
    judge: Judge


@dataclass
class _Tally:
    """Of one challenger beside one version of its champion."""

    pair: tuple[str, Loaded]
    requests: int = 0
    dropped: int = 0
    failed: int = 0
    last_failure: str | None = None
    inputs: int = 0
    labels_differ: int = 0
    sum_of_differences: float = 0.0
    largest: float = 0.0
    champion_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_LATEST))
    challenger_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_LATEST))

    def comparison(self) -> Comparison:
        return Comparison(
            requests=self.requests,
            dropped=self.dropped,
            failed=self.failed,
            last_failure=self.last_failure,
            labels_differ=self.labels_differ,
            mean_difference=round(self.sum_of_differences / self.inputs, 6) if self.inputs else None,
            largest_difference=round(self.largest, 6) if self.inputs else None,
            champion_p50_ms=_median(self.champion_ms),
            challenger_p50_ms=_median(self.challenger_ms),
        )


class Shadow:
    """One thread that compares; a failing or slow challenger costs nothing but its own figures.

    Args:
        challengers: those in service, by name.
        spare: whether a core has nothing to do for requests.
        metrics: its instruments.
    """

    def __init__(
        self, challengers: Callable[[], Mapping[str, Loaded]], spare: Callable[[], bool], metrics: ShadowMetrics
    ) -> None:
        self._challengers, self._spare, self._metrics = challengers, spare, metrics
        self._jobs: queue.Queue[_Job | None] = queue.Queue(_WAITING)
        self._lock = threading.Lock()
        self._tallies: dict[str, _Tally] = {}
        self._turns = itertools.cycle((False, True))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Begin to compare."""
        self._thread.start()

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Drop what waits; a comparison that runs is left behind with its daemon thread."""
        self._stop.set()
        with contextlib.suppress(queue.Full):
            self._jobs.put_nowait(None)  # wakes it
        self._thread.join(timeout_seconds)

    def after_answer(self, judge: Judge, *champions: Model | None) -> BackgroundTask | None:
        """What a response is given to do once it is sent: hand its input to the challengers of the models that judged.

        None when none of them has a challenger.
        """
        there = self._challengers()
        jobs = [
            _Job(each, there[each.ref.name], judge) for each in champions if each is not None and each.ref.name in there
        ]
        return BackgroundTask(self._offer, jobs) if jobs else None

    def comparison(self, challenger: Loaded) -> Comparison:
        """How a challenger has compared so far."""
        with self._lock:
            tally = self._tallies.get(challenger.entry.name)
            return tally.comparison() if tally is not None and tally.pair[1] is challenger else Comparison()

    async def _offer(self, jobs: Sequence[_Job]) -> None:
        """Queue what fits; async, because a plain function would be given a thread."""
        for job in jobs:
            try:
                self._jobs.put_nowait(job)
            except queue.Full:
                with self._lock:
                    self._tally(job).dropped += 1
                self._count(job, "dropped")

    def _run(self) -> None:
        while not self._stop.is_set():
            job = self._jobs.get()
            while not self._spare() and not self._stop.is_set():
                self._stop.wait(_LOOK_SECONDS)
            if job is not None and not self._stop.is_set():
                begun = time.monotonic()
                self._compare(job)
                self._stop.wait(_REST * (time.monotonic() - begun))

    def _compare(self, job: _Job) -> None:
        try:
            challenger_first = next(self._turns)  # the second one meets the next request more often
            if challenger_first:
                theirs, challenger_seconds = _timed(job.judge, job.challenger.model)
            ours, champion_seconds = _timed(job.judge, job.champion)
            if not challenger_first:
                theirs, challenger_seconds = _timed(job.judge, job.challenger.model)
            differences = [one.difference(other) for one, other in zip(ours, theirs, strict=True)]
        except Exception as error:  # noqa: BLE001  whatever a challenger does, the next comparison must go on
            self._failed(job, error)
            return
        differ = sum(one.label != other.label for one, other in zip(ours, theirs, strict=True))
        entry = job.challenger.entry
        self._count(job, "compared")
        self._metrics.labels_differ.labels(entry.name, entry.version).inc(differ)
        for difference in differences:
            self._metrics.difference.labels(entry.name, entry.version).observe(difference)
        self._metrics.seconds.labels(entry.name, "champion").observe(champion_seconds)
        self._metrics.seconds.labels(entry.name, "challenger").observe(challenger_seconds)
        with self._lock:
            tally = self._tally(job)
            tally.requests += 1
            tally.inputs += len(differences)
            tally.labels_differ += differ
            tally.sum_of_differences += sum(differences)
            tally.largest = max(tally.largest, *differences)
            tally.champion_ms.append(champion_seconds * 1e3)
            tally.challenger_ms.append(challenger_seconds * 1e3)

    def _failed(self, job: _Job, error: Exception) -> None:
        reason = (error.fact if isinstance(error, AlmenaraError) else f"{type(error).__name__}: {error}")[:300]
        self._count(job, "failed")
        entry = job.challenger.entry
        with self._lock:
            tally = self._tally(job)
            tally.failed += 1
            if tally.last_failure != reason:
                _LOG.warning(
                    "a challenger failed", extra={"model": entry.name, "version": entry.version, "reason": reason}
                )
            tally.last_failure = reason

    def _tally(self, job: _Job) -> _Tally:
        """The figures of a job's pair; another version of either begins anew."""
        name, pair = job.challenger.entry.name, (job.champion.ref.version, job.challenger)
        tally = self._tallies.get(name)
        if tally is None or tally.pair != pair:
            tally = self._tallies[name] = _Tally(pair)
        return tally

    def _count(self, job: _Job, outcome: str) -> None:
        entry = job.challenger.entry
        self._metrics.requests.labels(entry.name, entry.version, outcome).inc()


def judge_pictures(files: Sequence[bytes], max_pixels: int) -> Judge:
    """Lets a vision model judge picture files."""

    def judge(model: Model) -> Sequence[Judgement]:
        assert isinstance(model, servable.VisionModel)  # noqa: S101  a name keeps its role
        decoded = (model.decode(file, max_pixels=max_pixels) for file in files)
        return [Judgement.of(model.predict(image).verdict) for image in decoded]

    return judge


def judge_signals(posted: Posted) -> Judge:
    """Lets a classifier or a baseline judge posted signals."""
    parameters = posted.parameters

    def judge(model: Model) -> Sequence[Judgement]:
        assert not isinstance(model, servable.VisionModel)  # noqa: S101  a name keeps its role
        return [
            Judgement.of(
                model.predict(
                    signal,
                    posted.sampling_rate_hz,
                    shaft_rpm=parameters.shaft_rpm,
                    bearing=parameters.bearing,
                    unit=parameters.unit,
                )
            )
            for signal in posted.signals
        ]

    return judge


def _timed(judge: Judge, model: Model) -> tuple[Sequence[Judgement], float]:
    """The judgements, and the seconds of each on average."""
    begun = time.perf_counter()
    judged = judge(model)
    return judged, (time.perf_counter() - begun) / len(judged)


def _median(values: Sequence[float]) -> float | None:
    return round(float(np.median(values)), 3) if values else None
