"""What becomes of one camera's prepared pictures: a verdict for the alarm engine, or the word that there is none."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from almenara.alarms import Phase
from almenara.contracts import Observation, VisionVerdict
from camera_worker.client import (
    ApiAwayError,
    ApiRefusedError,
    MalformedVerdictError,
    PictureRefusedError,
    VisionClient,
)
from camera_worker.config import CameraConfig
from camera_worker.history import History, Moment
from camera_worker.picture import Prepared
from camera_worker.slot import Frame
from camera_worker.states import AlarmSink, Blindness, CameraCounters, Scored
from camera_worker.threads import OwnThread
from camera_worker.view import View

logger = logging.getLogger(__name__)

_LOST_SECONDS = 1.0  # missing verdicts for less time are no news


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


class Scoring:
    """Asks for one camera's verdicts, one request at a time, and knows whether and why it is blind.

    Pictures that cannot be scored (black or frozen ones, none at all, the API away, an answer that is no verdict) reach
    the alarm engine as *unknown*, never as normal; missing verdicts once they were missing for a second, so that an API
    that flickers fills neither the log nor the database.

    Two clocks run: since when there is no picture that can be scored, and since when pictures have no verdict. The
    second stands still while the first runs.

    Attributes:
        last: the newest verdict.
        sees: whether the last picture since the latest start was scored.
        blindness: why nothing can be scored now; None while pictures are scored.
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
        self.sees = False
        self.blindness: Blindness | None = None
        self.blind_reason = ""
        self._unsighted_since: float | None = None
        self._unanswered_since: float | None = None
        self._unanswered_from = 0.0  # on the clock of the frames
        self._told: Blindness | None = None
        self.asked_at: float | None = None

    @property
    def blind_since(self) -> float | None:
        """When the want of pictures, or of verdicts, was noticed, seconds (monotonic); None when it is not blind."""
        if self.blindness is None:
            return None
        return self._unanswered_since if self.blindness.of_detection else self._unsighted_since

    @property
    def jpeg_quality(self) -> int:
        """At which to encode the next picture, 95 or 100."""
        return self._client.jpeg_quality(self._config.model)

    async def take(self, picture: Picture) -> bool:
        """Scores a picture or notes that it cannot be; False when the same picture is worth asking about again."""
        condition = picture.prepared.condition
        if not condition.scorable:
            self.counters.unscorable += 1
            await self._be_blind_of(picture, Blindness.PICTURE, f"the picture is {condition}")
            return True
        if self.blindness is not Blindness.ERROR:
            self._have_picture()
        posted_age = time.monotonic() - picture.taken_at
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
            return isinstance(error, PictureRefusedError)
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
        self.sees, self.blindness, self.blind_reason = False, blindness, reason
        at = time.monotonic()
        if not blindness.of_detection:
            self._unsighted_since = self._unsighted_since or at
        elif self._unanswered_since is None:
            self._unanswered_since, self._unanswered_from = at, now
        if self._flickers(now, at):
            if moment is not None:
                self._history.add(moment)
            return
        if blindness is not self._told:
            logger.warning("%s: nothing can be scored: %s", self._config.name, reason, exc_info=error)
            self._told = blindness
        await self.be_unknown(now, reason, moment)

    async def be_unknown(self, now: float, reason: str, moment: Moment | None = None) -> bool:
        """Tells the alarm engine that nothing was scored at `now` (on the clock of the frames); whether it took it."""
        name, at = self._config.name, datetime.now(UTC)
        unknown = Observation(source=name, kind="vision", anomaly=None, reason=reason, observed_at=at)
        return await self._tell(unknown, now, None, moment)

    def start_anew(self) -> None:
        """The camera is not to be scored for a while; nothing that was known of it holds when it is again."""
        self.sees = False
        self._forget_blindness()

    def _have_picture(self) -> None:
        """A picture can be scored: the time without one does not count as time without a verdict."""
        if self._unsighted_since is not None and self._unanswered_since is not None:
            self._unanswered_since += time.monotonic() - max(self._unsighted_since, self._unanswered_since)
        self._unsighted_since = None

    def _flickers(self, now: float, at: float) -> bool:
        """Whether verdicts have been missing for so short a time, on both clocks, that nobody is told yet."""
        if self._told or self._unsighted_since is not None or self._unanswered_since is None:
            return False
        return max(now - self._unanswered_from, at - self._unanswered_since) < _LOST_SECONDS

    def _forget_blindness(self) -> None:
        self.blindness = self._unsighted_since = self._unanswered_since = self._told = None
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
        if picture.position is None:
            self._report(scored)
        else:  # whoever reads the verdicts of a file may hold it up, and nothing else
            await self._thread.run(self._report, scored)
        observation = _observation(scored, self._view)
        await self._tell(observation, frame.monotonic, scored, _moment(picture, verdict.anomaly))
        if self._told:
            logger.info("%s: frames are scored again.", name)
        self._forget_blindness()
        self.sees = True

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

    async def _tell(self, observation: Observation, now: float, scored: Scored | None, moment: Moment | None) -> bool:
        """Adds the moment to the history first, so that evidence of this very observation has it; False on failure."""
        if self._alarms is None:
            return True
        try:
            phase = await self._thread.run(self._record, self._alarms, observation, now, scored, moment)
        except Exception:
            self.counters.store_failures += 1
            logger.exception("%s: the alarm store failed; the next observation tries again.", self._config.name)
            return False
        if observation.anomaly is not None:
            self._phase, self._anomaly = phase, observation.anomaly
        return True

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
