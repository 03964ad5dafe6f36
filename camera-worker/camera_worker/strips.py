"""Finishes the strips of alarms that have been raised: a thread that waits for the seconds after each."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

import cv2
from sqlalchemy.exc import SQLAlchemyError

from almenara.alarms.records import EvidenceFile
from almenara.evidence import EvidenceStore
from camera_worker.history import History, Moment, Moments
from camera_worker.strip import contact_sheet

logger = logging.getLogger(__name__)

_GRACE_SECONDS = 1.0
_WATCH_SECONDS = 0.25


@dataclass(frozen=True)
class _Job:
    file: EvidenceFile
    moments: Moments
    raising: Moment
    done: Callable[[EvidenceFile], None]


class StripFinisher:
    """Replaces the strip that went out with an alarm by one that shows what came after it.

    A strip is finished when its camera's history has the seconds after the alarm, when nothing was added to it for as
    long (the camera is away), or when the worker ends. A process that is killed before leaves the early strip.

    Args:
        store: that keeps the strips.
    """

    def __init__(self, store: EvidenceStore) -> None:
        self._store = store
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()  # None only wakes the thread
        self._waiting: dict[str, History] = {}
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

    def expect(
        self, file: EvidenceFile, history: History, raising: Moment, done: Callable[[EvidenceFile], None]
    ) -> None:
        """Has the strip `file` replaced once the seconds after `raising` are in `history`.

        `done` is then called with the whole strip, from the finisher's thread; it may raise SQLAlchemyError.
        """
        with self._lock:
            self._waiting[file.uri] = history
        self._jobs.put(None)
        history.mark(raising.monotonic, lambda moments: self._jobs.put(_Job(file, moments, raising, done)))

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
            job.done(self._store.replace(job.file, contact_sheet(job.moments, job.raising)))
        except (OSError, ValueError, cv2.error, SQLAlchemyError) as error:
            logger.warning("%s shows nothing of after the alarm: %s", job.file.uri, error)
        with self._lock:
            self._waiting.pop(job.file.uri, None)
        return True

    def _finish_idle(self) -> None:
        for history in self._histories():
            if history.idle > history.after + _GRACE_SECONDS:
                history.finish()

    def _histories(self) -> set[History]:
        with self._lock:
            return set(self._waiting.values())
