"""The `camera-worker` command as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.data import ROOT


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "camera_worker", *arguments]


def run(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


@contextmanager
def process(arguments: Sequence[str], folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The command in the background, its output in files of `folder`; killed if the test has not ended it."""
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        child = subprocess.Popen(
            command(*arguments), cwd=ROOT, stdout=out, stderr=err, text=True, env={**os.environ, **environment}
        )
        try:
            yield child
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()


def ended(child: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> float:
    """Sends a signal; seconds until the process ended."""
    start = time.monotonic()
    child.send_signal(number)
    child.wait(10)
    return time.monotonic() - start
