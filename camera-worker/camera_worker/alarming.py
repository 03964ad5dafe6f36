"""The worker's side of the alarm engine: each camera's observations, evidence, and the deliverer's thread."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from almenara.alarms import AlarmStore, Deliverer, LogChannel, Phase, Transition
from almenara.contracts import Observation
from camera_worker.camera import Scored
from camera_worker.config import CameraConfig
from camera_worker.evidence import EvidenceFolder

logger = logging.getLogger(__name__)

_DELIVERER_PATIENCE_SECONDS = 1.5


class AlarmDesk:
    """Alarm store, evidence folder and log channel of one worker; a context manager.

    Files: ``alarms/worker.db`` (SQLite), ``alarms/alarms.log`` and ``evidence/`` under `var_dir`.
    """

    def __init__(self, var_dir: Path) -> None:
        folder = var_dir / "alarms"
        folder.mkdir(parents=True, exist_ok=True)
        self.store = AlarmStore(f"sqlite:///{folder / 'worker.db'}", channels=("log",))
        self.evidence = EvidenceFolder(var_dir / "evidence")
        self._deliverer = Deliverer(self.store, [LogChannel(folder / "alarms.log")])
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._deliverer.run, args=(self._stop,), name="alarm-deliverer", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Tells what is due and ends; what cannot be told now stays in the outbox."""
        self._stop.set()
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

    def sink(self, camera: CameraConfig) -> CameraAlarms:
        """Where `camera` sends its observations."""
        return CameraAlarms(self.store, camera, self.evidence)


class CameraAlarms:
    """One camera's way to the alarm store."""

    def __init__(self, store: AlarmStore, camera: CameraConfig, evidence: EvidenceFolder) -> None:
        self._store, self._rule, self._evidence = store, camera.alarm.rule(), evidence

    def observe(self, observation: Observation, now: float, scored: Scored | None) -> Phase:
        """As `AlarmSink.observe`; saves evidence of the frame when the observation raises an alarm."""

        def save() -> tuple[str, ...]:
            if scored is None:
                return ()
            return self._evidence.save(scored.camera, scored.captured_at, scored.jpeg, scored.verdict)

        for transition in self._store.observe(observation, self._rule, now=now, evidence=save):
            _log(transition)
        return self._store.phase(observation.source)


def _log(transition: Transition) -> None:
    if transition.raised:
        logger.warning("ALARM %s: %s (anomaly %.2f)", transition.source, transition.reason, transition.anomaly or 0.0)
    else:
        logger.info("%s: %s, %s -> %s", transition.source, transition.change, transition.previous, transition.phase)
