"""Assets under watch: a commissioned baseline decides an asset's alarm, every verdict joins its trend, once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import accumulate
from typing import Final, Literal

from sqlalchemy import Connection

from almenara.alarms import Rule, Transition
from almenara.alarms.office import AlarmOffice
from almenara.alarms.records import EvidenceFile
from almenara.alarms.ticking import Endurance
from almenara.contracts import Observation, VibrationVerdict
from almenara.settings import Settings
from almenara_api.evidence import Window, save_evidence
from almenara_api.metrics import Metrics
from almenara_api.repeats import Answers, Claim, RepeatedError
from almenara_api.signals import Posted
from almenara_api.together import RefusedError, Together
from almenara_api.trend import Entry, OvertakenError, Sensor, Trend
from almenara_api.turns import Turns

_LOG = logging.getLogger(__name__)

LATE: Final = "late"
"""Flag of a verdict on a window that came after newer ones had been judged: it changed no alarm."""

_SIDE_BY_SIDE = timedelta(seconds=60)
"""How far the channels of one asset may lag behind each other."""
_UPKEEP_SECONDS = 600.0

Verdicts = tuple[VibrationVerdict, ...]
Also = Callable[[Connection], None]


@dataclass(frozen=True)
class Answer:
    """JSON for the client, and what became of the request: `replayed` was given before, `lost` joins no trend."""

    content: str
    outcome: Literal["kept", "late", "replayed", "lost"] | None = None


class AssetWatch:
    """Turns verdicts with a baseline into alarms, and keeps trends and answers.

    Attributes:
        turns: keep an asset's windows in order.
        trend: of every asset.
        answers: for repeats.
    """

    def __init__(self, office: AlarmOffice, settings: Settings, metrics: Metrics) -> None:
        engine = office.store.engine
        self.turns = Turns()
        self.trend = Trend(engine, settings.trend_days, settings.trend_rows)
        self.answers = Answers(engine, settings.repeat_seconds)
        self._office = office
        self._metrics = metrics
        self._writer = engine.execution_options(writes=True)
        self._together = Together(engine)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trend-upkeep", daemon=True)
        self._stale = timedelta(seconds=settings.vibration_stale_seconds)
        self._rule = Rule(
            on_delay_seconds=settings.vibration_on_delay_seconds,
            off_delay_seconds=settings.vibration_off_delay_seconds,
            cooldown_seconds=settings.vibration_cooldown_seconds,
            stale_after_seconds=settings.vibration_stale_seconds,
        )

    def start(self) -> None:
        """Begin to forget what is old; returns at once."""
        self._thread.start()

    def close(self, timeout_seconds: float = 1.0) -> None:
        """Forget no more; what takes longer is left behind with its daemon thread."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)

    def keep(
        self,
        posted: Posted,
        verdicts: Verdicts,
        arrived: float,
        claim: Claim | None,
        write: Callable[[Verdicts], str],
    ) -> Answer:
        """Apply verdicts to their asset's alarm, and keep them in its trend, with the answer in one transaction.

        Args:
            posted: what was judged.
            verdicts: one for each signal.
            arrived: when the request came, on `time.monotonic()`.
            claim: by which a repeat is known; None if it cannot be repeated.
            write: the verdicts as JSON for the client.

        Returns:
            The answer: of a repeat the one that was given first, and then nothing is applied.

        Raises:
            InputError: `idempotency-mismatch` or `channels-too-many`; nothing is applied.
            sqlalchemy.exc.SQLAlchemyError: the alarm database failed; the request can be sent again.
        """
        while True:
            if claim is not None and (found := self.answers.find(claim, datetime.now(UTC))) is not None:
                return Answer(found, "replayed")
            try:
                return self._keep(posted, verdicts, arrived, claim, write)
            except (OvertakenError, RepeatedError):
                continue

    def observe(
        self,
        asset: str,
        window: Window,
        verdict: VibrationVerdict,
        *,
        ended: float | None = None,
        also: Also | None = None,
    ) -> None:
        """Apply a verdict to its asset's alarm; one without a baseline says nothing about an alarm.

        Args:
            asset: the machine.
            window: what was judged.
            verdict: on that window.
            ended: when the window ended, on `time.monotonic()`; by default now.
            also: writes more, in the same transaction if the alarm changes.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the alarm database failed; the window can be sent again.
        """
        if verdict.novelty is None:
            return
        now = time.monotonic()
        ended = now if ended is None else ended
        observation = Observation(
            source=asset,
            kind="vibration",
            anomaly=verdict.novelty.anomaly,
            reason=verdict.reason,
            model=verdict.novelty.model,
            observed_at=datetime.now(UTC) - timedelta(seconds=now - ended),
        )

        save = partial(save_evidence, self._office.evidence, asset, window, verdict)
        order = (asset, str(window.parameters.get("channel", "")))
        apply = partial(self._apply, observation, ended, save, also, order)
        written = self._office.committing(apply, source=asset)
        if isinstance(written, RefusedError):
            raise written
        for transition in written:
            fields = {"asset": asset, "change": transition.change, "alarm": transition.alarm_id}
            _LOG.info("asset changed", extra=fields)
            if transition.raised:
                self._metrics.alarms_raised.labels(asset).inc()

    def prune(self, now: datetime) -> None:
        """Forget readings and answers that are too old, then readings that are too many, in small steps."""
        self._in_steps(partial(self.trend.prune, now=now))
        self._in_steps(partial(self.answers.prune, now=now))
        for asset in self.trend.overfull():
            self._in_steps(partial(self.trend.trim, asset=asset))

    def _in_steps(self, step: Callable[[Connection], bool]) -> None:
        more = True
        while more and not self._stop.is_set():
            with self._writer.begin() as connection:
                more = step(connection)

    def _apply(
        self,
        observation: Observation,
        ended: float,
        save: Callable[[], tuple[EvidenceFile, ...]],
        also: Also | None,
        order: tuple[str, ...],
    ) -> tuple[Transition, ...] | RefusedError:
        """What an observation changes; a refusal is returned, since it is no failure of the database."""
        joined = False

        def join(connection: Connection) -> None:
            nonlocal joined
            joined = True
            if also is not None:
                also(connection)

        try:
            transitions = self._office.store.observe(observation, self._rule, now=ended, evidence=save, also=join)
            if also is not None and not joined:
                self._together.run(also, order=order)
        except RefusedError as refusal:
            return refusal
        return transitions

    def _keep(
        self,
        posted: Posted,
        verdicts: Verdicts,
        arrived: float,
        claim: Claim | None,
        write: Callable[[Verdicts], str],
    ) -> Answer:
        asset, now = posted.parameters.asset, datetime.now(UTC)
        batch = None if asset is None else self._batch(asset, posted, verdicts, arrived, now)
        content = write(verdicts if batch is None else tuple(entry.verdict for entry in batch.entries))

        def also(connection: Connection) -> None:
            if batch is not None:
                self.trend.add(
                    connection,
                    batch.sensor,
                    batch.entries,
                    received_at=now,
                    record_id=posted.parameters.record_id,
                    in_turn=batch.stamped,
                )
            if claim is not None:
                self.answers.add(connection, claim, content, now)

        if batch is None or not batch.telling:
            order = ("", "" if claim is None else claim.id) if batch is None else astuple(batch.sensor)
            self._office.committing(partial(self._together.run, also, order=order))
            return Answer(content, "late" if batch is not None and batch.entries[-1].late else "kept")
        for index in batch.telling:
            last = also if index == batch.telling[-1] else None  # so that what fails before can be sent again
            window, entry = _window(posted, index), batch.entries[index]
            self.observe(batch.sensor.asset, window, entry.verdict, ended=batch.ended[index], also=last)
        return Answer(content, "kept")

    def _batch(self, asset: str, posted: Posted, verdicts: Verdicts, arrived: float, received_at: datetime) -> _Batch:
        """When each signal ended, and whether it may still change the alarm."""
        sensor = Sensor(asset, posted.parameters.channel or "")
        now, told = time.monotonic(), posted.parameters.measured_at
        end = received_at - timedelta(seconds=now - arrived) if told is None else told
        lengths = [signal.size / posted.sampling_rate_hz for signal in posted.signals]
        measured = [end - timedelta(seconds=sum(lengths) - upto) for upto in accumulate(lengths)]
        ends = [min(each, received_at) for each in measured]  # the clock of a sensor may be ahead
        late = [False] * len(ends)
        channel, newest = self.trend.judged_until(sensor)
        if told is not None:
            late = [self._is_late(each, channel, newest, received_at) for each in ends]
            ends = [each if newest is None else max(each, newest) for each in ends]
        ended = [now - (received_at - each).total_seconds() for each in ends]
        entries = list(map(_entry, verdicts, measured, late))
        return _Batch(sensor, entries, ended, stamped=told is not None)

    def _is_late(self, end: datetime, channel: datetime | None, asset: datetime | None, now: datetime) -> bool:
        """Whether newer windows of the channel were judged, or much newer ones of the asset, or it tells of no now."""
        overtaken = channel is not None and end < channel
        left_behind = asset is not None and end < asset - _SIDE_BY_SIDE
        return overtaken or left_behind or end < now - self._stale

    def _run(self) -> None:
        endurance = Endurance("Forgetting old verdicts", _LOG)
        while not self._stop.is_set():
            endurance.run(partial(self.prune, datetime.now(UTC)))
            self._stop.wait(_UPKEEP_SECONDS)


@dataclass(frozen=True)
class _Batch:
    """The signals of one request, oldest first; `ended` is on `time.monotonic()`, `stamped` by the client's clock."""

    sensor: Sensor
    entries: Sequence[Entry]
    ended: Sequence[float]
    stamped: bool

    @property
    def telling(self) -> list[int]:
        """Those that say something of the alarm."""
        return [
            index for index, entry in enumerate(self.entries) if entry.verdict.novelty is not None and not entry.late
        ]


def _entry(verdict: VibrationVerdict, measured_at: datetime, late: bool) -> Entry:
    flagged = verdict.model_copy(update={"quality": (*verdict.quality, LATE)}) if late else verdict
    return Entry(flagged, measured_at, late)


def _window(posted: Posted, index: int) -> Window:
    told = posted.parameters.model_dump(mode="json", exclude_none=True, exclude={"sampling_rate_hz"})
    return Window(posted.signals[index], posted.sampling_rate_hz, told)
