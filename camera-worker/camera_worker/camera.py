"""One camera: connected when its schedule says so, its newest frame scored at every turn, its state told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from almenara.errors import AlmenaraError, InputError
from camera_worker.capture import Capture, CaptureState
from camera_worker.client import VisionClient
from camera_worker.config import DEFAULT_FPS, CameraConfig
from camera_worker.health import StreamHealth
from camera_worker.history import History
from camera_worker.picture import Preparer
from camera_worker.playback import Playback
from camera_worker.quality import Condition
from camera_worker.scoring import Picture, Scoring
from camera_worker.sight import Sighting
from camera_worker.slot import Frame, LatestFrame
from camera_worker.sources import SourceKind
from camera_worker.states import AlarmSink, Blindness, CameraCounters, CameraState, Scored
from camera_worker.threads import OwnThread
from camera_worker.view import View

__all__ = ["AlarmSink", "Blindness", "Camera", "CameraCounters", "CameraState", "Scored"]

logger = logging.getLogger(__name__)

_TICK_SECONDS = 0.2
_EARLY_SHARE = 0.25  # of a turn: so much sooner a fresh frame may be taken
_RETRY_SECONDS = 0.25  # while blind: with the circuit breaker's second, scoring resumes well within two
_PAUSE_AFTER_ERROR_SECONDS = 1.0
_FRESH_SECONDS = 0.15  # an older frame is passed over when the next is near
_NEAR_SECONDS = 0.5
_MOST_AGE_SECONDS = 0.8
_KEY_FRAME_PATIENCE_SECONDS = 30.0
_STUCK_SECONDS = 10.0  # a turn that takes longer is blindness
_PAUSED = "outside its schedule"
_STARVED = "the camera sends no undamaged picture"


class Camera:
    """Samples one camera: one picture in flight, always the newest; of a video file every picture, in order.

    Args:
        config: the camera's configuration.
        client: scores pictures.
        alarms: told about every verdict; None only scores.
        report: told about every verdict, for `--json`.
        history: the last seconds, for the evidence of an alarm; a new one if not given.
        clock: gives the present as an aware datetime; the schedule follows it.
    """

    def __init__(
        self,
        config: CameraConfig,
        client: VisionClient,
        *,
        alarms: AlarmSink | None = None,
        report: Callable[[Scored], None] = lambda _: None,
        history: History | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.name, self.config = config.name, config
        self.history = history or History(config.evidence.before, config.evidence.after)
        self._clock = clock
        self._source = config.parsed_source()
        self._options = config.read_options()
        self._schedule = config.parsed_schedule()
        self._plays = self._source.kind is SourceKind.FILE and not config.realtime
        self._turn = 1.0 / (config.fps or DEFAULT_FPS)
        self._thread = OwnThread(f"camera-{config.name}")
        self._scoring = Scoring(config, client, self.history, self._thread, alarms=alarms, report=report)
        self._preparer = Preparer(View(config.region, config.mask), frozen_after=config.frozen_after)
        self._health = StreamHealth(None if config.frames == "keyframes" else config.fps or DEFAULT_FPS)
        self._trouble = ""  # of a live stream
        self._starved = False  # by a stream that stands
        self._condition = Condition.GOOD
        self._slot = LatestFrame()
        self._sequence = self._generation = 0
        self._seen_at = self._blind_told_at = time.monotonic()
        self._turn_began: float | None = None
        self._wake = asyncio.Event()
        self._stopping = self._paused = False
        self.watching = False
        self.retired: list[Capture | Playback] = []
        self.capture = self._new_capture()
        self._told: CameraState | None = None
        self.state_since = datetime.now(UTC)

    @property
    def counters(self) -> CameraCounters:
        return self._scoring.counters

    @property
    def last(self) -> Scored | None:
        """The newest verdict."""
        return self._scoring.last

    @property
    def blindness(self) -> Blindness | None:
        """Why nothing can be scored now; None while pictures are scored, and for a camera that is paused."""
        return self._scoring.blindness

    @property
    def blind_since(self) -> float | None:
        """When blindness was noticed, seconds (monotonic)."""
        return self._scoring.blind_since

    @property
    def state(self) -> CameraState:
        """What the capture thread says of the stream, and on a live stream what the pictures say."""
        if self._paused:
            return CameraState.PAUSED
        if self.capture.state is not CaptureState.LIVE:
            return CameraState(self.capture.state)
        if self._condition is not Condition.GOOD:
            return CameraState(self._condition)
        return CameraState.DEGRADED if self._trouble or self._starved else CameraState.LIVE

    @property
    def reason(self) -> str:
        """Why the camera is in its state, without credentials; empty when there is nothing to say."""
        match self.state:
            case CameraState.PAUSED:
                return _PAUSED
            case CameraState.FROZEN:
                return "the picture does not change; `frozen_after: off` if the scene is still and free of noise"
            case CameraState.DEGRADED:
                return self._trouble or _STARVED
            case _:
                return self.capture.reason

    def sighting(self, now: float) -> Sighting | None:
        """How the camera stands at `now` (monotonic); None when it is not to be scored: paused, ended, not started."""
        scoring, began = self._scoring, self._turn_began
        if self.capture.state is CaptureState.ENDED or not (self.watching or scoring.blindness):
            return None
        if scoring.blindness is not None:
            of_detection = scoring.blindness.of_detection
            return Sighting(self.name, False, scoring.blind_since, of_detection, scoring.blind_reason)
        if began is not None and now - began > _STUCK_SECONDS:
            asking = scoring.asked_at is not None
            reason = "the API does not answer" if asking else "its pictures are not processed"
            return Sighting(self.name, False, began, asking, reason)
        return Sighting(self.name, sees=scoring.sees)

    def stop(self) -> None:
        """Asks `run` to end; call it in the event loop's thread."""
        self._stopping = True
        self._wake.set()

    def replace_capture(self) -> None:
        """Abandons the capture thread, which is stuck or dead, and starts another; one that cannot start is dead."""
        self.counters.abandoned_threads += 1
        self.capture.stop()
        self._renew_capture()
        try:
            self.capture.start()
        except RuntimeError:
            logger.exception("%s: its new capture thread cannot be started.", self.name)

    async def run(self) -> None:
        """Samples `fps` times a second until `stop` is called or a file has been played to its end.

        A frame that fails in an unforeseen way is counted as unscorable, and sampling goes on after a pause; so does
        watching when it cannot begin, as when there can be no more threads.
        Raises InputError `video-unreadable` when a file holds no picture.
        """
        teller = asyncio.create_task(self._tell_states(), name=f"states of {self.name}")
        try:
            while not self._stopping and self.capture.state is not CaptureState.ENDED:
                try:
                    await self._attend()
                except AlmenaraError:
                    raise
                except Exception as error:  # noqa: BLE001 - logged by `be_blind`; a camera that is not watched is blind
                    await self._recover(error)
            if not self._stopping:
                self._require_pictures()
        finally:
            self.watching = False
            teller.cancel()
            self._tell_state()
            self.capture.stop()
            self._slot.call_on_next(None)
            self._thread.end()

    @property
    def _on_duty(self) -> bool:
        """Whether the schedule says so."""
        return self._schedule is None or self._schedule.is_active(self._clock())

    async def _attend(self) -> None:
        """Does what is to be done now, until that changes: watches, plays a file to its end, or pauses."""
        if not self._on_duty:
            await self._pause()
        elif isinstance(self.capture, Playback):
            await self._play(self.capture)
        else:
            await self._watch()

    async def _recover(self, error: Exception) -> None:
        """Blind until the next attempt, a second later."""
        reason = f"it cannot be watched ({type(error).__name__})"
        await self._scoring.be_blind(time.monotonic(), Blindness.ERROR, reason, error=error)
        if isinstance(self.capture, Capture):
            self._retire_capture()
        await self._rest(_PAUSE_AFTER_ERROR_SECONDS)

    async def _pause(self) -> None:
        """Stays disconnected until the schedule or `stop` ends it."""
        self._paused = True
        self._scoring.start_anew()
        told = False
        while not self._stopping and not self._on_duty:
            told = told or await self._scoring.be_unknown(time.monotonic(), _PAUSED)
            await self._rest(_NEAR_SECONDS)
        self._paused = self._stopping

    async def _watch(self) -> None:
        """Samples the live source until `stop`, the end of its hours, or the end of a file played in real time."""
        self.capture.start()
        self._seen_at = due = time.monotonic()
        self.watching = True
        while not self._stopping and self._on_duty:
            ended = self.capture.state is CaptureState.ENDED
            frame = self._due_frame(due, ended=ended)
            if frame is not None:
                await self._take(frame, frame.monotonic)
                pause = _PAUSE_AFTER_ERROR_SECONDS if self.blindness is Blindness.ERROR else 0.0
                due = max(due + self._turn, time.monotonic() + pause)
                if self.blindness is not None:
                    due = min(due, time.monotonic() + max(_RETRY_SECONDS, pause))
            elif ended:
                return
            else:
                await self._miss(time.monotonic())
                await self._await_frame(due)
        if not self._stopping:
            self._retire_capture()

    async def _play(self, playback: Playback) -> None:
        """Scores a video file in its own time: every picture, or as many a second as `fps` says."""
        if not self.watching:
            playback.start()
        self.watching = True
        while not self._stopping:
            self._turn_began = time.monotonic()
            frame = await self._thread.run(playback.next_frame)
            if frame is None:
                return
            await self._take(frame, time.monotonic())

    async def _take(self, frame: Frame, taken_at: float) -> None:
        """Scores a frame; that of a recording again and again until the API has answered, so that none is left out."""
        self._sequence, self._seen_at = frame.sequence, time.monotonic()
        self._turn_began, self._starved = self._seen_at, False
        self._generation = frame.generation
        try:
            prepared = await self._thread.run(self._preparer.prepare, frame, self._scoring.jpeg_quality)
            self._condition = prepared.condition
            picture = Picture(frame, prepared, taken_at, self._position(frame))
            while not await self._scoring.take(picture) and self._plays and not self._stopping:
                await self._rest(_RETRY_SECONDS)
        except Exception as error:  # noqa: BLE001 - logged by `be_blind`; one odd frame must not end a camera
            self.counters.unscorable += 1
            reason = f"the frame could not be processed ({type(error).__name__})"
            await self._scoring.be_blind(frame.monotonic, Blindness.ERROR, reason, error=error)
        finally:
            self._turn_began = None

    async def _miss(self, now: float) -> None:
        """No new frame: nothing to say of a slow camera, blindness when it lasts or the source is lost."""
        state, reason = self.capture.state, self.capture.reason
        if state in {CaptureState.OFFLINE, CaptureState.UNAUTHORISED}:
            reason = f"the camera is {state}: {reason}"
            self._condition, self._starved = Condition.GOOD, False
        elif state is not CaptureState.ENDED and self._sees_nothing(now):
            reason, self._starved = _STARVED, True
        else:
            return
        if self.blindness is not Blindness.CAMERA or now - self._blind_told_at >= _NEAR_SECONDS:
            self._blind_told_at = now
            await self._scoring.be_blind(now, Blindness.CAMERA, reason)

    def _sees_nothing(self, now: float) -> bool:
        """Whether undamaged pictures stopped coming; of key frames alone their packets tell, within bounds."""
        patience, meter = self._options.read, self.capture.meter
        if now - max(self._seen_at, meter.seen_at) > patience:
            return True
        between = meter.keyframe_interval or _KEY_FRAME_PATIENCE_SECONDS / 2
        return self._options.keyframes_only and now - self._seen_at > max(patience, 2 * between)

    def _due_frame(self, due: float, *, ended: bool) -> Frame | None:
        """The newest frame if it is to be taken now; one that is not fresh only if no newer one is near.

        What a stream sent last before it was lost is not taken: its camera is blind already.
        """
        frame = self._slot.newest(after=self._sequence)
        if frame is None or ended:
            return frame
        if self.capture.state is not CaptureState.LIVE:
            return None
        now, read = time.monotonic(), self._options.read
        age = now - frame.monotonic
        interval = self._interval
        if now < due - self._turn * _EARLY_SHARE or age > min(read, max(_MOST_AGE_SECONDS, 2 * interval)):
            return None
        next_is_near = interval <= _NEAR_SECONDS and age <= interval + _FRESH_SECONDS
        return None if age > _FRESH_SECONDS and next_is_near else frame

    @property
    def _interval(self) -> float:
        """Seconds between pictures, as far as it is known."""
        meter = self.capture.meter
        if self._options.keyframes_only and meter.keyframe_interval:
            return meter.keyframe_interval
        fps = meter.fps
        return 1 / fps if fps else self._options.read

    async def _await_frame(self, due: float) -> None:
        """Waits until a frame may be taken, at most a fifth of a second, so that a loss is noticed soon."""
        early = due - self._turn * _EARLY_SHARE - time.monotonic()
        if early > 0:
            await self._rest(min(early, _TICK_SECONDS))
            return
        loop = asyncio.get_running_loop()

        def arrived() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(self._wake.set)

        self._slot.call_on_next(arrived)
        await self._rest(_until_tick())

    async def _rest(self, seconds: float) -> None:
        """Sleeps, and wakes at once when a frame that was waited for arrives or `stop` is called."""
        if not self._stopping:
            timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()
            self._wake.clear()

    def _position(self, frame: Frame) -> float | None:
        return frame.monotonic - self.capture.started_at if isinstance(self.capture, Playback) else None

    def _new_capture(self) -> Capture | Playback:
        if self._plays:
            return Playback(self._source, options=self._options, fps=self.config.fps, name=self.name)
        return Capture(self._source, self._slot, options=self._options, name=self.name)

    def _retire_capture(self) -> None:
        self.watching = False
        self.capture.stop()
        self.retired.append(self.capture)
        self._renew_capture()

    def _renew_capture(self) -> None:
        """Nothing that the earlier one showed holds for the next."""
        self.capture = self._new_capture()
        self._condition, self._starved = Condition.GOOD, False

    def _require_pictures(self) -> None:
        if not self.capture.meter.counters.frames:
            reason = self.capture.reason.removeprefix("it holds no picture that can be read: ")
            fact = f"{self._source.label} holds no picture that can be read: {reason}."
            raise InputError("video-unreadable", fact, "Check that it is a video file.")

    async def _tell_states(self) -> None:
        """Logs the state as it changes, also while a request or the store takes its time."""
        while True:
            live = self.capture.state is CaptureState.LIVE and self._generation > 0
            self._trouble = self._judge_stream() if live else ""
            self._tell_state()
            await asyncio.sleep(_until_tick())

    def _judge_stream(self) -> str:
        meter = self.capture.meter
        return self._health.judge(time.monotonic(), self._generation, damaged_share=meter.damaged_share, fps=meter.fps)

    def _tell_state(self) -> None:
        if (state := self.state) is self._told:
            return
        self._told, self.state_since = state, datetime.now(UTC)
        reason = f": {self.reason}" if self.reason else ""
        whole = state is not CameraState.ENDED or not reason  # a file that ends with a reason has damage or holes
        level = logging.INFO if state.good and whole else logging.WARNING
        logger.log(level, "%s (%s) is %s%s", self.name, self._source.label, state, reason)


def _until_tick() -> float:
    """Seconds until the next fifth of a second, at which every camera wakes up: together they cost hardly more."""
    return _TICK_SECONDS - time.monotonic() % _TICK_SECONDS
