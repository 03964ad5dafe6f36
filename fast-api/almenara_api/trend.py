"""Trends: every verdict on an asset, bounded by age and by number, and what is known of each asset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from pydantic import AwareDatetime, Field
from sqlalchemy import Connection, Engine, and_, case, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from almenara.alarms import tables
from almenara.contracts import Contract, Reading, VibrationVerdict
from almenara.errors import InputError
from almenara_api.together import RefusedError

_rows = tables.asset_readings
_channels = tables.asset_channels
_PRUNED = 2000
"""Most rows that are removed at once, so that nobody waits long for the database."""
_CHANNELS = 64
"""Most channels of an asset."""


class OvertakenError(RefusedError):
    """A newer window of the channel was judged meanwhile, by another process."""


class Channel(Contract):
    """A sensor of an asset, and its newest verdict."""

    channel: str | None
    judged_until: AwareDatetime = Field(description="end of the newest window")
    received_at: AwareDatetime = Field(description="when a window came last")
    label: str
    anomaly: float | None = Field(description="0 to 1; null without a commissioned baseline")


class Asset(Contract):
    """An asset whose windows were judged."""

    asset: str
    seen_at: AwareDatetime = Field(description="when a window of it came last")
    anomaly: float | None = Field(description="of its newest window; null without a commissioned baseline")
    channels: tuple[Channel, ...]


@dataclass(frozen=True)
class Entry:
    """A verdict on its way into the trend.

    Attributes:
        verdict: what was said.
        measured_at: end of the window.
        late: whether newer ones had been judged.
    """

    verdict: VibrationVerdict
    measured_at: datetime
    late: bool


@dataclass(frozen=True)
class Sensor:
    """Where windows come from; the channel is empty where none was named."""

    asset: str
    channel: str


class Trend:
    """Trends in the alarm database. Every method raises SQLAlchemyError when that fails.

    Args:
        engine: of the database.
        keep_days: how long a reading is kept.
        keep_rows: how many readings of an asset are kept.
    """

    def __init__(self, engine: Engine, keep_days: float, keep_rows: int) -> None:
        self._engine = engine
        self._keep = timedelta(days=keep_days)
        self._keep_rows = keep_rows

    def judged_until(self, sensor: Sensor) -> tuple[datetime | None, datetime | None]:
        """Until when windows were judged: of this channel, and of any channel of the asset.

        Raises:
            InputError: `channels-too-many`, the channel is new and the asset has no room for it.
        """
        until = _channels.c.judged_until
        own = case((_channels.c.channel == sensor.channel, until))
        query = select(func.max(own), func.max(until), func.count()).where(_channels.c.asset == sensor.asset)
        with self._engine.begin() as connection:
            channel, newest, count = connection.execute(query).one()
        if channel is None and count >= _CHANNELS:
            raise InputError(
                "channels-too-many",
                f"The asset {sensor.asset!r} has {count} channels, and at most {_CHANNELS} are kept.",
                "Name the sensor in channel and put what changes from window to window into record_id, or name the "
                "machine's parts as assets; a channel is forgotten ALMENARA_TREND_DAYS after its last window.",
            )
        return channel, newest

    def add(
        self,
        connection: Connection,
        sensor: Sensor,
        entries: Sequence[Entry],
        *,
        received_at: datetime,
        record_id: str | None,
        in_turn: bool,
    ) -> None:
        """Keep verdicts, oldest first, in a transaction that writes.

        Args:
            connection: of that transaction.
            sensor: where they come from.
            entries: at least one.
            received_at: when they came.
            record_id: the client's own.
            in_turn: whether the last one, unless it is late, must still be the newest of its channel.

        Raises:
            OvertakenError: it is not.
        """
        last = entries[-1]
        self._advance(connection, sensor, last, received_at, in_turn=in_turn and not last.late)
        kept = {"asset": sensor.asset, "channel": sensor.channel, "record_id": record_id, "received_at": received_at}
        connection.execute(insert(_rows), [kept | _row(each) for each in entries])

    def readings(
        self,
        asset: str,
        *,
        channel: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: tuple[datetime, int] | None = None,
        limit: int = 1000,
    ) -> list[Reading]:
        """An asset's readings, the one measured last first.

        Args:
            asset: whose.
            channel: of this sensor alone; empty: of those without a channel.
            since: measured then or later.
            until: measured before.
            before: time and id of a reading; those that come after it in the list.
            limit: at most so many.
        """
        query = select(_rows).where(_rows.c.asset == asset)
        if channel is not None:
            query = query.where(_rows.c.channel == channel)
        if since is not None:
            query = query.where(_rows.c.measured_at >= since)
        if until is not None:
            query = query.where(_rows.c.measured_at < until)
        if before is not None:
            at, number = before
            same = and_(_rows.c.measured_at == at, _rows.c.id < number)
            query = query.where(or_(_rows.c.measured_at < at, same))
        query = query.order_by(_rows.c.measured_at.desc(), _rows.c.id.desc()).limit(limit)
        with self._engine.begin() as connection:
            rows = connection.execute(query).mappings()
            return [Reading(**{**row, "channel": row["channel"] or None}) for row in rows]

    def assets(self, *, after: str = "", limit: int = 100) -> list[Asset]:
        """Assets by name, those after a name, each with its channels."""
        names = select(_channels.c.asset).distinct().where(_channels.c.asset > after)
        names = names.order_by(_channels.c.asset).limit(limit)
        query = select(_channels).where(_channels.c.asset.in_(names)).order_by(_channels.c.asset, _channels.c.channel)
        with self._engine.begin() as connection:
            rows = connection.execute(query).mappings().all()
        return [_asset(name, list(group)) for name, group in groupby(rows, key=lambda row: str(row["asset"]))]

    def prune(self, connection: Connection, now: datetime) -> bool:
        """Forget some of what is old; whether there may be more."""
        old = connection.execute(_some(_rows.c.measured_at < now - self._keep)).rowcount
        connection.execute(delete(_channels).where(_channels.c.received_at < now - self._keep))
        return int(old) >= _PRUNED

    def overfull(self) -> list[str]:
        """Assets with more readings than are kept; counts them all, and no writer waits for it."""
        many = select(_rows.c.asset).group_by(_rows.c.asset).having(func.count() > self._keep_rows)
        with self._engine.begin() as connection:
            return list(connection.execute(many).scalars())

    def trim(self, connection: Connection, asset: str) -> bool:
        """Forget some of an asset's oldest readings, if they are too many; whether there may be more."""
        newest = select(_rows.c.measured_at, _rows.c.id).where(_rows.c.asset == asset)
        newest = newest.order_by(_rows.c.measured_at.desc(), _rows.c.id.desc())
        first = connection.execute(newest.offset(self._keep_rows).limit(1)).first()
        if first is None:
            return False
        same = and_(_rows.c.measured_at == first.measured_at, _rows.c.id <= first.id)
        beyond = and_(_rows.c.asset == asset, or_(_rows.c.measured_at < first.measured_at, same))
        return int(connection.execute(_some(beyond)).rowcount) >= _PRUNED

    def _advance(
        self, connection: Connection, sensor: Sensor, last: Entry, received_at: datetime, *, in_turn: bool
    ) -> None:
        """Note the newest verdict of a channel."""
        here = and_(_channels.c.asset == sensor.asset, _channels.c.channel == sensor.channel)
        until = min(last.measured_at, received_at)  # a sensor whose clock is ahead must not silence the others
        novelty = last.verdict.novelty
        values = {
            "judged_until": until,
            "received_at": received_at,
            "label": last.verdict.label,
            "anomaly": None if novelty is None else novelty.anomaly,
        }
        if connection.execute(update(_channels).where(here, _channels.c.judged_until <= until).values(values)).rowcount:
            return
        if connection.execute(update(_channels).where(here).values(received_at=received_at)).rowcount:
            if in_turn:
                raise OvertakenError
            return
        try:
            connection.execute(insert(_channels).values(asset=sensor.asset, channel=sensor.channel, **values))
        except IntegrityError:
            raise OvertakenError from None


