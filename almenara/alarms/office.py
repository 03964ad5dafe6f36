"""All that a process with alarms runs: store, channels, evidence, and the threads that tell, tick, beat and tidy up."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from almenara.alarms.channels import Channel, LogChannel
from almenara.alarms.channels.opening import open_channel
from almenara.alarms.config import LOG, AlarmsConfig
from almenara.alarms.deliverer import Deliverer
from almenara.alarms.heartbeat import Heartbeat
from almenara.alarms.queries import AlarmFilter
from almenara.alarms.records import AlarmRecord
from almenara.alarms.store import AlarmStore
from almenara.alarms.ticking import Ticker
from almenara.alarms.vocabulary import PRIORITIES
from almenara.evidence import DiskReserve, Retention, committing, open_evidence
from almenara.redaction import redact

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

_RESERVE_BYTES = 8 * 2**20
_UPKEEP_SECONDS = 60.0
_OVERDUE_SECONDS = 60.0
_STANDING = AlarmFilter(standing=True)
_PAGE = 500
_KEEP_DELIVERIES, _KEEP_LOG = timedelta(days=30), timedelta(days=90)
_FORGET_SECONDS = 3600.0
_KEEP_FOR_OTHERS = timedelta(days=1)  # messages for channels that this process does not have, and nobody serves


class AlarmOffice:
    """Tells the alarms of one store, over the log and the channels of alarms.yaml; a context manager.

    Files: ``alarms/alarms.log`` and ``evidence/`` under `var_dir`. Several processes may share store and folder.

    Args:
        url: of the alarm database.
        var_dir: folder of log and evidence.
        config: of alarms.yaml.
        origin: name of this store at the plant-wide record; empty for the record itself.
        blind: why something that should be judged is not, or None; the heartbeat stops meanwhile.
        token: signs the path of a link to evidence.

    Attributes:
        config: of alarms.yaml.
        store: the alarm store.
        evidence: where evidence is kept.

    Raises ConfigurationError for a database or a channel that cannot be used.
    """

    def __init__(
        self,
        url: str,
        var_dir: Path,
        *,
        config: AlarmsConfig,
        origin: str = "",
        blind: Callable[[], str | None] = lambda: None,
        token: Callable[[str], str] | None = None,
    ) -> None:
        folder = var_dir / "alarms"
        folder.mkdir(parents=True, exist_ok=True)
        self.config = config
        self._blind = blind
        self._uncommitted: dict[str, str] = {}  # sources of which the last write failed, and why
        self._least = {LOG: 0} | {part.name: PRIORITIES.index(part.at_least) for part in config.channels}
        self.evidence = open_evidence(config.evidence, var_dir / "evidence", origin=origin)
        self.store = AlarmStore(url, channels=self._route, origin=origin, monotonic=time.monotonic)
        self._reserve = DiskReserve(folder / "reserve", _RESERVE_BYTES)
        self._channels: tuple[Channel, ...] = (
            LogChannel(folder / "alarms.log"),
            *(
                open_channel(part, config=config, evidence=self.evidence, token=token, desk=self)
                for part in config.channels
            ),
        )
        self._deliverer = Deliverer(self.store, self._channels)
        self._stop = threading.Event()
        self._threads = self._made(config)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Begins to tell and to tick; returns at once."""
        self.evidence.start()
        for thread in self._threads:
            thread.start()

    def close(self, timeout_seconds: float = 1.5) -> None:
        """Tells what is due and ends; what cannot be told now stays in the outbox for the next start.

        A channel that hangs is left as it is, and holds up nothing else.
        """
        self._stop.set()
        until = time.monotonic() + timeout_seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        try:
            self._deliverer.drain()
        except SQLAlchemyError as failure:
            cause = getattr(failure, "orig", None) or failure
            logger.warning("Alarms that are due could not be told and stay in the outbox: %s", cause)
        finally:
            for channel in self._channels:
                if channel.name not in self._deliverer.busy:
                    channel.close()
            self.evidence.close()
            self.store.close()

    def committing(self, call: Callable[[], _Result], *, source: str | None = None) -> _Result:
        """The result of a call that writes to the store; a full disk's reserve is given up for it.

        When it writes what was seen of a `source`, the heartbeat stops from a failure until the next success of it.
        """
        if source is None:
            return committing(self._reserve, call)
        try:
            result = committing(self._reserve, call)
        except Exception as error:
            self._uncommitted[source] = redact(f"{getattr(error, 'orig', None) or error}")
            raise
        self._uncommitted.pop(source, None)
        return result

    def unhealthy(self) -> str | None:
        """Why the heartbeat does not go out, or None: something is blind, no alarm can be kept, messages do not arrive.

        Whether alarms can be kept is known of each source from the last time that it was written of.
        """
        if reason := self._blind():
            return redact(reason)
        for source, error in tuple(self._uncommitted.items()):
            return f"{source}: the alarm store failed: {error}"
        return "messages are late" if self.store.overdue(time.monotonic()) > _OVERDUE_SECONDS else None

    def _made(self, config: AlarmsConfig) -> tuple[threading.Thread, ...]:
        retention = Retention(
            self.evidence,
            keep_seconds=config.evidence.keep,
            at_most_bytes=config.evidence.at_most,
            needed=self._needed,
        )
        work: Mapping[str, Callable[[threading.Event], None]] = {
            "alarm-deliverer": self._deliverer.run,
            "alarm-ticker": Ticker(self.store).run,
            "evidence-retention": retention.run,
            "alarm-upkeep": self._keep_up,
        }
        if beat := config.heartbeat:
            heartbeat = Heartbeat(beat.url.get_secret_value(), every_seconds=beat.every, healthy=self.unhealthy)
            work = {**work, "heartbeat": heartbeat.run}
        return tuple(
            threading.Thread(target=run, args=(self._stop,), name=name, daemon=True) for name, run in work.items()
        )

    def _route(self, alarm: AlarmRecord) -> tuple[str, ...]:
        """Channels that take alarms of this priority."""
        urgency = PRIORITIES.index(alarm.priority)
        return tuple(name for name, least in self._least.items() if urgency >= least)

    def acknowledge(self, alarm_id: str, user: str, comment: str) -> None:
        """Notes that somebody acknowledged through a channel; raises as `AlarmStore.acknowledge`."""
        self.store.acknowledge(alarm_id, user, comment)

    def standing(self) -> Iterator[AlarmRecord]:
        """The alarms that stand, the one raised last first."""
        page = self.store.alarms(_STANDING, limit=_PAGE)
        while page:
            yield from page
            page = self.store.alarms(_STANDING, limit=_PAGE, before=page[-1].id)

    def _needed(self) -> set[str]:
        """URIs of the evidence of alarms that stand."""
        return {file.uri for alarm in self.standing() for file in alarm.evidence}

    def _keep_up(self, stop: threading.Event) -> None:
        """Takes the disk's reserve, again once there is room after it was given up; every hour forgets what is old."""
        forget_at = time.monotonic()
        give_up_at = forget_at + _FORGET_SECONDS  # by then others that share the store have started, too
        while not stop.is_set():
            if time.monotonic() >= forget_at:
                forget_at += _FORGET_SECONDS
                self._forget(datetime.now(UTC))
                if time.monotonic() >= give_up_at:
                    self._give_up(datetime.now(UTC))
            try:
                self._reserve.restore()
            except OSError as error:
                logger.warning("No disk space can be reserved for alarms: %s", error)
            stop.wait(_UPKEEP_SECONDS)

    def _give_up(self, now: datetime) -> None:
        try:
            left = self.store.outbox.abandon(self._least, now, before=now - _KEEP_FOR_OTHERS)
        except SQLAlchemyError as error:
            logger.warning("Messages that nobody sends are kept: %s", getattr(error, "orig", None) or error)
            return
        if left:
            logger.warning("%d messages for channels that nobody serves any more are given up.", left)

    def _forget(self, now: datetime) -> None:
        """Removes old messages, and of the log what is of no alarm."""
        try:
            self.store.outbox.prune(now - _KEEP_DELIVERIES)
            self.store.prune(now - _KEEP_LOG)
        except SQLAlchemyError as error:
            logger.warning("What is old could not be removed: %s", getattr(error, "orig", None) or error)
