"""Finishes the strips of alarms that have been raised: a thread that waits for the seconds after each."""

from __future__ import annotations

import logging
import queue
import threading
from dataclasses import dataclass
from pathlib import Path

import cv2

from camera_worker.evidence import replace_file
from camera_worker.history import History, Moment, Moments
from camera_worker.strip import contact_sheet

logger = logging.getLogger(__name__)

_GRACE_SECONDS = 1.0
_WATCH_SECONDS = 0.25


@dataclass(frozen=True)
class _Job:
    path: Path
    moments: Moments
    raising: Moment


class StripFinisher:
    """Replaces the strip that went out with an alarm by one that shows what came after it.

    A strip is finished when its camera's history has the seconds after the alarm, when nothing was added to it for as
    long (the camera is away), or when the worker ends. A process that is killed before leaves the early strip.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()  # None only wakes the thread
        self._waiting: dict[Path, History] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="strip-finisher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Finishes every strip with what is there, within `timeout` seconds."""
        self._stop.set()
        self._jobs.put(None)
        self._thread.join(timeout)

    def expect(self, path: Path, history: History, raising: Moment) -> None:
        """Has the strip at `path` replaced once the seconds after `raising` are in `history`."""
        with self._lock:
            self._waiting[path] = history
        self._jobs.put(None)
        history.mark(raising.monotonic, lambda moments: self._jobs.put(_Job(path, moments, raising)))

    def _run(self) -> None:
        while not self._stop.is_set():
            self._finish_next(_WATCH_SECONDS if self._histories() else None)
            self._finish_idle()
        for history in self._histories():
            history.finish()
        while self._finish_next(0.0):
            pass

    def _finish_next(self, patience: float | None) -> bool:
        """Finishes a strip; False when nothing came within `patience` seconds, None for as long as it takes."""
        try:
            job = self._jobs.get(timeout=patience)
        except queue.Empty:
            return False
        if job is None:
            return True
        try:
            replace_file(job.path, contact_sheet(job.moments, job.raising))
        except (OSError, ValueError, cv2.error) as error:
            logger.warning("%s shows nothing of after the alarm: %s", job.path, error)
        with self._lock:
            self._waiting.pop(job.path, None)
        return True

    def _finish_idle(self) -> None:
        for history in self._histories():
            if history.idle > history.after + _GRACE_SECONDS:
                history.finish()

    def _histories(self) -> set[History]:
        with self._lock:
            return set(self._waiting.values())
