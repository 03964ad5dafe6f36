"""``python -m benchmarks.serving.floor``: what the same work costs without any server, in as many threads as cores.

Decoding, features and graph of one request, called again and again. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from almenara import servable
from almenara.contracts import ModelRef
from almenara.vibration.simulate import DEMO_RPM
from almenara.vision import images
from benchmarks.serving.models import BEARING, RATE_HZ, SLUDGE, WINDOW_SAMPLES, picture, signal

_MAX_PIXELS = 25_000_000


def job(package: Path) -> Callable[[], object]:
    """The work behind one request for the package's model."""
    loaded, ref = servable.load(package), ModelRef(name=package.name, version="1")
    if package.name == SLUDGE:
        vision, body = servable.VisionModel(loaded, ref), picture()

        def judge() -> object:
            return vision.predict(images.decode(body, max_pixels=_MAX_PIXELS)).verdict.model_dump_json()
    else:
        vibration, raw = servable.VibrationModel(loaded, ref), signal(WINDOW_SAMPLES[package.name]).tobytes()

        def judge() -> object:
            window = np.frombuffer(raw, "<f4")
            return vibration.predict(window, RATE_HZ, shaft_rpm=DEMO_RPM, bearing=BEARING).model_dump_json()

    return judge


def measure(work: Callable[[], object], threads: int, seconds: float) -> dict[str, float]:
    """How often the work is done in a while, and for how long a single thread is busy with one."""
    work()
    begin = time.perf_counter()
    alone = 0
    while time.perf_counter() - begin < min(1.0, seconds):
        work()
        alone += 1
    single = (time.perf_counter() - begin) / alone
    counts, over = [0] * threads, threading.Event()

    def repeat(index: int) -> None:
        while not over.is_set():
            work()
            counts[index] += 1

    workers = [threading.Thread(target=repeat, args=(index,)) for index in range(threads)]
    begin, cpu = time.perf_counter(), time.process_time()
    for worker in workers:
        worker.start()
    time.sleep(seconds)
    over.set()
    for worker in workers:
        worker.join()
    passed, cpu = time.perf_counter() - begin, time.process_time() - cpu
    return {"rate": sum(counts) / passed, "per_cpu_second": sum(counts) / cpu, "single_ms": 1e3 * single}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.floor", description=__doc__)
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=3.0)
    told = parser.parse_args()
    print(json.dumps(measure(job(told.package), os.cpu_count() or 1, told.seconds)))


if __name__ == "__main__":
    main()
