"""What every benchmark shares: an idle ticker, trials that a busy machine voids, results, children that are read."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
import textwrap
import threading
import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
MOST_DELAY_SECONDS = 0.020
"""A trial during which the idle ticker was later than this (p99) says more of the machine than of the system."""
MOST_VOID_SHARE = 0.2

Figure = float | int | str | None
Verdict = Literal["met", "not met", "inconclusive", "printed", "not judged"]

_TICK_SECONDS = 0.005
_PATIENCE_SECONDS = 10.0


class Ticker:
    """A thread that wants to wake every 5 ms and notes how late the machine lets it; a context manager."""

    def __init__(self) -> None:
        self._due, self._woke = array("d"), array("d")
        self._pending = math.inf
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="ticker", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _tick(self) -> None:
        while not self._stop.is_set():
            self._pending = due = time.monotonic() + _TICK_SECONDS
            time.sleep(_TICK_SECONDS)
            self._woke.append(time.monotonic())
            self._due.append(due)

    def p99(self, start: float = 0.0, end: float = math.inf) -> float:
        """Seconds that 99 % of the wake-ups between two monotonic times were late at most; not a number without any."""
        return percentile([woke - due for due, woke in self._between(start, end)], 99)

    def worst(self, start: float, end: float) -> float:
        """Seconds between two monotonic times that the latest wake-up was overdue."""
        overdue = (min(woke, end) - max(due, start) for due, woke in self._between(start, end))
        return max(overdue, default=0.0)

    def _between(self, start: float, end: float) -> list[tuple[float, float]]:
        """When wake-ups were due and came that were late at any time in between, the one still to come included."""
        count = len(self._due)
        first = bisect_left(self._woke, start, 0, count)
        last = bisect_right(self._due, end, first, count)
        found = list(zip(self._due[first:last], self._woke[first:last], strict=True))
        due, now = self._pending, time.monotonic()
        return [*found, (due, now)] if due <= min(end, now) and start <= now else found


@dataclass
class Trials:
    """What was measured in repeated trials, and how many of them the machine's own delay made void.

    Attributes:
        values: of the trials that count; infinite where what was waited for did not come.
        net: the same, less the ticker's longest delay meanwhile.
        count: how many trials there were.
        void: trials that do not count.
        lenient: whether the values of void trials are kept, as in a quick run, which judges nothing.
    """

    ticker: Ticker
    lenient: bool = False
    values: list[float] = field(default_factory=list)
    net: list[float] = field(default_factory=list)
    count: int = 0
    void: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(
        self, start: float, end: float, values: Sequence[float], spans: Sequence[tuple[float, float]] | None = None
    ) -> bool:
        """Takes the values of a trial that lasted between two monotonic times.

        What never came (an infinite value) is not the machine's doing: such a trial is never void.

        Args:
            start, end: of the trial.
            values: seconds that something took.
            spans: when each of them began and ended; with the trial by default.

        Returns:
            Whether the values are kept.
        """
        void = not self.ticker.p99(start, end) <= MOST_DELAY_SECONDS and not any(map(math.isinf, values))
        delays = [self.ticker.worst(*span) for span in spans or [(start, end)] * len(values)]
        kept = self.lenient or not void
        with self._lock:
            self.count += 1
            self.void += void
            if kept:
                self.values.extend(values)
                self.net.extend(value - delay for value, delay in zip(values, delays, strict=True))
        return kept


@dataclass(frozen=True)
class Result:
    """The answer to one question.

    Attributes:
        name: key of the answer in the JSON line.
        target: what was promised; empty when the figures are only printed.
        figures: name with unit -> value; None where nothing could be measured.
        met: whether the figures keep the promise; None without one.
        trials: how many there were, void ones included.
        void: how many of them the machine made void.
        doubtful: whether the same against the same differs so much that the figures prove nothing.
    """

    name: str
    target: str
    figures: Mapping[str, Figure]
    met: bool | None = None
    trials: int = 0
    void: int = 0
    doubtful: bool = False

    def verdict(self, *, quick: bool) -> Verdict:
        if self.met is None:
            return "printed"
        if quick:
            return "not judged"
        if self.doubtful or self.void > MOST_VOID_SHARE * self.trials:
            return "inconclusive"
        return "met" if self.met else "not met"

    def as_json(self, *, quick: bool) -> dict[str, object]:
        figures = {name: _json_figure(value) for name, value in self.figures.items()}
        told = {"target": self.target, "verdict": self.verdict(quick=quick), "trials": self.trials, "void": self.void}
        return {**told, "figures": figures}


class Progress:
    """A bar on stderr for a number of stages; redrawn on a terminal, a line where a stage begins or ends elsewhere."""

    def __init__(self, stages: int) -> None:
        self._stages = stages
        self._shares: dict[str, float] = {}
        self._start = time.monotonic()
        self._lock = threading.Lock()

    def stage(self, name: str) -> Stage:
        self.step(name, 0, 1)
        return Stage(self, name)

    def step(self, name: str, done: int, total: int) -> None:
        """So much of a stage is done."""
        with self._lock:
            self._shares[name] = done / max(1, total)
            share = sum(self._shares.values()) / self._stages
            bar = "#" * round(24 * share)
            text = f"[{bar:.<24}] {share:4.0%} {time.monotonic() - self._start:5.0f} s  {name} {done}/{total}"
            if sys.stderr.isatty():
                sys.stderr.write(f"\r\033[K{text}")
            elif done in {0, total}:
                sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


@dataclass(frozen=True)
class Stage:
    """One stage of the progress, for whoever does its work."""

    progress: Progress
    name: str

    def step(self, done: int, total: int) -> None:
        """So much of it is done."""
        self.progress.step(self.name, done, total)


@dataclass(frozen=True)
class Bench:
    """What every question of a benchmark is given: how thorough to be, the ticker, a folder to write in."""

    quick: bool
    ticker: Ticker
    progress: Stage
    folder: Path

    def repeat(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def seconds(self, full: float, quick: float) -> float:
        return quick if self.quick else full

    def trials(self) -> Trials:
        return Trials(self.ticker, lenient=self.quick)


@dataclass(frozen=True)
class Line:
    """A line that a child wrote, and when it was read (monotonic)."""

    at: float
    text: str


class Child:
    """A process whose lines are read as they come; a context manager that ends it.

    Args:
        command: program and arguments.
        folder: working directory.
        name: told when it fails.
    """

    def __init__(self, command: Sequence[str], *, folder: Path = ROOT, name: str = "child") -> None:
        self.name = name
        self.out: list[Line] = []
        self.log: list[Line] = []
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            list(command),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=_environment(),
            start_new_session=True,
        )
        pipes = ((self._process.stdout, self.out), (self._process.stderr, self.log))
        self._readers = [threading.Thread(target=self._read, args=pipe, daemon=True) for pipe in pipes]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu_seconds(self) -> float:
        """User and system time of the process so far."""
        used = psutil.Process(self.pid).cpu_times()
        return float(used.user + used.system)

    def wait_for(
        self, wanted: Callable[[str], object], *, after: float, seconds: float, log: bool = True
    ) -> Line | None:
        """The first line of the log (or of stdout) read after a monotonic time that is wanted; None if none comes."""
        lines, deadline = self.log if log else self.out, time.monotonic() + seconds
        with self._news:
            seen = bisect_left(lines, after, key=lambda line: line.at)
            while True:
                for line in lines[seen:]:
                    if line.at >= after and wanted(line.text):
                        return line
                seen = len(lines)
                left = deadline - time.monotonic()
                if left <= 0 or (self._process.poll() is not None and not any(map(_lives, self._readers))):
                    return None
                self._news.wait(min(left, 0.2))

    def need(
        self, wanted: Callable[[str], object], *, after: float = 0.0, seconds: float = 30.0, log: bool = True
    ) -> Line:
        """As `wait_for`, for a line that the measurement cannot do without; RuntimeError when it does not come."""
        if line := self.wait_for(wanted, after=after, seconds=seconds, log=log):
            return line
        last = "\n".join(line.text for line in self.log[-8:])
        raise RuntimeError(f"{self.name} did not say within {seconds:g} s what was waited for. Its last words:\n{last}")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Ends the process, by force when it takes longer than ten seconds."""
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        for reader in self._readers:
            reader.join(_PATIENCE_SECONDS)

    def _read(self, pipe: Iterable[str], lines: list[Line]) -> None:
        for text in pipe:
            line = Line(time.monotonic(), text.rstrip("\n"))
            with self._news:
                lines.append(line)
                self._news.notify_all()


