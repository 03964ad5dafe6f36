"""The worker's side of the alarm engine: each camera's observations, evidence, and the deliverer's thread."""

from __future__ import annotations

import fcntl
import logging
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

import cv2
from sqlalchemy.exc import SQLAlchemyError

from almenara.alarms import AlarmStore, Change, Deliverer, LogChannel, Phase, Priority, Rule, Transition
from almenara.contracts import Observation
from almenara.errors import ConfigurationError
from almenara.redaction import redact
from camera_worker.config import CameraConfig
from camera_worker.evidence import STRIP, EvidenceFolder
from camera_worker.history import History, Moment
from camera_worker.quality import Condition
from camera_worker.states import Scored
from camera_worker.strip import contact_sheet
from camera_worker.strips import StripFinisher

logger = logging.getLogger(__name__)

_DELIVERER_PATIENCE_SECONDS = 1.5
_STRIPS_PATIENCE_SECONDS = 1.0


class AlarmDesk:
    """Alarm store, evidence folder and log channel of one worker; a context manager.

    Files: ``alarms/worker.db`` (SQLite), ``alarms/alarms.log`` and ``evidence/`` under `var_dir`. Raises
    ConfigurationError when another worker uses them: two would end each other's alarms.
    """

    def __init__(self, var_dir: Path) -> None:
        folder = var_dir / "alarms"
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(folder / "worker.lock")
        self.store = AlarmStore(f"sqlite:///{folder / 'worker.db'}", channels=("log",))
        self.evidence = EvidenceFolder(var_dir / "evidence")
        self.strips = StripFinisher()
        self._deliverer = Deliverer(self.store, [LogChannel(folder / "alarms.log")])
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._deliverer.run, args=(self._stop,), name="alarm-deliverer", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        self.strips.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finishes strips, tells what is due and ends; what cannot be told now stays in the outbox."""
        try:
            self._end()
        finally:
            self._lock.close()

    def _end(self) -> None:
        self._stop.set()
        self.strips.stop(_STRIPS_PATIENCE_SECONDS)
        self._thread.join(_DELIVERER_PATIENCE_SECONDS)
        if self._thread.is_alive():
            return
        try:
            self._deliverer.drain()
        except SQLAlchemyError as failure:
            cause = getattr(failure, "orig", None) or failure
            logger.warning("Alarms that are due could not be told and stay in the outbox: %s", cause)
        finally:
            self.store.close()

    def sink(self, camera: CameraConfig, history: History | None = None) -> CameraAlarms:
        """Where `camera` sends its observations; evidence shows its `history`, a new one if not given."""
        history = history or History(camera.evidence.before, camera.evidence.after)
        return CameraAlarms(self.store, camera, history, self.evidence, self.strips)

    def system(self, source: str, blind: bool, reason: str, now: float, priority: Priority = "critical") -> Phase:
        """Raises an alarm about the platform itself, or has it return; what delays it has to be the caller's.

        Args:
            source: what is blind: ``detection``, or a camera's sight.
            blind: whether it is.
            reason: for people.
            now: seconds on the monotonic clock.
            priority: of the alarm.

        Returns the phase that `source` is in then. Raises SQLAlchemyError as `AlarmStore.observe`.
        """
        observation = Observation(
            source=source, kind="system", anomaly=float(blind), reason=redact(reason), observed_at=datetime.now(UTC)
        )
        rule = Rule(on_delay_seconds=0, off_delay_seconds=0, priority=priority)
        for transition in self.store.observe(observation, rule, now=now):
            if transition.change is not Change.REGAINED:  # each start begins with it
                _log(transition)
        return self.store.phase(source)


class CameraAlarms:
    """One camera's way to the alarm store.

    Attributes:
        history: the camera's last seconds, fed by whoever prepares its pictures; evidence shows them.
    """

    def __init__(
        self,
        store: AlarmStore,
        camera: CameraConfig,
        history: History,
        evidence: EvidenceFolder,
        strips: StripFinisher,
    ) -> None:
        self._store, self._rule, self._evidence, self._strips = store, camera.alarm.rule(), evidence, strips
        self._phase: Phase | None = None
        self.history = history

    def observe(self, observation: Observation, now: float, scored: Scored | None) -> Phase:
        """As `AlarmSink.observe`; saves evidence of the frame when the observation raises an alarm.

        The phase is that of the last transition made here: an acknowledgement given elsewhere shows with the next.
        """
        observation = observation.model_copy(update={"reason": redact(observation.reason)})

        def save() -> tuple[str, ...]:
            try:
                return () if scored is None else self._save(scored, now)
            except OSError as error:
                logger.error("%s: the alarm goes out without evidence: %s", observation.source, error)  # noqa: TRY400
                raise

        for transition in self._store.observe(observation, self._rule, now=now, evidence=save):
            _log(transition)
            self._phase = transition.phase
        if self._phase is None:
            self._phase = self._store.phase(observation.source)
        return self._phase

    def _save(self, scored: Scored, now: float) -> tuple[str, ...]:
        """Evidence as it is at once, with a strip of what came before; what comes after is added later."""
        raising = Moment(now, scored.captured_at, scored.jpeg, Condition.GOOD, scored.verdict.anomaly)
        strip = self._strip(raising)
        paths = self._evidence.save(scored.camera, scored.captured_at, scored.jpeg, scored.verdict, strip=strip)
        if strip is not None and self.history.after:
            path = next(Path(path) for path in paths if path.endswith(STRIP))
            self._strips.expect(path, self.history, raising)
        return paths

    def _strip(self, raising: Moment) -> bytes | None:
        """None when it cannot be drawn, which must not cost the rest of the evidence."""
        try:
            return contact_sheet(self.history.around(raising.monotonic), raising)
        except (ValueError, cv2.error) as error:
            logger.warning("The alarm's strip of pictures could not be drawn: %s", error)
            return None


def _locked(path: Path) -> TextIO:
    """The file, which nobody else can lock until it is closed or this process ends."""
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        fact = f"Another camera worker keeps its alarms in {path.parent}."
        raise ConfigurationError(fact, "Give each its own folder: --var-dir, var_dir or ALMENARA_VAR_DIR.") from error
    return file


def _log(transition: Transition) -> None:
    if transition.raised:
        logger.warning("ALARM %s: %s (anomaly %.2f)", transition.source, transition.reason, transition.anomaly or 0.0)
    else:
        logger.info("%s: %s, %s -> %s", transition.source, transition.change, transition.previous, transition.phase)
