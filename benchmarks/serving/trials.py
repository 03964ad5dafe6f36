"""Rounds of trials: every server is asked in turn, again and again, so that a slow minute meets them all."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness import MOST_DELAY_SECONDS, ROOT, Bench, module
from benchmarks.serving.servers import READY_SECONDS, Running

_WARM_UP_SECONDS = 0.5
_CHILD_SECONDS = 120.0


@dataclass(frozen=True)
class Cell:
    """One request at one server from so many connections.

    Attributes:
        server: name of the server.
        ask: name of the request.
        connections: kept alive, each with one request under way.
        copy: tells the same cell from itself, for a comparison of the same with the same.
    """

    server: str
    ask: str
    connections: int
    copy: int = 0

    @property
    def name(self) -> str:
        return f"{self.server} {self.ask} c{self.connections}" + (" again" if self.copy else "")


@dataclass
class Seen:
    """What a cell's trials measured; one entry a trial that counts."""

    rates: list[float] = field(default_factory=list)
    per_cpu_second: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    client_share: list[float] = field(default_factory=list)
    trials: int = 0
    void: int = 0

    @property
    def rate(self) -> float:
        """Answers a second, the median of the trials."""
        return median(self.rates)

    @property
    def spread(self) -> float:
        """Between the slowest and the fastest trial, as a share of the median."""
        return (max(self.rates) - min(self.rates)) / self.rate if self.rates else math.nan


class Rounds:
    """Asks the cells in turn.

    Args:
        bench: how long, and the ticker.
        running: servers by name.
        asks: files with whole requests, by name.
    """

    def __init__(self, bench: Bench, running: Mapping[str, Running], asks: Mapping[str, Path]) -> None:
        self._bench, self._running, self._asks = bench, running, asks
        self.seconds = bench.seconds(4.0, 0.7)
        self.repeats = bench.repeat(5, 1)

    def measure(self, cells: Sequence[Cell]) -> dict[Cell, Seen]:
        """Every cell in every round; each round begins with another cell.

        Raises:
            RuntimeError: an answer was not 200.
        """
        for server, ask in dict.fromkeys((cell.server, cell.ask) for cell in cells):
            self._wait_served(server, ask)
        seen = {cell: Seen() for cell in cells}
        total = self.repeats * len(cells)
        for index in range(total):
            number, place = divmod(index, len(cells))
            cell = cells[(place + number) % len(cells)]
            self._trial(cell, seen[cell])
            self._bench.progress.step(index + 1, total)
        return seen

    def _wait_served(self, server: str, ask: str) -> None:
        """Until a server that is up has the model too."""
        deadline = time.monotonic() + READY_SECONDS
        while (told := self._load(Cell(server, ask, 1), 0.1, 0.1))["failures"]:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{server} does not answer {ask}: {told['first_failure']}")
            time.sleep(1)

    def _load(self, cell: Cell, warm_up: float, seconds: float) -> dict[str, Any]:
        own = ("--port", str(self._running[cell.server].port), "--request", str(self._asks[cell.ask]))
        times = ("--warm-up", str(warm_up), "--seconds", str(seconds))
        return child_json(module("benchmarks.serving.load", *own, *times, "--connections", str(cell.connections)))

    def _trial(self, cell: Cell, seen: Seen) -> None:
        server = self._running[cell.server]
        before, begin = server.cpu_seconds(), time.monotonic()
        told = self._load(cell, _WARM_UP_SECONDS, self.seconds)
        cpu = server.cpu_seconds() - before
        if told["failures"] or not told["answers"]:
            raise RuntimeError(f"{cell.name}: {told['failures']} failed: {told['first_failure']}\n{server.log()}")
        seen.trials += 1
        if not self._bench.ticker.p99(begin, time.monotonic()) <= MOST_DELAY_SECONDS:
            seen.void += 1
            if not self._bench.quick:
                return
        seen.rates.append(told["answers"] / told["seconds"])
        seen.per_cpu_second.append(told["all_answers"] / max(cpu, 0.01))
        seen.p50_ms.append(told["p50_ms"])
        seen.p99_ms.append(told["p99_ms"])
        seen.client_share.append(told["client_cpu_s"] / told["seconds"])


def floor(package: Path, seconds: float) -> dict[str, float]:
    """What the model does without a server."""
    arguments = ("--package", str(package), "--seconds", str(seconds))
    return child_json(module("benchmarks.serving.floor", *arguments), {"OPENBLAS_NUM_THREADS": "1"})


def child_json(command: Sequence[str], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The last line of a child that ends by itself."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=_CHILD_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:4])} failed:\n{done.stderr[-2000:]}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else math.nan
