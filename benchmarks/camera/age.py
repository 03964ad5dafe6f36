"""Question 2: how old is a picture when it is posted, and does one camera's trouble make the others' older?"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.camera.processes import Api, Simulator, Worker, started
from benchmarks.harness import Bench, Child, Result, Trials, module, percentile, ratio

SAMPLED_FPS = 5
SLOW_MODEL_SECONDS = 4 / SAMPLED_FPS
P99_SECONDS, MOST_SECONDS = 0.3, 1.0
MOST_CHANGE = 1.10

_CAMERA_FPS = 13  # no multiple of the sampling rate, so that their phases drift through each other
_CAMERAS = 5
_SETTLE_SECONDS = 1.0


def same_against_same(bench: Bench) -> list[Result]:
    """Our own worker, healthy and undisturbed, in alternating periods: what differs here is the machine's."""
    periods: tuple[list[float], list[float]] = ([], [])
    spent: tuple[list[float], list[float]] = ([], [])
    trials = bench.trials()
    with Api() as api, _camera() as simulator, _worker(bench, api, [simulator]) as worker:
        time.sleep(_SETTLE_SECONDS)
        for number in range(bench.repeat(12, 2)):
            before = worker.cpu_seconds()
            if ages := _period(api, trials, bench.seconds(5, 3)):
                periods[number % 2].extend(ages)
                spent[number % 2].append(worker.cpu_seconds() - before)
    figures = {
        "age_p99_ratio": ratio(percentile(periods[1], 99), percentile(periods[0], 99)),
        "cpu_ratio": ratio(percentile(spent[1], 50), percentile(spent[0], 50)),
    }
    return [Result("same_against_same", "", figures, None, trials.count, trials.void)]


def age(bench: Bench) -> list[Result]:
    """Behind a model four times slower than the sampling turn, beside OpenCV's read loop in the same place."""
    trials = bench.trials()
    with Api() as api, _camera() as simulator:
        with _worker(bench, api, [simulator]):
            api.set(delay=SLOW_MODEL_SECONDS)
            time.sleep(2 * SLOW_MODEL_SECONDS)
            for done in range(bench.repeat(12, 1)):
                _period(api, trials, bench.seconds(10, 6))
                bench.progress.step(done + 1, bench.repeat(12, 1))
        naive = _naive(simulator.url, bench.seconds(30, 6))
    posted, net = trials.values, max(trials.net, default=math.nan)
    figures = {
        "p50_s": percentile(posted, 50),
        "p99_s": percentile(posted, 99),
        "max_net_s": net,
        "posted": len(posted),
        "naive_p99_s": percentile(naive, 99),
        "naive_max_s": max(naive, default=math.nan),
    }
    met = figures["p99_s"] <= P99_SECONDS and net <= MOST_SECONDS
    target = f"p99 <= {P99_SECONDS:g} s, max <= {MOST_SECONDS:g} s, model taking {SLOW_MODEL_SECONDS:g} s"
    return [Result("age_when_posted", target, figures, met, trials.count, trials.void)]


def isolation(bench: Bench) -> list[Result]:
    """Five cameras: the ages of four, while all are healthy (twice) and while the fifth is stalled."""
    kinds = ("healthy", "healthy again", "stalled")
    ages: dict[str, list[float]] = {kind: [] for kind in kinds}
    trials = bench.trials()
    rounds = bench.repeat(6, 1)
    with contextlib.ExitStack() as stack:
        api = stack.enter_context(Api())
        simulators = started(stack, [_camera(320, 240) for _ in range(_CAMERAS)])
        worker = stack.enter_context(_worker(bench, api, simulators))
        last, others = f"camera-{_CAMERAS - 1}", [f"camera-{number}" for number in range(_CAMERAS - 1)]
        time.sleep(_SETTLE_SECONDS)
        for done in range(rounds):
            for kind in kinds:
                if kind == "stalled":
                    simulators[-1].switch("stall")
                ages[kind] += _period(api, trials, bench.seconds(12, 4), others)
            healed = simulators[-1].switch("none")
            worker.wait_scored([last], after=healed + 0.1)
            bench.progress.step(done + 1, rounds)
    p99 = {kind: percentile(found, 99) for kind, found in ages.items()}
    rates = {kind: len(found) for kind, found in ages.items()}
    change = ratio(p99["stalled"], p99["healthy"])
    figures = {
        "p99_healthy_s": p99["healthy"],
        "p99_stalled_s": p99["stalled"],
        "p99_ratio": change,
        "same_against_same": ratio(p99["healthy again"], p99["healthy"]),
        "scored_ratio": ratio(rates["stalled"], rates["healthy"]),
    }
    target = f"p99 of four cameras x < {MOST_CHANGE:g} while the fifth is stalled"
    return [Result("isolation", target, figures, change < MOST_CHANGE, trials.count, trials.void)]


def _camera(width: int = 640, height: int = 480) -> Simulator:
    return Simulator({"width": width, "height": height, "fps": _CAMERA_FPS})


def _worker(bench: Bench, api: Api, simulators: Sequence[Simulator]) -> Worker:
    cameras = {
        f"camera-{number}": {"source": simulator.url, "fps": SAMPLED_FPS} for number, simulator in enumerate(simulators)
    }
    worker = Worker(bench, api, cameras)
    try:
        worker.wait_scored(list(cameras))
    except BaseException:
        worker.stop()
        raise
    return worker


def _period(api: Api, trials: Trials, seconds: float, models: Sequence[str] = ()) -> list[float]:
    """Ages of what is posted for so long, of these models or of all; nothing when the trial is void."""
    api.records()
    start = time.monotonic()
    time.sleep(seconds)
    ages = [record["age"] for record in api.records() if _counts(record, models)]
    if not ages:
        raise RuntimeError("the worker posted no picture whose time code can be read")
    return ages if trials.add(start, time.monotonic(), ages) else []


def _counts(record: dict[str, Any], models: Sequence[str]) -> bool:
    return record["age"] is not None and (not models or record["model"] in models)


def _naive(url: str, seconds: float) -> list[float]:
    arguments = (url, "--model", str(SLOW_MODEL_SECONDS), "--seconds", str(seconds))
    with Child(module("benchmarks.camera.naive", *arguments), name="the read loop") as child:
        child.need(lambda text: text == "end", log=False, seconds=seconds + 60)
        return [float(line.text) for line in child.out if line.text != "end"]
