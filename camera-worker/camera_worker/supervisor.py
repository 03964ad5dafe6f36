"""Runs every camera of a worker, follows its configuration, watches over threads and sight, and ends cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from almenara.alarms.channels.opening import load_checked
from almenara.contracts import Observation
from almenara.errors import AlmenaraError
from almenara.settings import Settings
from camera_worker.alarming import AlarmDesk, Record
from camera_worker.camera import Camera
from camera_worker.client import VisionClient
from camera_worker.config import CameraConfig, WorkerConfig
from camera_worker.history import History
from camera_worker.reloading import changed_cameras, settings_that_wait
from camera_worker.sight import Sight, SystemAlarm
from camera_worker.states import Scored
from camera_worker.status import StatusServer, what_is_blind
from camera_worker.watchdog import EXIT_STUCK, Watchdog

__all__ = ["EXIT_STUCK", "Supervisor", "ending_signals"]

logger = logging.getLogger(__name__)

_WATCH_SECONDS = 1.0
_PATIENCE_SECONDS = 0.5


class Supervisor:
    """One worker process: cameras, API client, alarm desk, and the watch over the capture threads and over sight.

    On SIGHUP, or `reload`, the configuration is read again. Cameras that changed are replaced, new ones start, removed
    ones end, all others go on undisturbed; `blind_after` holds at once, other settings of the worker at its next start.

    Args:
        config: cameras and the rest.
        settings: of the machine; used where `config` says nothing (the API's address and key, the folder).
        report: told about every verdict.
        load: reads the configuration again; without it SIGHUP is left alone.

    Attributes:
        cameras: those of the configuration in force, by their names.
        sight: which blindness is an alarm.
        status: tells over HTTP how the worker is; None when the configuration names no place for it.
        started_at: when the worker was made, UTC.
    """

    def __init__(
        self,
        config: WorkerConfig,
        settings: Settings,
        *,
        report: Callable[[Scored], None] = lambda _: None,
        load: Callable[[], WorkerConfig] | None = None,
    ) -> None:
        self._config, self._settings = config, settings
        self._report, self._load = report, load
        self._cameras: dict[str, Camera] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._client = self._new_client()
        self._desk: AlarmDesk | None = None
        self._watchdog = Watchdog()
        self._stop, self._reload_wanted, self._changed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._reloading = False
        self._replacing = asyncio.Lock()
        self._removed: dict[str, CameraConfig] = {}  # of which the alarm store still is to be told
        self.sight = Sight(config.blind_after)
        self.status = StatusServer(self, config.status) if config.status else None
        self.started_at = datetime.now(UTC)

    @property
    def cameras(self) -> Mapping[str, Camera]:
        return self._cameras

    @property
    def breaker_open(self) -> bool:
        """Whether the API is taken to be away."""
        return self._client.breaker.open

    @property
    def desk(self) -> AlarmDesk | None:
        """The worker's alarms; None while it does not run, and when it raises none."""
        return self._desk

    @property
    def stopping(self) -> bool:
        """Whether somebody has asked `run` to end."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Asks `run` to end; call it in the event loop's thread."""
        self._stop.set()

    def reload(self) -> None:
        """Asks `run` to read the configuration again; call it in the event loop's thread."""
        self._reload_wanted.set()

    async def run(self) -> int:
        """Runs until every video file has ended or somebody calls `stop` (SIGTERM and SIGINT do).

        A camera that fails for good, such as a file that is no video, is logged and leaves the others running. Returns
        the exit code: 0, or 70 after three capture threads that got stuck. Raises AlmenaraError when the alarm database
        cannot be opened, alarms.yaml is wrong or the status server cannot listen, and the first camera's failure once
        all have ended by themselves.
        """
        handlers = {signal.SIGTERM: self.stop, signal.SIGINT: self.stop}
        if self._load:
            handlers[signal.SIGHUP] = self.reload
        with contextlib.ExitStack() as stack:
            self._desk = stack.enter_context(self._new_desk()) if self._config.alerts else None
            stack.enter_context(_handled(handlers))
            async with self._client, self._serving():
                if not self._config.cameras:
                    logger.warning("No camera is configured, so nothing is watched; after a change send SIGHUP.")
                self._start([self._new_camera(camera) for camera in self._config.cameras])
                return await self._run_cameras()

    @property
    def _var_dir(self) -> Path:
        return (self._config.var_dir or self._settings.var_dir).resolve()

    @property
    def _api(self) -> Record:
        api, settings = self._config.api, self._settings
        key = api.key or settings.api_key
        url = api.url or f"http://{settings.api_host}:{settings.api_port}"
        return Record(url, key.get_secret_value() if key else None)

    def _new_client(self) -> VisionClient:
        return VisionClient(self._api.url, key=self._api.key, timeout=self._config.api.timeout)

    def _new_desk(self) -> AlarmDesk:
        config = self._config
        return AlarmDesk(
            self._var_dir,
            config=load_checked(config.alarms_file or self._settings.alarms_file),
            name=config.name,
            blind=lambda: "; ".join(what_is_blind(self)) or None,
            record=self._api if config.forward else None,
        )

    def _new_camera(self, config: CameraConfig) -> Camera:
        history = History(config.evidence.before, config.evidence.after)
        alarms = self._desk.sink(config, history) if self._desk else None
        return Camera(config, self._client, alarms=alarms, report=self._report, history=history)

    @contextlib.asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        if self.status is None:
            yield
            return
        await self.status.start()
        logger.info("how the worker is: %s/cameras, /healthz, /readyz, /metrics", self.status.address)
        try:
            yield
        finally:
            await self.status.stop()

    async def _run_cameras(self) -> int:
        """Until the end; nothing that failed on the way is left running."""
        watch = asyncio.create_task(self._watch_threads(), name="watchdog")
        finished = asyncio.create_task(self._until_all_ended(), name="cameras")
        stopped = asyncio.create_task(self._stop.wait(), name="stop")
        helpers = [watch, finished, stopped, asyncio.create_task(self._watch_sight(), name="sight")]
        helpers += [asyncio.create_task(self._follow_configuration(), name="reload")]
        try:
            done, _ = await asyncio.wait(helpers, return_when=asyncio.FIRST_COMPLETED)
            for helper in done:
                helper.result()
            exit_code = watch.result() if watch.done() else 0
            failures = finished.result() if finished.done() else []
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            await self._end(self._cameras.values(), self._tasks.values())
        if failures:
            raise failures[0]
        return exit_code

    def _start(self, cameras: list[Camera]) -> None:
        for camera in cameras:
            task = asyncio.create_task(camera.run(), name=camera.name)
            task.add_done_callback(self._camera_ended)
            self._cameras[camera.name], self._tasks[camera.name] = camera, task
            self._removed.pop(camera.name, None)

    async def _end(self, cameras: Collection[Camera], tasks: Collection[asyncio.Task[None]]) -> None:
        """Ends cameras, by force those that take their time; their capture threads end by themselves."""
        for camera in cameras:
            camera.stop()
        if tasks:
            _, unfinished = await asyncio.wait(tasks, timeout=_PATIENCE_SECONDS)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for camera in cameras:
            self._watchdog.leave(camera)

    def _camera_ended(self, task: asyncio.Task[None]) -> None:
        """Logs which of several cameras failed; a single one's failure is for the caller to tell."""
        self._changed.set()
        error = None if task.cancelled() else task.exception()
        if error is not None and len(self._tasks) > 1:
            unforeseen = None if isinstance(error, AlmenaraError) else error
            logger.error("%s has failed for good: %s", task.get_name(), error, exc_info=unforeseen)

    async def _until_all_ended(self) -> list[BaseException]:
        """Returns, once there are cameras and all have ended by themselves, what some of them failed of."""
        while self._reloading or not self._tasks or not all(task.done() for task in self._tasks.values()):
            self._changed.clear()
            await self._changed.wait()
        errors = [task.exception() for task in self._tasks.values() if not task.cancelled()]
        return [error for error in errors if error is not None]

    async def _watch_threads(self) -> int:
        """Returns the exit code when too many capture threads got stuck."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            running = [self._cameras[name] for name, task in self._tasks.items() if not task.done()]
            if self._watchdog.look(running):
                return EXIT_STUCK

    async def _watch_sight(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            now = time.monotonic()
            async with self._replacing:  # a camera between its end and its new start is not one that nobody watches
                sightings = [camera.sighting(now) for camera in self._cameras.values()]
                changes = self.sight.step(now, [sighting for sighting in sightings if sighting])
            for alarm in changes:
                level = logging.WARNING if alarm.blind else logging.INFO
                logger.log(level, "%s is %s: %s", alarm.source, "blind" if alarm.blind else "back", alarm.reason)
            for alarm in self.sight.untold:
                await self._tell(alarm, now)
            for config in tuple(self._removed.values()):
                await self._tell_removed(config, now)

    async def _tell(self, alarm: SystemAlarm, now: float) -> None:
        if self._desk:
            camera = self._cameras.get(alarm.source.rpartition("/")[0])
            priority = camera.config.alarm.priority if camera else "critical"
            try:
                await asyncio.to_thread(self._desk.system, alarm.source, alarm.blind, alarm.reason, now, priority)
            except Exception:
                logger.exception("%s: the alarm store failed; it is told again in a second.", alarm.source)
                return
        self.sight.told(alarm)

    async def _tell_removed(self, config: CameraConfig, now: float) -> None:
        """The removed camera's own alarm, if one stands, is neither raised nor over: nobody looks any more."""
        if self._desk:
            reason, at = "the camera is not watched any more", datetime.now(UTC)
            unknown = Observation(source=config.name, kind="vision", anomaly=None, reason=reason, observed_at=at)
            try:
                await asyncio.to_thread(self._desk.sink(config).observe, unknown, now, None)
            except Exception:
                logger.exception("%s: the alarm store failed; it is told again in a second.", config.name)
                return
        if self._removed.get(config.name) is config:
            del self._removed[config.name]

    async def _follow_configuration(self) -> None:
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            self._reloading = True
            try:
                await self._reload()
            except AlmenaraError as error:
                logger.error("The configuration is left as it was: %s", error)  # noqa: TRY400 - told in a sentence
            except Exception:
                logger.exception("The configuration is left as it was, since reading it failed.")
            finally:
                self._reloading = False
                self._changed.set()

    async def _reload(self) -> None:
        """Takes in the configuration as it is now; raises, and nothing has changed, when it cannot be used."""
        if self._load is None:
            return
        config = await asyncio.to_thread(self._load)
        changes = changed_cameras(self._config, config)
        new = [self._new_camera(camera) for camera in changes.started]
        async with self._replacing:
            ended = [(self._cameras.pop(name), self._tasks.pop(name)) for name in changes.ended]
            await self._end([camera for camera, _ in ended], [task for _, task in ended])
            self._removed |= {camera.name: camera.config for camera, _ in ended}
            self._start(new)
        if waiting := settings_that_wait(self._config, config):
            logger.warning("A change of %s holds from the next start of the worker.", ", ".join(waiting))
        self.sight.blind_after = config.blind_after
        kept = {name: getattr(self._config, name) for name in waiting}
        self._config = config.model_copy(update=kept)
        logger.info("The configuration was read again: %s.", changes)


def ending_signals(stop: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
    """SIGTERM and SIGINT call `stop` meanwhile; outside the main thread nothing is changed."""
    return _handled({signal.SIGTERM: stop, signal.SIGINT: stop})


@contextlib.contextmanager
def _handled(handlers: Mapping[signal.Signals, Callable[[], None]]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    handled = handlers if threading.current_thread() is threading.main_thread() else {}
    for number, handler in handled.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
