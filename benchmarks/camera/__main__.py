"""``python -m benchmarks.camera``: asks every question, or those named, and prints the answers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.camera.age import age, isolation, same_against_same
from benchmarks.camera.blindness import blindness, restarts
from benchmarks.camera.cost import cost
from benchmarks.camera.leaks import leaks
from benchmarks.camera.quality import loss, quality
from benchmarks.camera.static import static
from benchmarks.command import asked
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
    quick, chosen = asked("camera", __doc__, QUESTIONS)
    progress = Progress(len(chosen) + 1)
    with Ticker() as ticker, tempfile.TemporaryDirectory(prefix="bench-camera-") as folder:

        def ask(name: str) -> list[Result]:
            question = QUESTIONS.get(name, same_against_same)
            return question(Bench(quick, ticker, progress.stage(name), Path(folder)))

        results = ask("same against same")
        # A quick run judges nothing, so two questions may disturb each other.
        with ThreadPoolExecutor(2 if quick else 1) as pool:
            for answers in pool.map(ask, chosen):
                results += answers
        report("camera", ticker, results, quick=quick)


if __name__ == "__main__":
    main()
