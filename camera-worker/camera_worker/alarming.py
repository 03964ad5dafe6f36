"""The worker's side of the alarm engine: each camera's observations, evidence, and the way to the plant-wide record."""

from __future__ import annotations

import fcntl
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TextIO

import cv2

from almenara.alarms import AlarmStore, Change, Phase, Priority, Rule, Transition
from almenara.alarms.config import AlarmsConfig
from almenara.alarms.forwarding import CURSOR, Forwarder
from almenara.alarms.links import Links
from almenara.alarms.office import AlarmOffice
from almenara.alarms.records import EvidenceFile
from almenara.contracts import Observation
from almenara.errors import ConfigurationError
from almenara.evidence.local import LocalEvidence
from almenara.redaction import redact
from camera_worker.config import CameraConfig
from camera_worker.evidence import STRIP, save_evidence
from camera_worker.history import History, Moment
from camera_worker.quality import Condition
from camera_worker.states import Scored
from camera_worker.strip import contact_sheet
from camera_worker.strips import StripFinisher

logger = logging.getLogger(__name__)

_FORWARDER_PATIENCE_SECONDS = 0.5
_STRIPS_PATIENCE_SECONDS = 1.0


class Record(NamedTuple):
    """Where the plant-wide record is: the API's address and key."""

    url: str
    key: str | None


@dataclass(frozen=True)
class DeskFigures:
    """How a desk is doing.

    Attributes:
        outbox_late: seconds by which the oldest message that waits to be sent is late.
        record_late: seconds for which the record has lacked the oldest transition; None when nothing is forwarded.
        heartbeat_withheld: whether something is wrong that stops the heartbeat.
        evidence_waiting: seconds for which the oldest evidence has waited for object storage.
        disk_free: bytes on the disk of the worker's folder.
        disk_size: bytes, of the same disk.
    """

    outbox_late: float
    record_late: float | None
    heartbeat_withheld: bool
    evidence_waiting: float
    disk_free: int
    disk_size: int


