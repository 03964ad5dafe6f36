"""Four times what the API can do: what it accepts is in time, the rest is refused soon, and then all is as before."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support import open_loop
from tests.support.api import RunningApi, cache_champions, healthy_signal, running_api
from tests.support.packages import classifier_candidate

MEASURED_SECONDS = 4
OFFERED_SECONDS = 10
TIMES = 4
DEADLINE = 2.0
SLACK = 8.0
"""For what passes before the service has read a request: the client, and often other tests, share its cores."""
MOST_GROWTH = 300 * 2**20


def offer(api: RunningApi, how: str, seconds: float) -> dict[str, Any]:
    port = api.http.base_url.port
    command = [sys.executable, open_loop.__file__, str(port), how, str(seconds), str(DEADLINE)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


@contextmanager
def watched(process: psutil.Process) -> Iterator[list[int]]:
    """Resident bytes of the process, sampled until the block ends."""
    sizes, over = [process.memory_info().rss], threading.Event()

    def sample() -> None:
        while not over.wait(0.1):
            sizes.append(process.memory_info().rss)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield sizes
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.alone
def test_four_times_the_capacity_is_refused_soon_and_leaves_nothing_behind(tmp_path: Path) -> None:
    cache_champions(tmp_path / "var", [classifier_candidate()])
    with running_api(tmp_path / "var", {}) as api:
        capacity = offer(api, "closed", MEASURED_SECONDS)
        assert capacity["answers"].keys() == {"200"}
        rate = capacity["answers"]["200"][0] / MEASURED_SECONDS
        with watched(psutil.Process(api.process.pid)) as sizes:
            offered = offer(api, str(TIMES * rate), OFFERED_SECONDS)
        over = time.monotonic()
        again = api.http.post(
            "/v1/vibration/bearing/predict?sampling_rate_hz=12000&shaft_rpm=1772&bearing=6205-2RS",
            content=healthy_signal(0).tobytes(),
            headers={"Content-Type": "application/octet-stream"},
        )
        recovered = time.monotonic() - over
    sent = round(TIMES * rate * OFFERED_SECONDS)
    figures = {"rate": rate, "sent": sent, **offered, "rss": [sizes[0], max(sizes)], "recovered": recovered}
    (tmp_path / "figures.json").write_text(json.dumps(figures))
    answers = offered["answers"]
    assert answers.keys() == {"200", "503"}
    accepted, refused = answers["200"], answers["503"]
    assert accepted[0] + refused[0] + offered["unsent"] == sent
    assert (offered["broken"], offered["no_retry_after"]) == (0, 0)
    assert accepted[2] <= DEADLINE + SLACK
    assert refused[2] <= DEADLINE + SLACK
    assert refused[1] <= DEADLINE  # half of the refusals at least are no timeouts
    assert accepted[0] >= 0.1 * rate * OFFERED_SECONDS  # refusing must not eat up what judging needs
    assert max(sizes) - sizes[0] <= MOST_GROWTH
    assert again.status_code == httpx.codes.OK
    assert recovered <= 10
