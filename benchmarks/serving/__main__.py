"""``python -m benchmarks.serving``: how fast the model API is, beside MLflow, MLServer, a tutorial's API and no server.

Example: ``python -m benchmarks.serving --only mlflow_same_onnx,floors``. All of it takes about half an hour.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.command import asked
from benchmarks.harness import Bench, Figure, Progress, Result, Ticker, report
from benchmarks.serving.models import Models
from benchmarks.serving.questions import QUESTIONS, Comparison, Question, same_against_same

_RATIOS = (
    "mlflow_as_users_get_it",
    "mlflow_same_onnx_raw",
    "mlflow_same_onnx_raw_c1",
    "mlflow_same_onnx_raw_c32",
    "mlflow_same_onnx_json",
    "mlserver_one_process_raw",
    "mlserver_all_cores_c8",
    "mlserver_all_cores_c32",
    "mlserver_image_per_core",
    "mlserver_image_all_cores",
    "tutorial_image",
    "floor_vision",
    "floor_vibration_1s",
    "floor_vibration_2048_per_core",
    "batch64",
)


def main() -> None:
    quick, chosen = asked("serving", __doc__, QUESTIONS)
    questions: dict[str, Question] = {"same against same": same_against_same}
    questions |= {name: QUESTIONS[name] for name in chosen}
    progress, results = Progress(len(questions)), list[Result]()
    with Ticker() as ticker, tempfile.TemporaryDirectory(prefix="bench-serving-") as folder:
        models = Models(Path(folder, "registry"))
        for index, (name, question) in enumerate(questions.items()):
            bench = Bench(quick, ticker, progress.stage(name), Path(folder, str(index)))
            with ExitStack() as stack:
                results += question(Comparison(bench, models, stack))
        report("serving", ticker, results, quick=quick, more=_ratios(results))


def _ratios(results: list[Result]) -> dict[str, object]:
    """Every ratio by its name, null where it was not asked."""
    found: dict[str, Figure] = {key: value for result in results for key, value in result.figures.items()}

    def rounded(key: str) -> Figure:
        value = found.get(key)
        return round(value, 3) if isinstance(value, float) else value

    ratios = {key: rounded(key) for key in _RATIOS}
    return {"ratios": ratios, "p50_over_ideal_c1": rounded("p50_over_ideal_c1")}


if __name__ == "__main__":
    main()
