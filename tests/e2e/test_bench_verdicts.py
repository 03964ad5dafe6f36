"""Frames of an H.264 stream keep their verdict on the camera worker's own way to the API."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.data import require_data

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_decoded_frame_keeps_its_verdict_when_the_worker_encodes_it() -> None:
    folders = [str(require_data("vision", "sludge_tank", weather)) for weather in ("daylight", "rain")]
    command = [sys.executable, "-m", "benchmarks.camera.verdicts", "--quick", *folders]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)

    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert set(told) == {"shrunk", "quality 100", "quality 95"}
    for way, change in told.items():
        assert change["frames"] >= 40, way
        assert change["flips_outside_band"] == 0, way
        assert change["p99"] < 0.06, way
