"""Runs every camera of a worker, replaces capture threads that got stuck, and ends cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from almenara.errors import AlmenaraError
from almenara.settings import Settings
from camera_worker.alarming import AlarmDesk
from camera_worker.camera import Camera, Scored
from camera_worker.capture import CaptureState
from camera_worker.client import VisionClient
from camera_worker.config import WorkerConfig

logger = logging.getLogger(__name__)

EXIT_STUCK = 70
"""EX_SOFTWARE: too many capture threads got stuck; a new process is the cure."""

_MOST_ABANDONED_THREADS = 3
_HEARTBEAT_SECONDS = 15.0
_WATCH_SECONDS = 1.0
_PATIENCE_SECONDS = 0.5


class Supervisor:
    """One worker process: cameras, API client, alarm desk and the watch over the capture threads.

    Args:
        config: cameras and the rest.
        settings: of the machine; used where `config` says nothing (the API's address and key, the folder).
        report: told about every verdict.
        heartbeat: seconds of silence after which a capture thread counts as stuck.
    """

    def __init__(
        self,
        config: WorkerConfig,
        settings: Settings,
        *,
        report: Callable[[Scored], None] = lambda _: None,
        heartbeat: float = _HEARTBEAT_SECONDS,
    ) -> None:
        self._config, self._settings = config, settings
        self._report, self._heartbeat = report, heartbeat
        self.cameras: Sequence[Camera] = ()
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Asks `run` to end; call it in the event loop's thread."""
        self._stop.set()

    async def run(self) -> int:
        """Runs until every video file has ended or somebody calls `stop` (SIGTERM and SIGINT do).

        A camera that fails for good, such as a file that is no video, is logged and leaves the others running. Returns
        the exit code: 0, or 70 after three capture threads that got stuck. Raises AlmenaraError when the alarm database
        cannot be opened, and the first camera's failure once all have ended by themselves.
        """
        with contextlib.ExitStack() as stack:
            desk = stack.enter_context(AlarmDesk(self._var_dir)) if self._config.alerts else None
            stack.enter_context(ending_signals(self.stop))
            async with self._client() as client:
                self.cameras = [
                    Camera(camera, client, alarms=desk.sink(camera) if desk else None, report=self._report)
                    for camera in self._config.cameras
                ]
                return await self._run_cameras()

    @property
    def _var_dir(self) -> Path:
        return (self._config.var_dir or self._settings.var_dir).resolve()

    def _client(self) -> VisionClient:
        api, settings = self._config.api, self._settings
        key = api.key or settings.api_key
        url = api.url or f"http://{settings.api_host}:{settings.api_port}"
        return VisionClient(url, key=key.get_secret_value() if key else None, timeout=api.timeout)

    async def _run_cameras(self) -> int:
        tasks = [asyncio.create_task(camera.run(self._stop), name=camera.name) for camera in self.cameras]
        watch = asyncio.create_task(self._watch(tasks), name="watch")
        stopped = asyncio.create_task(self._stop.wait(), name="stop")
        finished = asyncio.create_task(_until_all_ended(tasks), name="cameras")
        try:
            await asyncio.wait({finished, watch, stopped}, return_when=asyncio.FIRST_COMPLETED)
            ended = finished.done()
            self._stop.set()
            _, unfinished = await asyncio.wait(tasks, timeout=_PATIENCE_SECONDS)
            for task in unfinished:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            exit_code = watch.result() if watch.done() else 0
            for helper in (watch, stopped, finished):
                helper.cancel()
            for camera in self.cameras:
                camera.capture.stop()
        failures = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        if ended and failures:
            raise failures[0]
        return exit_code

    async def _watch(self, tasks: Sequence[asyncio.Task[None]]) -> int:
        """Replaces stuck capture threads of running cameras; returns the exit code when there were too many."""
        abandoned = 0
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            for camera in (camera for camera, task in zip(self.cameras, tasks, strict=True) if not task.done()):
                capture = camera.capture
                dead = not capture.alive and capture.state is not CaptureState.ENDED
                if not dead and capture.silence < self._heartbeat:
                    continue
                abandoned += 1
                logger.error("%s: the capture thread is %s; abandoned.", camera.name, "dead" if dead else "stuck")
                if abandoned >= _MOST_ABANDONED_THREADS:
                    return EXIT_STUCK
                camera.replace_capture()


async def _until_all_ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Logs which of several cameras failed; a single one's failure is for the caller to tell."""
    running = set(tasks)
    while running:
        ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            error = None if task.cancelled() else task.exception()
            if error is not None and len(tasks) > 1:
                unforeseen = None if isinstance(error, AlmenaraError) else error
                logger.error("%s has failed for good: %s", task.get_name(), error, exc_info=unforeseen)


@contextlib.contextmanager
def ending_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT call `stop` meanwhile; outside the main thread nothing is changed."""
    loop = asyncio.get_running_loop()
    handled = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
    for number in handled:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
