"""Watches over capture threads: one that got stuck or died is replaced, too many are a reason to start afresh."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from camera_worker.camera import Camera
from camera_worker.capture import Capture, CaptureState

logger = logging.getLogger(__name__)

EXIT_STUCK = 70
"""EX_SOFTWARE: too many capture threads got stuck; a new process is the cure."""

_MOST_ABANDONED_THREADS = 3


class Watchdog:
    """Counts, over the life of the process, the capture threads that had to be abandoned."""

    def __init__(self) -> None:
        self._leaving: list[tuple[str, Capture]] = []
        self.abandoned = 0

    def leave(self, camera: Camera) -> None:
        """Takes the threads of a camera that has ended; they are watched until they end too."""
        left = [*camera.retired, camera.capture]
        camera.retired.clear()
        self._leaving += [(camera.name, capture) for capture in left if isinstance(capture, Capture) and capture.alive]

    def look(self, cameras: Iterable[Camera]) -> bool:
        """Replaces the capture threads that need it; whether too many did so far.

        A video file that is read on demand has no thread of its own: if reading it hangs, its camera is blind.
        """
        for camera in cameras:
            self._leaving += [(camera.name, capture) for capture in camera.retired if isinstance(capture, Capture)]
            camera.retired.clear()
            if camera.watching and isinstance(camera.capture, Capture) and self._is_lost(camera.name, camera.capture):
                if self._too_many:
                    return True
                camera.replace_capture()
        self._leaving = [(name, capture) for name, capture in self._leaving if not self._is_over(name, capture)]
        return self._too_many

    def _is_lost(self, name: str, capture: Capture) -> bool:
        """Whether the thread of a running camera is dead or stuck; it is counted then."""
        dead = not capture.alive
        if capture.state is CaptureState.ENDED or not (dead or _is_stuck(capture)):
            return False
        self._abandon(name, "dead" if dead else "stuck")
        return True

    def _is_over(self, name: str, capture: Capture) -> bool:
        """Whether the thread of a camera that ended has ended too, or is stuck and counted."""
        if not capture.alive:
            return True
        if not _is_stuck(capture):
            return False
        self._abandon(name, "stuck")
        return True

    def _abandon(self, name: str, how: str) -> None:
        self.abandoned += 1
        logger.error("%s: the capture thread is %s; abandoned.", name, how)

    @property
    def _too_many(self) -> bool:
        return self.abandoned >= _MOST_ABANDONED_THREADS


def _is_stuck(capture: Capture) -> bool:
    return capture.silence >= capture.stuck_after
