"""Question 1: how soon does the worker say that it is blind, and how soon does it see again?"""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from benchmarks.camera.processes import READY_SECONDS, Api, Simulator, Worker, started
from benchmarks.harness import Bench, Result, Trials, percentile

DETECTION_SECONDS = 3.5
RECOVERY_SECONDS = 2.0

_KINDS = ("stall", "reset", "refuse", "unauthorised")  # and `slow`, which shows on connecting only
_LANES = 4
_PATIENCE_SECONDS = 15.0
_GLANCE_SECONDS = 0.05


def blindness(bench: Bench) -> list[Result]:
    """Faults switched at a running camera, and the worker's own log line that it is not live."""
    each = bench.repeat(10, 1)
    by_kind = {kind: bench.trials() for kind in _KINDS}
    with Api() as api:
        with _lanes(bench, api) as (simulators, worker):

            def fault(lane: int, number: int) -> None:
                kind = _KINDS[(number + lane) % len(_KINDS)]
                _detect(worker, f"lane-{lane}", simulators[lane], kind, by_kind[kind])
                bench.progress.step(sum(trials.count for trials in by_kind.values()), each * len(_KINDS))

            _share_out(fault, each * len(_KINDS))
        by_kind["slow"] = _silent_describe(bench, api, each)
    every = list(by_kind.values())
    times, net = ([seconds for trials in every for seconds in getattr(trials, what)] for what in ("values", "net"))
    figures = _figures(times, net) | {
        f"{kind}_{name}": figure
        for kind, trials in by_kind.items()
        for name, figure in _figures(trials.values, trials.net).items()
        if name != "p50_s"
    }
    count, void = (sum(getattr(trials, what) for trials in every) for what in ("count", "void"))
    target = f"p95 of the time until a fault is said <= {DETECTION_SECONDS:g} s"
    return [Result("blindness", target, figures, figures["p95_s"] <= DETECTION_SECONDS, count, void)]


def restarts(bench: Bench) -> list[Result]:
    """The camera's process killed and started again on its port after .5 to 5 s.

    A new process begins with a key frame, so that there is none to wait for.
    """
    trials = bench.trials()
    with Api() as api, _lanes(bench, api) as (simulators, worker):

        def restart(lane: int, _: int) -> None:
            simulator = simulators[lane]
            simulator.kill()
            time.sleep(random.uniform(0.0, 3.5))  # and the start of the process takes a second or so
            listens = simulator.start().at
            scored = worker.scored(f"lane-{lane}", after=listens, seconds=_PATIENCE_SECONDS)
            trials.add(listens, time.monotonic(), [scored - listens if scored else math.inf])
            bench.progress.step(trials.count, bench.repeat(100, 5))
            time.sleep(random.uniform(0.5, 1.0))

        _share_out(restart, bench.repeat(100, 5))
    in_time = sum(seconds <= RECOVERY_SECONDS for seconds in trials.values)
    figures = {"in_time": in_time, "counted": len(trials.values), **_figures(trials.values, trials.net)}
    target = f"scored again <= {RECOVERY_SECONDS:g} s after it listens, each time"
    return [Result("restarts", target, figures, in_time == len(trials.values), trials.count, trials.void)]


@contextlib.contextmanager
def _lanes(bench: Bench, api: Api) -> Iterator[tuple[list[Simulator], Worker]]:
    """Several cameras on one worker with default timeouts, all scored; they let it wait for the next key frame."""
    with contextlib.ExitStack() as stack:
        simulators = started(stack, [Simulator({"keyframe-on-play": False}) for _ in range(_LANES)])
        # A camera that refused the credentials is asked again soon, for the next trial's sake.
        cameras = {
            f"lane-{lane}": {"source": simulator.url, "unauthorised_retry": "1s"}
            for lane, simulator in enumerate(simulators)
        }
        worker = stack.enter_context(Worker(bench, api, cameras))
        worker.wait_scored(list(cameras))
        yield simulators, worker


def _share_out(work: Callable[[int, int], None], times: int) -> None:
    """Calls `work(lane, number)` so many times in all; the lanes work side by side, each one thing after the other."""

    def lane_work(lane: int) -> None:
        for number in range(times // _LANES + (lane < times % _LANES)):
            work(lane, number)

    with ThreadPoolExecutor(_LANES) as pool:
        for done in [pool.submit(lane_work, lane) for lane in range(_LANES)]:
            done.result()


def _detect(worker: Worker, name: str, simulator: Simulator, kind: str, trials: Trials) -> None:
    """One trial; failed when the fault is not said, or the camera does not come back afterwards."""
    time.sleep(random.uniform(0.0, 0.5))  # so that trials fall anywhere in the worker's turn
    losses = worker.counters(name)["losses"]
    switched = simulator.switch(kind)
    if kind == "reset":  # heals at once: what counts is that the loss was noticed
        said = _noticed_loss(worker, name, losses, switched)
    else:
        said = worker.became(name, after=switched, seconds=_PATIENCE_SECONDS)
    end = time.monotonic()
    healed = simulator.switch("none")
    back = worker.scored(name, after=healed + 0.2, seconds=READY_SECONDS)
    trials.add(switched, end, [said - switched if said and back else math.inf])


def _noticed_loss(worker: Worker, name: str, losses: int, switched: float) -> float | None:
    """When the worker logged that it is not live or counted a loss, whichever came first."""
    while time.monotonic() < switched + _PATIENCE_SECONDS:
        if said := worker.became(name, after=switched, seconds=_GLANCE_SECONDS):
            return said
        if worker.counters(name)["losses"] > losses:
            return time.monotonic()
    return None


def _silent_describe(bench: Bench, api: Api, times: int) -> Trials:
    """Connections to a camera that accepts and then says nothing, from the line that each begins to the bad news."""
    trials = bench.trials()
    with Simulator() as simulator:
        simulator.switch("slow")
        names = [f"silent-{number}" for number in range(times)]
        with Worker(bench, api, {name: {"source": simulator.url} for name in names}) as worker:
            for name in names:
                began = worker.became(name, "connecting", after=0.0, seconds=READY_SECONDS)
                if began is None:
                    raise RuntimeError(f"the worker never said that {name} is connecting")
                said = worker.became(name, after=began, seconds=_PATIENCE_SECONDS)
                trials.add(began, time.monotonic(), [said - began if said else math.inf])
    return trials


def _figures(times: list[float], net: list[float]) -> dict[str, float]:
    return {
        "p50_s": percentile(times, 50),
        "p95_s": percentile(times, 95),
        "max_net_s": max(net, default=math.nan),
    }
