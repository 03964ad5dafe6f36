"""The benchmark of the camera worker runs from end to end and answers every question."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

ANSWERS = {
    "same_against_same": {"age_p99_ratio", "cpu_ratio"},
    "blindness": {"p50_s", "p95_s", "max_net_s"},
    "restarts": {"in_time", "counted", "p50_s", "p95_s", "max_net_s"},
    "age_when_posted": {"p50_s", "p99_s", "max_net_s", "posted", "naive_p99_s", "naive_max_s"},
    "isolation": {"p99_healthy_s", "p99_stalled_s", "p99_ratio", "same_against_same", "scored_ratio"},
    "flagged_frozen": {"p50_s", "max_net_s"},
    "flagged_black": {"p50_s", "max_net_s"},
    "corrupt": {"distorted", "posted", "damaged", "scored_share", "traces_share"},
    "resize": {"followed", "counted", "max_net_s"},
    "loss_tcp": {"scored_share", "traces_share"},
    "loss_udp": {"scored_share", "traces_share"},
    "leaks": {"failed_opens_mib", "reconnects_mib", "threads", "descriptors"},
    "cost_720p15": {"cpu_s_per_s", "decoding_alone", "ratio", "cameras_per_core"},
    "cost_720p15_keyframes": {"cpu_s_per_s", "decoding_alone", "ratio", "cameras_per_core"},
    "cost_1080p25": {"cpu_s_per_s", "decoding_alone", "ratio", "cameras_per_core"},
    "cost_1080p25_keyframes": {"cpu_s_per_s", "decoding_alone", "ratio", "cameras_per_core"},
}


@pytest.mark.slow
def test_quick_run_answers_every_question() -> None:
    command = [sys.executable, "-m", "benchmarks.camera", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)

    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert told["benchmark"] == "camera"
    assert told["quick"] is True
    assert told["ticker_p99_ms"] >= 0
    assert set(told["machine"]) == {"cpu", "cores", "memory_gib", "system", "python"}
    assert set(told["results"]) == set(ANSWERS)
    for name, figures in ANSWERS.items():
        assert figures <= set(told["results"][name]["figures"]), name
    assert {result["verdict"] for result in told["results"].values()} <= {"printed", "not judged"}


def test_unknown_question_is_refused() -> None:
    command = [sys.executable, "-m", "benchmarks.camera", "--only", "weather"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert "weather is no question" in done.stderr
