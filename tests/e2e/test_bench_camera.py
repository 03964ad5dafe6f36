"""The benchmark of the camera worker runs from end to end and answers every question."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.camera.reference import wrongly_posted
from benchmarks.harness import Ticker, Trials

ROOT = Path(__file__).resolve().parents[2]

ANSWERS = {
    "same_against_same": {"age_p99_ratio", "cpu_ratio"},
    "blindness": {"p50_s", "p95_s", "max_net_s", "stall_p95_s", "slow_p95_s"},
    "restarts": {"in_time", "counted", "p50_s", "p95_s", "max_net_s"},
    "age_when_posted": {"p50_s", "p99_s", "max_net_s", "posted", "naive_p99_s", "naive_max_s"},
    "isolation": {"p99_healthy_s", "p99_stalled_s", "p99_ratio", "same_against_same", "scored_ratio", "not_back"},
    "flagged_frozen": {"p50_s", "max_net_s"},
    "flagged_black": {"p50_s", "max_net_s"},
    "corrupt": {"wrongly_posted", "posted", "flagged", "scored_share", "unnoticed_share", "traces_share"},
    "resize": {"followed", "counted", "max_net_s"},
    "loss_tcp": {"scored_share", "traces_share"},
    "loss_udp": {"scored_share", "traces_share"},
    "leaks": {
        f"{phase}_{what}" for phase in ("failed_opens", "reconnects") for what in ("mib", "threads", "descriptors")
    },
    "static_scene": {"noisy", "noisy_flagged", "noise_free", "noise_free_frozen", "noise_free_otherwise"},
    "cost_720p15": {"cpu_s_per_s", "decoding_alone", "ratio", "cameras_per_core"},
    "cost_720p15_keyframes": {"cpu_s_per_s", "decoding_alone", "ratio", "cameras_per_core"},
    "cost_1080p25": {"cpu_s_per_s", "decoding_alone", "ratio", "cameras_per_core"},
    "cost_1080p25_keyframes": {"cpu_s_per_s", "decoding_alone", "ratio", "cameras_per_core"},
}


@pytest.mark.slow
@pytest.mark.alone
def test_quick_run_answers_every_question() -> None:
    command = [sys.executable, "-m", "benchmarks.camera", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert told["benchmark"] == "camera"
    assert told["quick"] is True
    assert told["ticker_p99_ms"] >= 0
    assert set(told["machine"]) == {"cpu", "cores", "memory_gib", "system", "python"}
    assert set(told["results"]) == set(ANSWERS)
    for name, figures in ANSWERS.items():
        seen = told["results"][name]["figures"]
        assert [figure for figure in figures if seen.get(figure) is None] == [], name
    assert {result["verdict"] for result in told["results"].values()} <= {"printed", "not judged"}


def test_what_never_came_is_a_failure_on_a_busy_machine_too() -> None:
    with Ticker() as ticker:
        trials = Trials(ticker)
        assert not trials.add(5.0, 6.0, [1.0])  # before the first tick: nobody knows how busy it was
        assert trials.add(5.0, 6.0, [math.inf])
    assert (trials.values, trials.count, trials.void) == ([math.inf], 2, 1)


def test_lateness_counts_only_within_the_trial() -> None:
    with Ticker() as ticker:
        time.sleep(0.1)
        end = time.monotonic()
        assert ticker.worst(end - 0.001, end) <= 0.001
        assert ticker.p99(end - 0.05, end) >= 0


def test_aging_is_net_of_the_delay_in_its_own_span() -> None:
    class Late(Ticker):
        def p99(self, start: float = 0.0, end: float = math.inf) -> float:
            return 0.01

        def worst(self, start: float, end: float) -> float:
            return 0.5 if start == 2.0 else 0.0

    trials = Trials(Late())
    trials.add(0.0, 10.0, [1.0, 1.0], [(2.0, 3.0), (4.0, 5.0)])
    assert trials.net == [0.5, 1.0]


def test_posted_pictures_that_the_reference_saw_damaged_are_wrong() -> None:
    lines = ["100 sound", "200 flagged", "none flagged", "300 sound", "none sound", "400 sound"]

    def wrong(*codes: int | None) -> int:
        return wrongly_posted([{"timecode": code} for code in codes], lines)

    assert wrong(100, 300, None, 900) == 0
    assert wrong(100, 200, 300) == 1
    assert wrong(250) == 1
    assert wrong(None, None) == 1


def test_unknown_question_is_refused() -> None:
    command = [sys.executable, "-m", "benchmarks.camera", "--only", "weather"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert "weather is no question" in done.stderr
