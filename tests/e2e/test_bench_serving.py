"""The benchmark of the API runs from end to end and prints the ratios that it measured."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.alone
def test_a_question_is_answered_with_its_ratio() -> None:
    command = [sys.executable, "-m", "benchmarks.serving", "--quick", "--only", "batch64"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert told["ratios"].pop("batch64") > 0
    assert set(told["ratios"].values()) == {None}
    assert told["p50_over_ideal_c1"] is None
    figures = told["results"]["batch64"]["figures"]
    assert math.isclose(
        figures["batch64"],
        64 * figures["almenara_batch-2048_c1_per_s"] / figures["almenara_json-2048_c1_per_s"],
        rel_tol=1e-2,
    )
    assert {result["verdict"] for result in told["results"].values()} <= {"printed", "not judged"}


def test_an_unknown_question_is_refused() -> None:
    command = [sys.executable, "-m", "benchmarks.serving", "--only", "weather"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert "weather is no question" in done.stderr