def _some(condition: Any) -> Any:
    return delete(_rows).where(_rows.c.id.in_(select(_rows.c.id).where(condition).limit(_PRUNED)))


def _row(entry: Entry) -> dict[str, Any]:
    verdict = entry.verdict
    snr: dict[str, float] = {}
    for peak in verdict.evidence:
        if peak.harmonic == 1:
            snr[peak.name] = max(peak.snr_db, snr.get(peak.name, peak.snr_db))
    return {
        "measured_at": entry.measured_at,
        "late": entry.late,
        "model": verdict.model.model_dump(),
        "label": verdict.label,
        "probability": max(verdict.probabilities.values()),
        "novelty": None if verdict.novelty is None else verdict.novelty.model_dump(),
        "rms": verdict.rms,
        "unit": verdict.unit,
        "snr_db": snr,
        "windows": verdict.windows,
        "quality": list(verdict.quality),
    }


def _asset(name: str, rows: Sequence[Any]) -> Asset:
    channels = tuple(
        Channel(
            channel=row["channel"] or None,
            **{key: row[key] for key in ("judged_until", "received_at", "label", "anomaly")},
        )
        for row in rows
    )
    newest = max(channels, key=lambda each: each.judged_until)
    return Asset(
        asset=name,
        seen_at=max(each.received_at for each in channels).astimezone(UTC),
        anomaly=newest.anomaly,
        channels=channels,
    )
