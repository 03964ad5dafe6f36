"""One camera's turn: the newest frame is judged, scored through the API, and told to the alarm engine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

import cv2

from almenara.alarms import Phase
from almenara.contracts import Observation, VisionVerdict
from almenara.errors import InputError
from camera_worker.capture import Capture, CaptureState
from camera_worker.client import ApiAwayError, ApiRefusedError, MalformedVerdictError, VisionClient
from camera_worker.config import DEFAULT_FPS, CameraConfig
from camera_worker.quality import Condition, QualityJudge
from camera_worker.slot import Frame, LatestFrame
from camera_worker.sources import ReadOptions

logger = logging.getLogger(__name__)

LONGEST_SIDE = 1024
JPEG_QUALITY = 90

_PAUSE_AFTER_ERROR_SECONDS = 1.0


class CameraState(StrEnum):
    """What a person is told about a camera."""

    CONNECTING = "connecting"
    LIVE = "live"
    FROZEN = "frozen"
    BLACK = "black"
    BLURRED = "blurred"
    OFFLINE = "offline"
    UNAUTHORISED = "unauthorised"
    ENDED = "ended"


@dataclass
class CameraCounters:
    """What became of a camera's frames."""

    scored: int = 0
    unscorable: int = 0
    malformed: int = 0
    api_failures: int = 0
    store_failures: int = 0
    abandoned_threads: int = 0


@dataclass(frozen=True)
class Scored:
    """A frame and its verdict.

    Attributes:
        jpeg: the picture exactly as it was sent.
        age: seconds from capture to verdict.
    """

    camera: str
    captured_at: datetime
    jpeg: bytes
    verdict: VisionVerdict
    age: float


class Blindness(StrEnum):
    """Why nothing can be scored; a change of kind is logged, a repetition is not."""

    CAMERA = "camera"
    PICTURE = "picture"
    API = "api"
    VERDICT = "verdict"
    ERROR = "error"
    """The frame or its verdict made this program fail."""


class AlarmSink(Protocol):
    """Where one camera's observations go."""

    def observe(self, observation: Observation, now: float, scored: Scored | None) -> Phase:
        """Takes an observation made at `now` (monotonic) and answers with the phase that the camera is in then."""
        ...