def module(name: str, *arguments: str) -> list[str]:
    """The command that runs a module with this interpreter."""
    return [sys.executable, "-m", name, *arguments]


def percentile(values: Sequence[float], share: float) -> float:
    """The `share` percentile (0 to 100), nearest rank from above; not a number when there are no values."""
    return float(np.percentile(values, share, method="higher")) if len(values) else math.nan


def ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan


def report(
    benchmark: str, ticker: Ticker, results: Sequence[Result], *, quick: bool, more: Mapping[str, object] | None = None
) -> None:
    """Prints a table of the answers and, as the last line, the same as JSON, led by `more`."""
    machine, ticker_p99 = _machine(), ticker.p99()
    print(f"\n{benchmark}{' (quick)' if quick else ''} on {machine['cpu']}, {machine['cores']} cores")
    void = "void trials are in the figures" if quick else "void trials are not in the figures"
    print(f"scheduling delay of an idle ticker: p99 {1e3 * ticker_p99:.1f} ms; {void}\n")
    width = max(len(result.name) for result in results)
    for result in results:
        print(f"{result.name:<{width}}  {result.verdict(quick=quick):<12}  {result.target}".rstrip())
        for line in textwrap.wrap(_words(result), 96, break_on_hyphens=False):
            print(f"{'':<{width}}  {'':<12}  {line}")
    answers = {result.name: result.as_json(quick=quick) for result in results}
    idle = {"ticker_p99_ms": _json_figure(1e3 * ticker_p99)}
    told = {"benchmark": benchmark, "quick": quick, "machine": machine, **idle, "results": answers}
    print(json.dumps({**(more or {}), **told}))


def _machine() -> dict[str, Figure]:
    """What the figures depend on; no name of the machine or its user."""
    cpu = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        named = [line.partition(":")[2].strip() for line in facts.read_text().splitlines() if "model name" in line]
        cpu = next(iter(named), cpu)
    memory = round(psutil.virtual_memory().total / 2**30, 1)
    system = f"{platform.system()} {platform.release()}"
    cores = psutil.cpu_count()
    return {"cpu": cpu, "cores": cores, "memory_gib": memory, "system": system, "python": platform.python_version()}


def _environment() -> dict[str, str]:
    """This process's own, without what would configure the system under test from outside."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ALMENARA_")}
    return {**kept, "PYTHONUNBUFFERED": "1"}


def _words(result: Result) -> str:
    told = [f"{name}\N{NO-BREAK SPACE}{_short(value)}" for name, value in result.figures.items()]
    void = [f"void {result.void} of {result.trials}"] if result.void else []
    return ", ".join(told + void)


def _short(value: Figure) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _json_figure(value: Figure) -> Figure:
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value


def _lives(thread: threading.Thread) -> bool:
    return thread.is_alive()
