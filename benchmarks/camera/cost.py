"""Question 5: what does a camera cost, and how much of that is decoding, which nobody can spare?"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

from benchmarks.camera.processes import Api, Simulator, Worker
from benchmarks.harness import Bench, Child, Result, module, ratio

MOST_RATIO = 1.5

_SAMPLED_FPS = 5
_LOOP_SECONDS = 4


@dataclass(frozen=True)
class Stream:
    """A camera's stream: its name, and width, height and pictures a second."""

    name: str
    width: int
    height: int
    fps: int


STREAMS = (Stream("720p15", 1280, 720, 15), Stream("1080p25", 1920, 1080, 25))


def cost(bench: Bench) -> list[Result]:
    """Processor time of the whole worker on one camera, beside decoding alone; alternating, in one run.

    Processor time and not wall time, so that a busy machine does not falsify it.
    """
    results = []
    with Api() as api:
        api.set(look=False)
        for stream in STREAMS:
            options = {"width": stream.width, "height": stream.height, "fps": stream.fps}
            with Simulator({**options, "scene": "noise", "loop": _LOOP_SECONDS}) as simulator:
                for keyframes in (False, True):
                    results.append(_compare(bench, simulator, api, stream, keyframes=keyframes))
                    bench.progress.step(len(results), 2 * len(STREAMS))
    return results


def _compare(bench: Bench, simulator: Simulator, api: Api, stream: Stream, *, keyframes: bool) -> Result:
    ours: list[float] = []
    decoding: list[float] = []
    scored: list[float] = []
    rounds = bench.repeat(3, 1)
    for number in range(2 * rounds):
        if number % 4 in {0, 3}:  # ours, decoding, decoding, ours
            spent, posted = _ours(bench, simulator, api, keyframes=keyframes)
            ours.append(spent)
            scored.append(posted)
        else:
            decoding.append(_decoding(bench, simulator, keyframes=keyframes))
    spent, alone = fmean(ours), fmean(decoding)
    figures = {
        "cpu_s_per_s": spent,
        "decoding_alone": alone,
        "ratio": ratio(spent, alone),
        "cameras_per_core": ratio(1.0, spent),
        "scored_per_s": fmean(scored),
    }
    name = f"cost_{stream.name}{'_keyframes' if keyframes else ''}"
    target = f"ratio to decoding alone <= {MOST_RATIO:g}, sampled at {_SAMPLED_FPS} a second"
    return Result(name, target, figures, figures["ratio"] <= MOST_RATIO, rounds)


def _ours(bench: Bench, simulator: Simulator, api: Api, *, keyframes: bool) -> tuple[float, float]:
    """Processor seconds and pictures posted a second of the worker, posting included."""
    frames = "keyframes" if keyframes else "all"
    camera = {"source": simulator.url, "fps": _SAMPLED_FPS, "frames": frames}
    with Worker(bench, api, {"camera": camera}) as worker:
        worker.wait_scored(["camera"])
        with _measured(bench, worker) as spent:
            api.records()
        posted = len(api.records())
    if not posted:
        raise RuntimeError("the worker posted nothing while its cost was measured")
    return spent[0], posted / spent[1]


def _decoding(bench: Bench, simulator: Simulator, *, keyframes: bool) -> float:
    """Processor seconds a second of a process that only decodes."""
    arguments = [simulator.url, *(["--keyframes"] if keyframes else [])]
    with Child(module("benchmarks.camera.decoding", *arguments), name="decoding alone") as child:
        child.need(lambda text: text == "decoding", log=False)
        with _measured(bench, child) as spent:
            pass
        return spent[0]


@contextlib.contextmanager
def _measured(bench: Bench, child: Child) -> Iterator[list[float]]:
    """Once settled, enters the block and measures from there: processor seconds a second, and seconds of it."""
    time.sleep(bench.seconds(2, 1))
    found: list[float] = []
    start, before = time.monotonic(), child.cpu_seconds()
    yield found
    time.sleep(bench.seconds(20, 4))
    seconds = time.monotonic() - start
    found += [(child.cpu_seconds() - before) / seconds, seconds]
