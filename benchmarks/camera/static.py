"""Question 8: is a scene in which nothing moves ever taken for a frozen one?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import av

from benchmarks.harness import Bench, Figure, Result
from camera_worker.picture import Preparer
from camera_worker.quality import Condition
from camera_worker.simulator.encoder import H264Encoder
from camera_worker.simulator.scenes import PictureSource, noise, still
from camera_worker.slot import Frame
from camera_worker.view import View

_WIDTH, _HEIGHT, _FPS = 320, 176, 5
_KEYFRAME_SECONDS, _BIT_RATE = 2, 400_000
_FROZEN_AFTER_SECONDS = 8.0


def static(bench: Bench) -> list[Result]:
    """Pictures in file time, encoded, decoded and judged as the worker does it: with a sensor's noise, and without."""
    noisy_count, still_count = (_FPS * seconds for seconds in (bench.repeat(3600, 60), bench.repeat(300, 30)))
    noisy = _judged(bench, noise(seed=7, width=_WIDTH, height=_HEIGHT), noisy_count)
    quiet = _judged(bench, still(seed=7, width=_WIDTH, height=_HEIGHT), still_count)
    figures: dict[str, Figure] = {
        "noisy": noisy.total(),
        "noisy_flagged": noisy.total() - noisy[Condition.GOOD],
        "noise_free": quiet.total(),
        "noise_free_frozen": quiet[Condition.FROZEN],
        "noise_free_otherwise": quiet[Condition.BLACK] + quiet[Condition.BLURRED],
    }
    met = figures["noisy_flagged"] == 0 and figures["noise_free_otherwise"] == 0
    target = "no flag in an hour of a static noisy scene; a noise-free one is frozen at most"
    return [Result("static_scene", target, figures, met)]


def _judged(bench: Bench, pictures: PictureSource, count: int) -> Counter[Condition]:
    preparer, found = Preparer(View(), frozen_after=_FROZEN_AFTER_SECONDS), Counter[Condition]()
    for frame in _encoded(pictures, count):
        found[preparer.prepare(frame).condition] += 1
        if frame.sequence % 500 == 0 or frame.sequence == count:
            bench.progress.step(frame.sequence, count)
    return found


def _encoded(pictures: PictureSource, count: int) -> Iterator[Frame]:
    """So many pictures of a scene as H.264 leaves them, each at its time in seconds."""
    keyframes = _KEYFRAME_SECONDS * _FPS
    encoder = H264Encoder(_WIDTH, _HEIGHT, _FPS, keyframe_interval=keyframes, bit_rate=_BIT_RATE)
    decoder = av.VideoCodecContext.create("h264", "r")
    decoder.thread_count = 1
    for index in range(count):
        units = encoder.encode(pictures(index / _FPS))
        for decoded in decoder.decode(av.Packet(b"".join(b"\0\0\0\1" + unit for unit in units))):
            yield Frame(decoded, index / _FPS, datetime.now(UTC), 1, index + 1)
