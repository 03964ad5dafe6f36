"""A worker's alarms go to the plant-wide record, and what people do there comes back."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence

from almenara.alarms.record_client import RecordAwayError, RecordClient, RefusedError
from almenara.alarms.records import Directive, Report, Silence
from almenara.alarms.store import AlarmStore
from almenara.errors import AlmenaraError
from almenara.evidence import EvidenceReader
from almenara.redaction import redact

logger = logging.getLogger(__name__)

CURSOR = "record"
"""Name of the store's cursor: the last transition that the record has."""

_BATCH = 200
_REPORT_SECONDS = 0.5
_DIRECTIVES_SECONDS = 2.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 15.0
_PUT_OFF_SECONDS, _AWAY_SECONDS = 600.0, 60.0  # for a file that is gone or refused; for one that the record cannot take
_MOST_CONFIRMED = 500


class Forwarder:
    """Reports every transition of a store to the record, in order, at least once; and carries out its directives.

    A transition counts as reported when the record has answered, so that a worker that is killed reports it again; the
    record knows it by its key. One that the record refuses is logged and passed over. While the record is away it is
    asked again after pauses of up to 15 s, and nothing else waits for it. It may be started once.

    Args:
        store: the worker's own.
        api_url: address of the API that keeps the record.
        api_key: for it.
        origin: name of this worker.
        evidence: reads the files that the record wants.
    """

    def __init__(
        self, store: AlarmStore, api_url: str, *, api_key: str | None, origin: str, evidence: EvidenceReader
    ) -> None:
        self._store, self._evidence = store, evidence
        self._reports = RecordClient(api_url, api_key, origin)
        self._orders = RecordClient(api_url, api_key, origin)
        self._wanted: tuple[str, ...] = ()
        self._put_off: dict[tuple[str, str, str], float] = {}  # files that could not be handed over, and until when
        self._silences: tuple[Silence, ...] | None = None
        self._reported: int | None = None  # the database's version when all of it had been reported
        self._stop = threading.Event()
        self._loops = {
            threading.Thread(target=self._repeat, args=(work, seconds), name=name, daemon=True): client
            for work, seconds, name, client in (
                (self.report, _REPORT_SECONDS, "alarms-to-record", self._reports),
                (self.obey, _DIRECTIVES_SECONDS, "alarms-from-record", self._orders),
            )
        }

    def start(self) -> None:
        """Reports and obeys from now on; returns at once."""
        for thread in self._loops:
            thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Ends after the exchanges in progress, or leaves those that take longer to end by themselves."""
        self._stop.set()
        until = time.monotonic() + timeout_seconds
        for thread, client in self._loops.items():
            if thread.is_alive():
                thread.join(max(0.0, until - time.monotonic()))
            if not thread.is_alive():
                client.close()

    def report(self) -> None:
        """Reports what is new, and hands over the evidence that the record lacks; raises RecordAwayError."""
        now = time.monotonic()
        self._put_off = {file: until for file, until in self._put_off.items() if until > now}
        self._report_changes()
        wanted, self._wanted = self._wanted, ()
        for alarm_id in wanted:
            self._hand_over_evidence(alarm_id)
            self._report_changes()

    def obey(self) -> None:
        """Carries out what people did at the record; raises RecordAwayError."""
        directives = self._orders.directives()
        if self._silences != directives.silences:
            self._store.replace_silences(list(directives.silences))
            self._silences = directives.silences
        for directive in directives.directives:
            self._apply(directive)
        ids = [directive.id for directive in directives.directives]
        for start in range(0, len(ids), _MOST_CONFIRMED):
            self._orders.confirm(ids[start : start + _MOST_CONFIRMED])
        self._wanted = directives.evidence_wanted

    def _report_changes(self) -> None:
        version = self._store.version()
        if version is not None and version == self._reported:
            return
        while changes := self._store.changes_after(self._store.cursor(CURSOR), _BATCH):
            if self._stop.is_set():
                return
            self._hand_over(changes)
        self._reported = version

    def _hand_over(self, changes: Sequence[tuple[int, Report]]) -> None:
        """All changes, or of those that are refused all but the ones that are to blame."""
        try:
            self._reports.report([report for _, report in changes])
        except RefusedError as error:
            if len(changes) > 1:
                middle = len(changes) // 2
                self._hand_over(changes[:middle])
                self._hand_over(changes[middle:])
                return
            logger.error("The record refuses transition %s: %s", changes[0][1].transition.key, redact(str(error)))  # noqa: TRY400
        self._store.move_cursor(CURSOR, changes[-1][0])

    def _hand_over_evidence(self, alarm_id: str) -> None:
        try:
            files = self._store.alarm(alarm_id).evidence
        except AlmenaraError as error:
            logger.warning("The record wants evidence that is not here: %s", error)
            return
        for file in files:
            identity = (alarm_id, file.name, file.sha256)
            if identity in self._put_off or self._stop.is_set():
                continue
            try:
                self._reports.keep_evidence(alarm_id, file, self._evidence.read(file))
            except (OSError, RefusedError, RecordAwayError) as error:
                pause = _AWAY_SECONDS if isinstance(error, RecordAwayError) else _PUT_OFF_SECONDS
                self._put_off[identity] = time.monotonic() + pause
                logger.warning("The record does not get %s of alarm %s: %s", file.name, alarm_id, redact(str(error)))

    def _apply(self, directive: Directive) -> None:
        """One that cannot be carried out, such as for an alarm that is gone, is logged and confirmed all the same."""
        try:
            self._store.apply(directive)
        except AlmenaraError as error:
            logger.warning("%s of %s by %s: %s", directive.action, directive.source, directive.user, error)
        else:
            logger.info("%s of %s by %s, at the record", directive.action, directive.source, directive.user)

    def _repeat(self, work: Callable[[], None], seconds: float) -> None:
        failures = 0
        told = ""
        while not self._stop.is_set():
            try:
                work()
            except (RecordAwayError, RefusedError) as error:
                failures += 1
                reason = redact(str(error))
                if reason != told:
                    logger.warning("The plant-wide record does not answer as it should: %s", reason)
                told = reason
            except Exception:
                failures += 1
                logger.exception("Forwarding failed; it is tried again.")
            else:
                if failures:
                    logger.info("The plant-wide record answers again.")
                failures, told = 0, ""
            self._stop.wait(_pause(failures) if failures else seconds)


def _pause(failures: int) -> float:
    """Seconds after so many failures in a row; a random half is taken off, so that workers do not return in step."""
    doubled = _FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 30)
    return min(doubled, _LONGEST_PAUSE_SECONDS) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