class AlarmDesk:
    """Alarm office, strips and forwarder of one worker; a context manager.

    Files: ``alarms/worker.db`` (SQLite), ``alarms/alarms.log`` and ``evidence/`` under `var_dir`.

    Args:
        var_dir: the worker's own folder.
        config: of alarms.yaml.
        name: of the worker at the plant-wide record.
        blind: why a camera that should be scored is not, or None; the heartbeat stops meanwhile.
        record: which alarms are forwarded to; None forwards nothing.

    Raises ConfigurationError as `AlarmOffice`, and when another worker uses the folder: two would end each other's
    alarms.
    """

    def __init__(
        self,
        var_dir: Path,
        *,
        config: AlarmsConfig | None = None,
        name: str = "",
        blind: Callable[[], str | None] = lambda: None,
        record: Record | None = None,
    ) -> None:
        folder = var_dir / "alarms"
        folder.mkdir(parents=True, exist_ok=True)
        url = f"sqlite:///{folder / 'worker.db'}"
        self._var_dir, self._outgoing = var_dir, LocalEvidence(var_dir / "evidence" / "outgoing")
        self._lock = _locked(folder / "worker.lock")
        try:
            self._office = AlarmOffice(
                url, var_dir, config=config or AlarmsConfig(), origin=name, blind=blind, token=_signer(record)
            )
        except BaseException:
            self._lock.close()
            raise
        self.store = self._office.store
        self.strips = StripFinisher(self._office.evidence)
        self._forwarder: Forwarder | None = None
        if record:
            self._forwarder = Forwarder(
                self.store, record.url, api_key=record.key, origin=name, evidence=self._office.evidence
            )

    def __enter__(self) -> Self:
        self._office.start()
        self.strips.start()
        if self._forwarder:
            self._forwarder.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finishes strips, tells what is due and ends; what cannot be told now stays in the outbox."""
        try:
            self.strips.stop(_STRIPS_PATIENCE_SECONDS)
            if self._forwarder:
                self._forwarder.stop(_FORWARDER_PATIENCE_SECONDS)
            self._office.close()
        finally:
            self._lock.close()

    def sink(self, camera: CameraConfig, history: History | None = None) -> CameraAlarms:
        """Where `camera` sends its observations; evidence shows its `history`, a new one if not given."""
        history = history or History(camera.evidence.before, camera.evidence.after)
        return CameraAlarms(self._office, camera, history, self.strips)

    def figures(self) -> DeskFigures:
        """How the desk is doing, for whoever watches the worker; raises SQLAlchemyError or OSError."""
        now, disk = datetime.now(UTC), shutil.disk_usage(self._var_dir)
        record_late = None
        if self._forwarder:
            unreported = self.store.changes_after(self.store.cursor(CURSOR), limit=1)
            record_late = max((_seconds(now - report.transition.at) for _, report in unreported), default=0.0)
        waiting = [_seconds(now - datetime.fromtimestamp(each.saved_at, UTC)) for each in self._outgoing.stored()]
        return DeskFigures(
            outbox_late=self.store.outbox.overdue(now),
            record_late=record_late,
            heartbeat_withheld=self._office.unhealthy() is not None,
            evidence_waiting=max(waiting, default=0.0),
            disk_free=disk.free,
            disk_size=disk.total,
        )

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
        transitions = self._office.committing(lambda: self.store.observe(observation, rule, now=now), source=source)
        for transition in transitions:
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
        office: AlarmOffice,
        camera: CameraConfig,
        history: History,
        strips: StripFinisher,
    ) -> None:
        self._office, self._rule, self._strips = office, camera.rule(), strips
        self._phase: Phase | None = None
        self.history = history

    def observe(self, observation: Observation, now: float, scored: Scored | None) -> Phase:
        """As `AlarmSink.observe`; saves evidence of the frame when the observation raises an alarm.

        The phase is that of the last transition made here: an acknowledgement given elsewhere shows with the next.
        """
        observation = observation.model_copy(update={"reason": redact(observation.reason)})
        picture = _Picture(scored, now) if scored else None

        def save() -> tuple[EvidenceFile, ...]:
            return self._save(picture) if picture else ()

        store = self._office.store
        transitions = self._office.committing(
            lambda: store.observe(observation, self._rule, now=now, evidence=save), source=observation.source
        )
        for transition in transitions:
            _log(transition)
            self._phase = transition.phase
            if transition.raised and transition.alarm_id and picture:
                self._expect_strip(transition.alarm_id, picture)
        if self._phase is None:
            self._phase = store.phase(observation.source)
        return self._phase

    def _save(self, picture: _Picture) -> tuple[EvidenceFile, ...]:
        """Evidence as it is at once, with a strip of what came before; what comes after is added later."""
        scored, strip = picture.scored, self._strip(picture.moment)
        try:
            picture.evidence = save_evidence(
                self._office.evidence, scored.camera, scored.captured_at, scored.jpeg, scored.verdict, strip=strip
            )
        except OSError as error:
            logger.error("%s: the alarm goes out without evidence: %s", scored.camera, error)  # noqa: TRY400
            raise
        return picture.evidence

    def _expect_strip(self, alarm_id: str, picture: _Picture) -> None:
        """Has the alarm show, in place of its strip, the one with the seconds after it."""
        strip = next((file for file in picture.evidence if file.name == STRIP), None)
        if strip is not None and self.history.after:
            done = partial(_exchange, self._office.store, alarm_id, strip)
            self._strips.expect(strip, self.history, picture.moment, done)

    def _strip(self, raising: Moment) -> bytes | None:
        """None when it cannot be drawn, which must not cost the rest of the evidence."""
        try:
            return contact_sheet(self.history.around(raising.monotonic), raising)
        except (ValueError, cv2.error) as error:
            logger.warning("The alarm's strip of pictures could not be drawn: %s", error)
            return None


class _Picture:
    """A scored picture that may raise an alarm, and what was saved of it."""

    def __init__(self, scored: Scored, now: float) -> None:
        self.scored = scored
        self.moment = Moment(now, scored.captured_at, scored.jpeg, Condition.GOOD, scored.verdict.anomaly)
        self.evidence: tuple[EvidenceFile, ...] = ()


def _seconds(age: timedelta) -> float:
    """Not below 0, whatever the clock did meanwhile."""
    return max(0.0, age.total_seconds())


def _exchange(store: AlarmStore, alarm_id: str, before: EvidenceFile, after: EvidenceFile) -> None:
    """Puts a file in another's place, unless the alarm was raised again meanwhile and shows other evidence."""
    evidence = store.alarm(alarm_id).evidence
    if before in evidence:
        store.revise_evidence(alarm_id, tuple(after if file == before else file for file in evidence))


def _signer(record: Record | None) -> Callable[[str], str] | None:
    """Signs links to evidence at the record with its key; None when it needs none, or has no evidence from here."""
    return Links(record.key).sign if record and record.key else None


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
