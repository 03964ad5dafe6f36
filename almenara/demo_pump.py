"""The demo's pump: a simulated machine whose vibration is posted to the API, healthy and then with a fault."""

from __future__ import annotations

import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Self
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray

from almenara.vibration import simulate
from almenara.vibration.recordings import Recording

SAMPLING_RATE_HZ = 12_000.0
FIRST_UNSEEN = 10_000  # recordings with smaller seeds were learnt from
EPISODES: tuple[tuple[simulate.Condition, int], ...] = (("normal", 12), ("inner_race", 20))  # seconds of each
MACHINE = 11  # its seed

log = logging.getLogger(__name__)


class Pump:
    """Posts one second of vibration every second while used as a context manager."""

    asset = "pump-1"

    def __init__(self, api_url: str, model: str, headers: Mapping[str, str]) -> None:
        query = {
            "sampling_rate_hz": SAMPLING_RATE_HZ,
            "shaft_rpm": simulate.DEMO_RPM,
            "bearing": simulate.DEMO_BEARING,
            "unit": "g",
            "asset": self.asset,
        }
        self._url = f"{api_url}/v1/vibration/{model}/predict?{urlencode(query)}"
        self._headers = {"Content-Type": "application/octet-stream", **headers}
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
        return [*simulate.demo_recordings(), *simulate.demo_baseline(cls.asset, MACHINE)]

    def _run(self) -> None:
        for window in self._windows():
            request = urllib.request.Request(  # noqa: S310  our own http address
                self._url, data=window.astype("<f4").tobytes(), headers=self._headers
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
            for condition, seconds in EPISODES:
                signal = simulate.machine_signal(
                    condition,
                    machine_seed=MACHINE,
                    seed=FIRST_UNSEEN + episode,
                    seconds=seconds,
                    sampling_rate_hz=SAMPLING_RATE_HZ,
                )
                yield from signal.reshape(seconds, -1)
                episode += 1
