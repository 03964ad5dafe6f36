"""What may leak, done over and over in one process: openings that fail, connections that break.

Run as a process: ``python -m benchmarks.camera.leaking --failing URL … --opens N --camera URL --control PORT
--reconnects N``. Prints one JSON line a phase: growth of the resident memory in MiB, of threads and of descriptors,
over N times after a warm-up of a tenth more; collected garbage and freed memory are given back to the system first.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import socket
import time
from collections.abc import Callable, Sequence
from unittest.mock import patch

import psutil

from camera_worker.capture import Capture
from camera_worker.meter import StreamMeter
from camera_worker.slot import LatestFrame
from camera_worker.sources import ReadOptions, Source, SourceLostError, read_source

_PAUSE_SECONDS = 0.01
_PATIENCE_SECONDS = 20.0
_LIBC = ctypes.CDLL(None)


def failed_opens(urls: Sequence[str], times: int) -> None:
    """Opens cameras that answer nothing good; each must fail."""
    for number in range(times):
        with contextlib.suppress(SourceLostError):
            for _ in read_source(Source.parse(urls[number % len(urls)]), ReadOptions(), StreamMeter()):
                raise RuntimeError("a camera that should fail sends pictures")


def reconnects(capture: Capture, control: int, times: int) -> None:
    """Cuts the connection of a running capture thread each time that it has one."""
    with socket.create_connection(("127.0.0.1", control), timeout=5) as connection, connection.makefile() as answers:
        for _ in range(times):
            connections = capture.meter.counters.connections
            connection.sendall(b"reset\n")
            answers.readline()
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while capture.meter.counters.connections == connections:
                if time.monotonic() > deadline:
                    raise RuntimeError("the capture thread does not come back")
                time.sleep(_PAUSE_SECONDS / 2)


def growth(work: Callable[[int], None], times: int, phase: str) -> None:
    """Prints what grows while the work is done so many times, after a warm-up of a tenth more."""
    work(max(1, times // 10))
    before = _held()
    work(times)
    grown = {name: after - before[name] for name, after in _held().items()}
    print(json.dumps({"phase": phase, "times": times, "grown": grown}), flush=True)


def _held() -> dict[str, float]:
    gc.collect()
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)
    process = psutil.Process()
    memory = process.memory_info().rss / 2**20
    return {"mib": memory, "threads": process.num_threads(), "descriptors": process.num_fds()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--failing", nargs="+", required=True)
    parser.add_argument("--opens", type=int, required=True)
    parser.add_argument("--camera", required=True)
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--reconnects", type=int, required=True)
    arguments = parser.parse_args()
    growth(lambda times: failed_opens(arguments.failing, times), arguments.opens, "failed_opens")
    # Without the pauses between attempts, which would take ten minutes and hold nothing.
    with patch("camera_worker.capture.backoff", lambda _: _PAUSE_SECONDS):
        capture = Capture(Source.parse(arguments.camera), LatestFrame(), name="leaking")
        capture.start()
        growth(lambda times: reconnects(capture, arguments.control, times), arguments.reconnects, "reconnects")
        capture.stop(timeout=_PATIENCE_SECONDS)


if __name__ == "__main__":
    main()
