"""The demo's pump: a simulated machine whose vibration is posted to the API, healthy and then with a fault."""

from __future__ import annotations

import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Self
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray

from almenara.vibration import simulate
from almenara.vibration.recordings import Recording

SAMPLING_RATE_HZ, SHAFT_RPM, BEARING = 12_000.0, 1772.0, "6205-2RS"
HEALTHY_SECONDS, FAULT_SECONDS = 12, 20
MACHINE_SEED = 11

log = logging.getLogger(__name__)


class Pump:
    """Posts one second of vibration every second while used as a context manager."""

    asset = "pump-1"

    def __init__(self, api_url: str, model: str) -> None:
        query = {"sampling_rate_hz": SAMPLING_RATE_HZ, "shaft_rpm": SHAFT_RPM, "bearing": BEARING, "unit": "g"}
        self._url = f"{api_url}/v1/vibration/{model}/predict?{urlencode({**query, 'asset': self.asset})}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pump", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)

    @classmethod
    def recordings(cls) -> list[Recording]:
        """A fleet to learn faults from, and this pump's healthy days for its baseline."""
        return [*simulate.demo_recordings(), *simulate.demo_baseline(cls.asset, machine_seed=MACHINE_SEED)]

    def _run(self) -> None:
        for window in self._windows():
            request = urllib.request.Request(  # noqa: S310  our own http address
                self._url, data=window.astype("<f4").tobytes(), headers={"Content-Type": "application/octet-stream"}
            )
            try:
                with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
                    response.read()
            except (urllib.error.URLError, OSError) as error:
                log.warning("window not judged: %s", error)
            if self._stop.wait(1.0):
                return

    def _windows(self) -> Iterator[NDArray[np.float32]]:
        """One-second windows without end: some healthy seconds, then an inner-race fault, and again."""
        episode = 0
        while True:
            for condition, seconds in (("normal", HEALTHY_SECONDS), ("inner_race", FAULT_SECONDS)):
                signal = simulate.machine_signal(
                    condition,
                    seconds=seconds,
                    sampling_rate_hz=SAMPLING_RATE_HZ,
                    shaft_rpm=SHAFT_RPM,
                    bearing=BEARING,
                    machine_seed=MACHINE_SEED,
                    seed=10_000 + episode,
                )
                yield from signal.reshape(seconds, -1)
                episode += 1
