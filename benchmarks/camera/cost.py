"""Question 5: what does a camera cost, and how much of that is decoding, which nobody can spare?"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.camera.processes import KEYFRAME_SECONDS, READY_SECONDS, Api, Simulator, Worker
from benchmarks.harness import Bench, Child, Result, module, ratio

MOST_RATIO = 1.5
LEAST_DECODED_SHARE = 0.98

_CAMERAS = 4
_SAMPLED_FPS = 5
_LOOP_SECONDS = 4
_LEAST_REPORTS = 2


@dataclass(frozen=True)
class Stream:
    """A camera's stream: its name, and width, height and pictures a second."""

    name: str
    width: int
    height: int
    fps: int


STREAMS = (Stream("720p15", 1280, 720, 15), Stream("1080p25", 1920, 1080, 25))


def cost(bench: Bench) -> list[Result]:
    """Processor time a camera of a worker with four of them, beside decoding alone; alternating, in one run.

    The streams are of the High profile, as cameras send them. Processor time and not wall time, so that a busy machine
    does not falsify it; a round in which pictures were left out is void.
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


@dataclass(frozen=True)
class _Round:
    """What was seen in one round; all of it a second and camera.

    Attributes:
        spent: processor seconds.
        decoded: pictures.
        seconds: how long it was looked at.
        scored: pictures that were posted.
    """

    spent: float
    decoded: float
    seconds: float
    scored: float = 0.0

    def counts(self, nominal: float) -> bool:
        """Whether as many pictures as are sent were decoded; one more or less lies on the edge."""
        return self.decoded * self.seconds >= LEAST_DECODED_SHARE * nominal * self.seconds - 1


def _compare(bench: Bench, simulator: Simulator, api: Api, stream: Stream, *, keyframes: bool) -> Result:
    nominal = 1 / KEYFRAME_SECONDS if keyframes else stream.fps
    ours: list[_Round] = []
    decoding: list[_Round] = []
    rounds, void = bench.repeat(3, 1), 0
    for number in range(2 * rounds):
        ours_next = number % 4 in {0, 3}  # ours, decoding, decoding, ours
        seen = (_ours if ours_next else _decoding)(bench, simulator, api, keyframes=keyframes)
        void += not seen.counts(nominal)
        if bench.quick or seen.counts(nominal):
            (ours if ours_next else decoding).append(seen)
    spent, alone = _mean([seen.spent for seen in ours]), _mean([seen.spent for seen in decoding])
    figures = {
        "cpu_s_per_s": spent,
        "decoding_alone": alone,
        "ratio": ratio(spent, alone),
        "cameras_per_core": ratio(1.0, spent),
        "decoded_per_s": _mean([seen.decoded for seen in ours]),
        "decoding_alone_per_s": _mean([seen.decoded for seen in decoding]),
        "scored_per_s": _mean([seen.scored for seen in ours]),
    }
    name = f"cost_{stream.name}{'_keyframes' if keyframes else ''}"
    target = f"ratio to decoding alone <= {MOST_RATIO:g}, sampled at {_SAMPLED_FPS} a second"
    return Result(name, target, figures, figures["ratio"] <= MOST_RATIO, 2 * rounds, void)


def _ours(bench: Bench, simulator: Simulator, api: Api, *, keyframes: bool) -> _Round:
    """The worker, posting included."""
    frames = "keyframes" if keyframes else "all"
    camera = {"source": simulator.url, "fps": _SAMPLED_FPS, "frames": frames}
    names = [f"camera-{number}" for number in range(_CAMERAS)]
    with Worker(bench, api, dict.fromkeys(names, camera), verdicts=False) as worker:

        def decoded() -> int:
            return sum(worker.counters(name)["frames"] for name in names)

        for name in names:
            if worker.became(name, "live", after=0.0, seconds=READY_SECONDS) is None:
                raise RuntimeError(f"{name} did not become live")
        time.sleep(bench.seconds(2, 1))
        api.records()
        first, began = decoded(), time.monotonic()
        spent, seconds = _spent(bench, worker)
        count, counted = decoded() - first, time.monotonic() - began
        scored = len(api.records())
    if not scored:
        raise RuntimeError("the worker posted nothing while its cost was measured")
    return _Round(spent / _CAMERAS, count / counted / _CAMERAS, seconds, scored / seconds / _CAMERAS)


def _decoding(bench: Bench, simulator: Simulator, _: Api, *, keyframes: bool) -> _Round:
    """A process that only decodes."""
    arguments = [simulator.url, str(_CAMERAS), *(["--keyframes"] if keyframes else [])]
    with Child(module("benchmarks.camera.decoding", *arguments), name="decoding alone") as child:
        began = child.need(lambda text: text == "decoding", log=False).at
        time.sleep(bench.seconds(2, 1))
        start = time.monotonic()
        spent, seconds = _spent(bench, child)
        told = [line.text.split() for line in list(child.out) if line.at >= max(start, began) and " " in line.text]
    if len(told) < _LEAST_REPORTS:
        raise RuntimeError("the process that only decodes did not say how many pictures it decoded")
    (start_at, first), (end_at, last) = [(float(at), int(count)) for at, count in (told[0], told[-1])]
    return _Round(spent / _CAMERAS, (last - first) / (end_at - start_at) / _CAMERAS, seconds)


def _spent(bench: Bench, child: Child) -> tuple[float, float]:
    """Processor seconds a second of a child from now on, and for how long it was looked at."""
    start, before = time.monotonic(), child.cpu_seconds()
    time.sleep(bench.seconds(20, 4))
    seconds = time.monotonic() - start
    return (child.cpu_seconds() - before) / seconds, seconds


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else math.nan
