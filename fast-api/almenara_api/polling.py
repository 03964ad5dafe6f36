"""A background thread that looks at something every few seconds, and sooner when it is told to hurry."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

_LOG = logging.getLogger(__name__)
_HURRIED_SECONDS = 1.0
"""From one hurried look to the next."""


class Poll:
    """Calls `look` at once and then every `seconds`, a tenth more or less so that processes spread their questions.

    Args:
        name: of the thread, and in the log.
        look: may fail; the next look is the retry.
        seconds: between two looks.
    """

    def __init__(self, name: str, look: Callable[[], None], seconds: float) -> None:
        self._name, self._look, self._seconds = name, look, seconds
        self._stop, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to look; returns at once."""
        self._thread.start()

    def stop(self, timeout_seconds: float = 2.0) -> None:
        """Stop looking; a call that hangs is left behind with its daemon thread."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    def hurry(self) -> None:
        """Look soon; many calls within a second are one look."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            self._wake.clear()
            try:
                self._look()
            except Exception:  # noqa: BLE001  whatever fails, the thread must live on
                _LOG.exception("%s failed; the next look tries again", self._name)
            if self._wake.wait(self._seconds * random.uniform(0.9, 1.1)):  # noqa: S311  spreads the looks
                self._stop.wait(max(0.0, begun + _HURRIED_SECONDS - time.monotonic()))
