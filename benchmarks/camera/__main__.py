"""``python -m benchmarks.camera``: asks every question, or those named, and prints the answers."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

from benchmarks.camera.age import age, isolation, same_against_same
from benchmarks.camera.blindness import blindness, restarts
from benchmarks.camera.cost import cost
from benchmarks.camera.leaks import leaks
from benchmarks.camera.quality import loss, quality
from benchmarks.camera.static import static
from benchmarks.harness import Bench, Progress, Result, Ticker, report

QUESTIONS: dict[str, Callable[[Bench], list[Result]]] = {
    "blindness": blindness,
    "restarts": restarts,
    "age": age,
    "isolation": isolation,
    "quality": quality,
    "loss": loss,
    "leaks": leaks,
    "cost": cost,
    "static": static,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.camera", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few trials of each, nothing judged")
    parser.add_argument("--only", default=",".join(QUESTIONS), help="some of %(default)s")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    if unknown := sorted(set(chosen) - set(QUESTIONS)):
        parser.error(f"{', '.join(unknown)} is no question: there are {', '.join(QUESTIONS)}")
    signal.signal(signal.SIGTERM, _end)  # so that no child outlives us
    progress = Progress(len(chosen) + 1)
    with Ticker() as ticker, tempfile.TemporaryDirectory(prefix="bench-camera-") as folder:

        def ask(name: str) -> list[Result]:
            question = QUESTIONS.get(name, same_against_same)
            return question(Bench(arguments.quick, ticker, progress.stage(name), Path(folder)))

        results = ask("same against same")
        # A quick run judges nothing, so two questions may disturb each other.
        with ThreadPoolExecutor(2 if arguments.quick else 1) as pool:
            for answers in pool.map(ask, chosen):
                results += answers
        report("camera", ticker, results, quick=arguments.quick)


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    main()
