"""Looks at alarms and disk now and then, so that /metrics answers at once whatever the alarm database does."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

from sqlalchemy.exc import SQLAlchemyError

from almenara.alarms.kpi import WINDOW
from almenara.alarms.office import AlarmOffice
from almenara.alarms.queries import AlarmFilter
from almenara.alarms.ticking import Endurance
from almenara.alarms.vocabulary import PRIORITIES, Phase, Verdict
from almenara.contracts import AlarmKind
from almenara.evidence.local import LocalEvidence
from almenara_api.metrics import AlarmGauges

_LOG = logging.getLogger(__name__)

_PAUSE_SECONDS = 15.0
_JUDGED_WITHIN = timedelta(hours=24)
_MOST = 1000  # of a kind that one look reads: enough to tell a flood, and no flood slows the API
_UNACKNOWLEDGED = (Phase.UNACKNOWLEDGED, Phase.RETURNED_UNACKNOWLEDGED)


class AlarmWatch:
    """Sets the gauges of the alarms every 15 s, in a thread of its own.

    Args:
        office: whose alarms, messages and evidence are looked at.
        var_dir: its folder, with the evidence that waits for object storage.
        gauges: what is set; those of the alarms stay as they were while the database does not answer.
    """

    def __init__(self, office: AlarmOffice, var_dir: Path, gauges: AlarmGauges) -> None:
        self._office, self._var_dir, self._gauges = office, var_dir, gauges
        self._outgoing = LocalEvidence(var_dir / "evidence" / "outgoing")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alarm-watch", daemon=True)

    def start(self) -> None:
        """Begin to look; returns at once."""
        self._thread.start()

    def close(self, timeout_seconds: float = 1.0) -> None:
        """Look no more; a look that takes longer is left behind with its daemon thread."""
        self._stop.set()
        self._thread.join(timeout_seconds)

    def look(self) -> None:
        """Set every gauge once."""
        disk = shutil.disk_usage(self._var_dir)
        self._gauges.disk_free.set(disk.free)
        self._gauges.disk_size.set(disk.total)
        saved = [stored.saved_at for stored in self._outgoing.stored()]
        self._gauges.evidence_waiting.set(max(0.0, time.time() - min(saved)) if saved else 0.0)
        try:
            self._look_at_alarms(datetime.now(UTC))
        except SQLAlchemyError as error:
            self._gauges.store_up.set(0)
            self._gauges.heartbeat_withheld.set(1)
            _LOG.debug("the alarm database does not answer", extra={"reason": type(error).__name__})
        else:
            self._gauges.store_up.set(1)

    def _run(self) -> None:
        endurance = Endurance("Looking at alarms and disk for the metrics", _LOG)
        while not self._stop.is_set():
            endurance.run(self.look)
            self._stop.wait(_PAUSE_SECONDS)

    def _look_at_alarms(self, now: datetime) -> None:
        gauges, store = self._gauges, self._office.store
        gauges.outbox_late.set(store.outbox.overdue(now))
        gauges.heartbeat_withheld.set(self._office.unhealthy() is not None)
        standing = store.alarms(AlarmFilter(standing=True), limit=_MOST)
        counts = Counter((alarm.kind, alarm.priority) for alarm in standing)
        for kind in get_args(AlarmKind):
            for priority in PRIORITIES:
                gauges.standing.labels(kind, priority).set(counts[kind, priority])
        gauges.unacknowledged.set(sum(alarm.phase in _UNACKNOWLEDGED for alarm in standing))
        lately = store.transitions(since=now - WINDOW, limit=_MOST)
        gauges.raised_lately.set(sum(transition.raised for transition in lately))
        today = store.alarms(AlarmFilter(since=now - _JUDGED_WITHIN), limit=_MOST)
        verdicts = Counter(alarm.verdict for alarm in today)
        for verdict in get_args(Verdict):
            gauges.judged.labels(verdict).set(verdicts[verdict])
