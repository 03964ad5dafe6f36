"""Question 3: what is wrong with a picture is said in time, and only sound pictures are scored."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.camera.processes import KEYFRAME_SECONDS, READY_SECONDS, Api, Simulator, Worker
from benchmarks.camera.reference import wrongly_posted
from benchmarks.harness import Bench, Child, Figure, Result, module, percentile, ratio

FLAGGED_SECONDS = 10.0
LEAST_SCORED_SHARE = 0.6
PACKET_LOSS = 0.02
CORRUPT_SHARE = 0.02
DISTORTED_LEVELS = 24.0
"""Grey levels; a picture with a tile whose mean differs by more from the first one shows traces that anybody sees."""

_SAMPLED_FPS = 5
_PATIENCE_SECONDS = 20.0
_RESIZED = (480, 360)
_EVERY_PICTURE_SECONDS = 0.05
_SETTLE_SECONDS = 1.0


def quality(bench: Bench) -> list[Result]:
    """Frozen and black pictures, corrupt ones, and a change of resolution."""
    with Api() as api, _watched(bench, api) as (simulator, worker):
        results = [_flagged(bench, simulator, worker, *kind) for kind in (("freeze", "frozen"), ("black", "black"))]
        results.append(_resize(bench, api, simulator))
    return [*results, _corrupt(bench)]


def loss(bench: Bench) -> list[Result]:
    """How many of the sampled turns are still scored when packets are lost, over TCP and over UDP.

    Kept out are the pictures that FFmpeg flags. Later ones build upon them and are not flagged: how many of the posted
    ones show traces is printed.
    """
    results = []
    for transport in ("tcp", "udp"):
        trials = bench.trials()
        distorted = posted = 0
        with Api() as api, _watched(bench, api, transport=transport) as (simulator, _):
            simulator.switch(f"drop={PACKET_LOSS:g}")
            for done in range(bench.repeat(6, 1)):
                api.records()
                start = time.monotonic()
                time.sleep(bench.seconds(10, 5))
                records, seconds = api.records(), time.monotonic() - start
                if trials.add(start, start + seconds, [len(records) / (seconds * _SAMPLED_FPS)]):
                    posted += len(records)
                    distorted += sum(_distorted(record) for record in records)
                bench.progress.step(done + 1, bench.repeat(6, 1))
        share = sum(trials.values) / len(trials.values) if trials.values else math.nan
        figures = {"scored_share": share, "traces_share": ratio(distorted, posted)}
        target = f">= {LEAST_SCORED_SHARE:.0%} of the turns scored, {PACKET_LOSS:.0%} of the packets lost"
        target += "; only what FFmpeg flags is kept out"
        met = share >= LEAST_SCORED_SHARE
        results.append(Result(f"loss_{transport}", target, figures, met, trials.count, trials.void))
    return results


@contextlib.contextmanager
def _watched(
    bench: Bench, api: Api, *, transport: str = "tcp", keyframe_interval: float = KEYFRAME_SECONDS
) -> Iterator[tuple[Simulator, Worker]]:
    options = {"width": 640, "height": 480, "fps": 15, "keyframe-interval": keyframe_interval}
    with Simulator(options) as simulator:
        camera = {"source": simulator.url, "fps": _SAMPLED_FPS, "transport": transport}
        with Worker(bench, api, {"camera": camera}) as worker:
            worker.wait_scored(["camera"])
            yield simulator, worker


def _flagged(bench: Bench, simulator: Simulator, worker: Worker, fault: str, state: str) -> Result:
    trials = bench.trials()
    for done in range(bench.repeat(10, 1)):
        start = simulator.switch(fault)
        said = worker.became("camera", state, after=start, seconds=_PATIENCE_SECONDS)
        end = time.monotonic()
        healed = simulator.switch("none")
        back = worker.scored("camera", after=healed + 0.3, seconds=READY_SECONDS)
        trials.add(start, end, [said - start if said and back else math.inf])
        bench.progress.step(done + 1, bench.repeat(10, 1))
    worst = max(trials.net, default=math.nan)
    figures = {"p50_s": percentile(trials.values, 50), "max_net_s": worst}
    target = f"said to be {state} in <= {FLAGGED_SECONDS:g} s"
    return Result(f"flagged_{state}", target, figures, worst <= FLAGGED_SECONDS, trials.count, trials.void)


def _corrupt(bench: Bench) -> Result:
    """Bytes flipped in some packets: what is posted is what a reader beside the worker decoded without a flag.

    Judged on a camera whose pictures are all key frames, where damage stays in the picture that the decoder flags.
    Printed is how many of the posted pictures show traces all the same, because the decoder did not notice the damage,
    or because a picture before them was damaged where a key frame comes every two seconds only.
    """
    seconds = bench.seconds(60, 6)
    alone = _posted_damaged(bench, seconds, _EVERY_PICTURE_SECONDS)
    between = _posted_damaged(bench, seconds / 2, KEYFRAME_SECONDS)
    figures: dict[str, Figure] = {
        "wrongly_posted": alone.wrong,
        "posted": alone.posted,
        "flagged": alone.flagged,
        "scored_share": alone.posted / (seconds * _SAMPLED_FPS),
        "unnoticed_share": ratio(alone.distorted, alone.posted),
        "traces_share": ratio(between.distorted, between.posted),
    }
    target = f"no picture that the decoder flags is posted, {CORRUPT_SHARE:.0%} of the packets corrupt"
    met = alone.wrong == 0 and min(alone.flagged, alone.posted) > 0
    return Result("corrupt", target, figures, met, 1)


@dataclass(frozen=True)
class _Posted:
    """What became of the pictures of a camera with corrupt packets.

    Attributes:
        posted: how many pictures were posted.
        wrong: how many of them the reference reader did not see sound.
        distorted: how many of them show traces that anybody sees.
        flagged: pictures that the reference reader saw damaged.
    """

    posted: int
    wrong: int
    distorted: int
    flagged: int


def _posted_damaged(bench: Bench, seconds: float, keyframe_interval: float) -> _Posted:
    with (
        Api() as api,
        _watched(bench, api, keyframe_interval=keyframe_interval) as (simulator, _),
        Child(module("benchmarks.camera.reference", simulator.url), name="the reference reader") as reference,
    ):
        reference.need(lambda text: text.endswith("sound"), log=False)
        simulator.switch(f"corrupt={CORRUPT_SHARE:g}")
        api.records()
        time.sleep(seconds)
        records = api.records()
        simulator.switch("none")
        time.sleep(_SETTLE_SECONDS)  # until the reference, too, has read what was posted
        lines = [line.text for line in reference.out]
    flagged = sum(line.endswith("flagged") for line in lines)
    return _Posted(len(records), wrongly_posted(records, lines), sum(map(_distorted, records)), flagged)


def _resize(bench: Bench, api: Api, simulator: Simulator) -> Result:
    trials = bench.trials()
    sizes = [_RESIZED, (640, 480)] * bench.repeat(5, 1)
    for size in sizes:
        api.records()
        start = simulator.switch("resize={}x{}".format(*size))
        took = _posted_in(api, size, start)
        trials.add(start, time.monotonic(), [took])
    followed = sum(math.isfinite(seconds) for seconds in trials.values)
    figures = {"followed": followed, "counted": len(trials.values), "max_net_s": max(trials.net, default=math.nan)}
    target = "each change of resolution followed"
    return Result("resize", target, figures, followed == len(trials.values), trials.count, trials.void)


def _posted_in(api: Api, size: tuple[int, int], start: float) -> float:
    """Seconds until a picture of this size was posted; infinite when none was in time."""
    while time.monotonic() < start + _PATIENCE_SECONDS:
        arrivals = [record["arrived"] for record in api.records() if (record["width"], record["height"]) == size]
        if arrivals:
            return float(arrivals[0]) - start
        time.sleep(0.1)
    return math.inf


def _distorted(record: dict[str, Any]) -> bool:
    difference = record["difference"]
    return record["age"] is None or difference is None or difference > DISTORTED_LEVELS
