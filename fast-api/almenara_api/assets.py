"""Assets under watch: an asset's commissioned baseline decides its alarm, and the window that raised it is kept."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta

from almenara.alarms import Rule
from almenara.alarms.office import AlarmOffice
from almenara.contracts import Observation, VibrationVerdict
from almenara.settings import Settings
from almenara_api.evidence import Window, save_evidence
from almenara_api.metrics import Metrics
from almenara_api.turns import Turns

_LOG = logging.getLogger(__name__)


class AssetWatch:
    """Turns verdicts with a baseline into alarms.

    Attributes:
        turns: keep an asset's windows in order.
    """

    def __init__(self, office: AlarmOffice, settings: Settings, metrics: Metrics) -> None:
        self.turns = Turns()
        self._office = office
        self._metrics = metrics
        self._rule = Rule(
            on_delay_seconds=settings.vibration_on_delay_seconds,
            off_delay_seconds=settings.vibration_off_delay_seconds,
            cooldown_seconds=settings.vibration_cooldown_seconds,
            stale_after_seconds=settings.vibration_stale_seconds,
        )

    def observe(self, asset: str, window: Window, verdict: VibrationVerdict, *, ended: float | None = None) -> None:
        """Apply a verdict to its asset's alarm; one without a baseline says nothing about an alarm.

        Args:
            asset: the machine.
            window: what was judged.
            verdict: on that window.
            ended: when the window ended, on `time.monotonic()`; by default now.

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
        transitions = self._office.committing(
            lambda: self._office.store.observe(
                observation,
                self._rule,
                now=ended,
                evidence=lambda: save_evidence(self._office.evidence, asset, window, verdict),
            ),
            source=asset,
        )
        for transition in transitions:
            fields = {"asset": asset, "change": transition.change, "alarm": transition.alarm_id}
            _LOG.info("asset changed", extra=fields)
            if transition.raised:
                self._metrics.alarms_raised.labels(asset).inc()
