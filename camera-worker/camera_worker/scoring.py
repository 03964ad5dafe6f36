"""What becomes of one camera's prepared pictures: a verdict for the alarm engine, or the word that there is none."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from almenara.alarms import Phase
from almenara.contracts import Observation, VisionVerdict
from camera_worker.client import ApiAwayError, ApiRefusedError, MalformedVerdictError, VisionClient
from camera_worker.config import CameraConfig
from camera_worker.history import History, Moment
from camera_worker.picture import Prepared
from camera_worker.slot import Frame
from camera_worker.states import AlarmSink, Blindness, CameraCounters, Scored
from camera_worker.view import View

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Picture:
    """A frame ready to be scored.

    Attributes:
        taken_at: when the frame was captured, or read from its file, on this process's monotonic clock.
        position: seconds into a video file; None for a live source.
    """

    frame: Frame
    prepared: Prepared
    taken_at: float
    position: float | None = None


class OwnThread:
    """One thread for all that a camera does besides waiting, so that no camera's slowness is another's."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """What `function` answers, once the thread has come to it."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)

    def end(self) -> None:
        """Takes no more work; what runs is left to end by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class Scoring:
    """Asks for one camera's verdicts, one request at a time, and knows whether and why it is blind.

    Pictures that cannot be scored (black or frozen ones, none at all, the API away, an answer that is no verdict) reach
    the alarm engine as *unknown*, never as normal.

    Attributes:
        last: the newest verdict.
        blindness: why nothing can be scored now; None while pictures are scored.
        blind_since: when it was noticed, seconds (monotonic).
        blind_reason: in words, without credentials.
        asked_at: when the request in flight began, seconds (monotonic).
    """

    def __init__(
        self,
        config: CameraConfig,
        client: VisionClient,
        history: History,
        thread: OwnThread,
        *,
        alarms: AlarmSink | None,
        report: Callable[[Scored], None],
    ) -> None:
        self._config, self._client, self._alarms, self._report = config, client, alarms, report
        self._history, self._thread = history, thread
        self._view = View(config.region, config.mask)
        self._phase, self._anomaly = Phase.NORMAL, 0.0  # as of the last verdict
        self.counters = CameraCounters()
        self.last: Scored | None = None
        self.blindness: Blindness | None = None
        self.blind_since: float | None = None
        self.blind_reason = ""
        self.asked_at: float | None = None

    async def take(self, picture: Picture) -> bool:
        """Scores a picture or notes that it cannot be; False when the same picture is worth asking about again."""
        condition = picture.prepared.condition
        if not condition.scorable:
            self.counters.unscorable += 1
            await self._be_blind_of(picture, Blindness.PICTURE, f"the picture is {condition}")
            return True
        posted_age = time.monotonic() - picture.taken_at
        self.counters.ages.add(posted_age)
        try:
            verdict = await self._ask(picture.prepared.jpeg)
        except MalformedVerdictError as error:
            self.counters.malformed += 1
            await self._be_blind_of(picture, Blindness.VERDICT, str(error))
        except ApiAwayError as error:
            self.counters.api_failures += 1
            await self._be_blind_of(picture, Blindness.API, str(error))
            return False
        except ApiRefusedError as error:
            self.counters.refused += 1
            await self._be_blind_of(picture, Blindness.REFUSED, str(error))
            return False
        else:
            await self._take_verdict(picture, verdict, posted_age)
        return True

    async def be_blind(
        self,
        now: float,
        blindness: Blindness,
        reason: str,
        *,
        moment: Moment | None = None,
        error: Exception | None = None,
    ) -> None:
        """Nothing can be scored at `now` (on the clock of the frames): logged when that is news, and observed."""
        if blindness is not self.blindness:
            logger.warning("%s: nothing can be scored: %s", self._config.name, reason, exc_info=error)
            self.blindness = blindness
        if self.blind_since is None:
            self.blind_since = time.monotonic()
        self.blind_reason = reason
        await self.be_unknown(now, reason, moment)

    async def be_unknown(self, now: float, reason: str, moment: Moment | None = None) -> None:
        """Tells the alarm engine that nothing was scored at `now` (on the clock of the frames)."""
        name, at = self._config.name, datetime.now(UTC)
        unknown = Observation(source=name, kind="vision", anomaly=None, reason=reason, observed_at=at)
        await self._tell(unknown, now, None, moment)

    def forget_blindness(self) -> None:
        """The camera is not to be scored for a while, or a new start is made."""
        self.blindness = self.blind_since = None
        self.blind_reason = ""

    async def _ask(self, jpeg: bytes) -> VisionVerdict:
        self.asked_at = time.monotonic()
        try:
            return await self._client.predict(jpeg, self._config.model, overlay=self._may_raise)
        finally:
            self.asked_at = None

    async def _take_verdict(self, picture: Picture, verdict: VisionVerdict, posted_age: float) -> None:
        self.counters.scored += 1
        self.counters.ages.add(posted_age)
        frame, prepared = picture.frame, picture.prepared
        age = time.monotonic() - picture.taken_at
        name = self._config.name
        scored = Scored(name, frame.captured_at, prepared.jpeg, verdict, age, posted_age, picture.position)
        self.last = scored
        self._report(scored)
        if self.blindness is not None:
            logger.info("%s: frames are scored again.", name)
            self.forget_blindness()
        observation = _observation(scored, self._view)
        await self._tell(observation, frame.monotonic, scored, _moment(picture, verdict.anomaly))

    async def _be_blind_of(self, picture: Picture, blindness: Blindness, reason: str) -> None:
        await self.be_blind(picture.frame.monotonic, blindness, reason, moment=_moment(picture))

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

    async def _tell(self, observation: Observation, now: float, scored: Scored | None, moment: Moment | None) -> None:
        """Adds the moment to the history first, so that evidence of this very observation has it."""
        if self._alarms is None:
            return
        try:
            phase = await self._thread.run(self._record, self._alarms, observation, now, scored, moment)
        except Exception:
            self.counters.store_failures += 1
            logger.exception("%s: the alarm store failed; the next observation tries again.", self._config.name)
        else:
            if observation.anomaly is not None:
                self._phase, self._anomaly = phase, observation.anomaly

    def _record(
        self, alarms: AlarmSink, observation: Observation, now: float, scored: Scored | None, moment: Moment | None
    ) -> Phase:
        if moment is not None:
            self._history.add(moment)
        return alarms.observe(observation, now, scored)


def _moment(picture: Picture, anomaly: float | None = None) -> Moment:
    frame, prepared = picture.frame, picture.prepared
    return Moment(frame.monotonic, frame.captured_at, prepared.jpeg, prepared.condition, anomaly)


def _observation(scored: Scored, view: View) -> Observation:
    verdict = scored.verdict
    if verdict.regions:
        largest = max(verdict.regions, key=lambda region: region.score)
        x, y = view.to_whole(largest.x + largest.width / 2, largest.y + largest.height / 2)
        where = f" at {x:.0%}, {y:.0%} of the picture"
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