class Camera:
    """Samples one camera: one picture in flight, always the newest.

    Frames that cannot be scored (black or frozen pictures, none at all, the API away, an answer that is no verdict, an
    error that nobody foresaw) reach the alarm engine as *unknown*, never as normal.

    Args:
        config: the camera's configuration.
        client: scores pictures.
        alarms: told about every verdict; None only scores.
        report: told about every verdict, for `--json`.
    """

    def __init__(
        self,
        config: CameraConfig,
        client: VisionClient,
        *,
        alarms: AlarmSink | None = None,
        report: Callable[[Scored], None] = lambda _: None,
    ) -> None:
        self.name = config.name
        self._config, self._client, self._alarms, self._report = config, client, alarms, report
        self._source = config.parsed_source()
        self._options = ReadOptions(config.connect_timeout, config.read_timeout, config.unauthorised_retry)
        self._slot = LatestFrame()
        self._judge = QualityJudge(frozen_after=config.frozen_after)
        self._condition = Condition.GOOD
        self._sequence = self._generation = 0
        self._seen_at = time.monotonic()
        self._phase, self._anomaly = Phase.NORMAL, 0.0  # as of the last verdict
        self._blindness: Blindness | None = None
        self._told: CameraState | None = None
        self.counters = CameraCounters()
        self.capture = self._new_capture()

    @property
    def state(self) -> CameraState:
        """What the capture thread says of the stream, and on a live stream what the pictures say."""
        if self.capture.state is CaptureState.LIVE and self._condition is not Condition.GOOD:
            return CameraState(self._condition)
        return CameraState(self.capture.state)

    def replace_capture(self) -> None:
        """Abandons the capture thread, which is stuck or dead, and starts another."""
        self.counters.abandoned_threads += 1
        self.capture.stop()
        self.capture = self._new_capture()
        self.capture.start()

    async def run(self, stop: asyncio.Event) -> None:
        """Samples `fps` times a second until `stop` is set or a file has been played to its end.

        A frame that fails in an unforeseen way is counted as unscorable, and sampling goes on after a pause.
        Raises InputError `video-unreadable` when a file holds no picture.
        """
        self.capture.start()
        turn = 1.0 / (self._config.fps or DEFAULT_FPS)
        due = time.monotonic()
        while not stop.is_set():
            ended = self.capture.state is CaptureState.ENDED
            pause = turn
            try:
                await self.sample()
            except Exception as error:  # noqa: BLE001 - logged by `_be_blind`; one odd frame must not end a camera
                pause = max(turn, _PAUSE_AFTER_ERROR_SECONDS)
                self.counters.unscorable += 1
                reason = f"the frame could not be processed ({type(error).__name__})"
                await self._be_blind(self._seen_at, Blindness.ERROR, reason, error)
            self._tell_state()
            if ended:
                self._require_pictures()
                return
            due = max(due + pause, time.monotonic())
            await _sleep(due - time.monotonic(), stop)

    async def sample(self) -> None:
        """One turn, on the newest frame if there is a new one."""
        now = time.monotonic()
        frame = self._slot.newest(after=self._sequence)
        if frame is None or now - frame.monotonic > self._options.read:
            await self._miss(now)
            return
        self._sequence, self._seen_at = frame.sequence, frame.monotonic
        if frame.generation != self._generation:
            self._generation = frame.generation
            self._judge = QualityJudge(frozen_after=self._config.frozen_after)
        jpeg, self._condition = await asyncio.to_thread(prepare, frame, self._judge)
        if self._condition.scorable:
            await self._score(frame, jpeg)
        else:
            self.counters.unscorable += 1
            await self._be_blind(frame.monotonic, Blindness.PICTURE, f"the picture is {self._condition}")

    async def _miss(self, now: float) -> None:
        """No new frame: nothing to say of a slow camera, blindness when it lasts or the source is lost."""
        state, reason = self.capture.state, self.capture.reason
        if state in {CaptureState.OFFLINE, CaptureState.UNAUTHORISED}:
            await self._be_blind(now, Blindness.CAMERA, f"the camera is {state}: {reason}")
        elif state is not CaptureState.ENDED and now - self._seen_at > self._options.read:
            await self._be_blind(now, Blindness.CAMERA, "the camera sends no undamaged picture")

    async def _score(self, frame: Frame, jpeg: bytes) -> None:
        try:
            verdict = await self._client.predict(jpeg, self._config.model, overlay=self._may_raise)
        except MalformedVerdictError as error:
            self.counters.malformed += 1
            await self._be_blind(frame.monotonic, Blindness.VERDICT, str(error))
        except (ApiAwayError, ApiRefusedError) as error:
            self.counters.api_failures += 1
            await self._be_blind(frame.monotonic, Blindness.API, str(error))
        else:
            self.counters.scored += 1
            age = time.monotonic() - frame.monotonic
            scored = Scored(self.name, frame.captured_at, jpeg, verdict, age)
            self._report(scored)
            if self._blindness is not None:
                logger.info("%s: frames are scored again.", self.name)
                self._blindness = None
            await self._observe(_observation(scored), frame.monotonic, scored)

    @property
    def _may_raise(self) -> bool:
        """Whether the next verdict can raise an alarm: an on-delay is running, or there is none.

        Blindness in between does not matter, since it pauses an on-delay.
        """
        alarm = self._config.alarm
        if self._alarms is None:
            return False
        again = self._phase is Phase.RETURNED_UNACKNOWLEDGED and self._anomaly >= alarm.threshold - alarm.deadband
        return again or self._phase is Phase.PENDING or alarm.on_delay == 0

    async def _be_blind(self, now: float, blindness: Blindness, reason: str, error: Exception | None = None) -> None:
        if blindness is not self._blindness:
            logger.warning("%s: nothing can be scored: %s", self.name, reason, exc_info=error)
            self._blindness = blindness
        moment = datetime.now(UTC)
        unknown = Observation(source=self.name, kind="vision", anomaly=None, reason=reason, observed_at=moment)
        await self._observe(unknown, now, None)

    async def _observe(self, observation: Observation, now: float, scored: Scored | None) -> None:
        if self._alarms is None:
            return
        try:
            phase = await asyncio.to_thread(self._alarms.observe, observation, now, scored)
        except Exception:
            self.counters.store_failures += 1
            logger.exception("%s: the alarm store failed; the next observation tries again.", self.name)
        else:
            if observation.anomaly is not None:
                self._phase, self._anomaly = phase, observation.anomaly

    def _new_capture(self) -> Capture:
        return Capture(self._source, self._slot, options=self._options, name=self.name)

    def _require_pictures(self) -> None:
        if not self.capture.counters.frames:
            fact = f"{self._source.label} holds no picture that can be read: {self.capture.reason}."
            raise InputError("video-unreadable", fact, "Check that it is a video file.")

    def _tell_state(self) -> None:
        if (state := self.state) is not self._told:
            self._told = state
            reason = f": {self.capture.reason}" if self.capture.reason else ""
            logger.info("%s (%s) is %s%s", self.name, self._source.label, state, reason)


def prepare(frame: Frame, judge: QualityJudge) -> tuple[bytes, Condition]:
    """The JPEG to score, longest side at most 1024 pixels, and what the picture is worth."""
    image = frame.rgb(LONGEST_SIDE)
    condition = judge.judge(image, frame.monotonic)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    encoded, jpeg = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    if not encoded:
        raise RuntimeError("OpenCV could not encode a JPEG")
    return jpeg.tobytes(), condition


def _observation(scored: Scored) -> Observation:
    verdict = scored.verdict
    if verdict.regions:
        largest = max(verdict.regions, key=lambda region: region.score)
        where = f" at {largest.x + largest.width / 2:.0%}, {largest.y + largest.height / 2:.0%} of the picture"
    else:
        where = ""
    rarity = f"as rare as 1 in {1 / verdict.p_value:.0f} normal pictures"
    return Observation(
        source=scored.camera,
        kind="vision",
        anomaly=verdict.anomaly,
        reason=f"{verdict.label}{where}, {rarity}",
        model=verdict.model,
        observed_at=scored.captured_at,
    )


async def _sleep(seconds: float, stop: asyncio.Event) -> None:
    """Sleeps, and wakes at once when `stop` is set."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), max(0.0, seconds))
