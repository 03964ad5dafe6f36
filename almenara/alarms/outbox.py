"""The outbox: messages that were committed with their alarm and wait to be sent."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Engine,
    Row,
    RowMapping,
    Select,
    Text,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal,
    or_,
    select,
    update,
)

from almenara.alarms import tables
from almenara.alarms.pacing import Waiting, batch_time
from almenara.alarms.records import Delivery, Notification

_log = logging.getLogger(__name__)
_rows = tables.deliveries
_MAX_ERROR = 500
_CHUNK = 500


class Outbox:
    """Delivery rows of an alarm database.

    A row is open until it is sent or given up. A channel gets the messages of one alarm in order: none is due while an
    earlier one of the same alarm is open and not due itself. Only the holder of the channel's lease sends.

    A message of a newer release is told without the fields that this one does not know; one that cannot be read at all
    is given up with the reason.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = engine.execution_options(writes=True)

    def due(self, channel: str, now: datetime) -> Waiting | None:
        """The oldest message that is due on a channel, or None."""
        with self._engine.begin() as connection:
            row = connection.execute(_DUE, {"channel": channel, "now": now}).first()
        return None if row is None else _waiting(row)

    def next_at(self, channel: str) -> datetime | None:
        """When the next message is due on a channel, at the earliest; None if none waits."""
        query = select(func.min(_rows.c.next_at, type_=_rows.c.next_at.type)).where(_rows.c.channel == channel, _OPEN)
        with self._engine.begin() as connection:
            return connection.execute(query).scalar()

    def waiting(self, channel: str, now: datetime, limit: int) -> list[Waiting]:
        """What may be sent together, oldest first: what is due, and what has only been postponed."""
        with self._engine.begin() as connection:
            found = connection.execute(_WAITING.limit(limit), {"channel": channel, "now": now})
            return [_waiting(row) for row in found]

    def postpone(self, channel: str, now: datetime, until: datetime) -> None:
        """What is due on a channel is due later."""
        self._update([and_(_rows.c.channel == channel, _rows.c.next_at <= now, _OPEN)], next_at=until)

    def batch(self, ids: Sequence[int], key: str) -> None:
        """Note that messages go out together under a key, so that they do so again if this attempt fails or dies."""
        self._update(_chunks(ids), batch=key)

    def read(self, ids: Sequence[int], now: datetime) -> list[Delivery]:
        """Open messages, oldest first; those that cannot be read are given up and left out."""
        return [found for where in _chunks(ids) for found in self._open(where, now)]

    def read_batch(self, channel: str, key: str, now: datetime) -> list[Delivery]:
        """The open messages of a group or digest, oldest first; those that cannot be read are given up and left out."""
        return self._open(and_(_rows.c.channel == channel, _rows.c.batch == key), now)

    def told_before(self, channel: str, batch: str, seconds: float) -> list[Notification]:
        """What was sent one by one before a batch was put together, up to `seconds` before its oldest message."""
        first = select(func.min(_rows.c.created_at)).where(_rows.c.channel == channel, _rows.c.batch == batch)
        with self._engine.begin() as connection:
            oldest = connection.execute(first).scalar_one()
            sent = and_(_rows.c.channel == channel, _rows.c.batch.is_(None), _rows.c.sent_at <= batch_time(batch))
            since = _rows.c.sent_at > oldest - timedelta(seconds=seconds)
            rows = connection.execute(_contents(and_(sent, since))).mappings()
            return [delivery.notification for _, delivery in map(_parse, rows) if isinstance(delivery, Delivery)]

    def sent(self, ids: Sequence[int], now: datetime) -> None:
        """The messages arrived."""
        self._update(_chunks(ids), attempts=_rows.c.attempts + 1, sent_at=now, error="")

    def failed(self, ids: Sequence[int], error: str, retry_at: datetime) -> None:
        """The attempt failed; try again at ``retry_at``."""
        self._update(_chunks(ids), attempts=_rows.c.attempts + 1, next_at=retry_at, error=error[:_MAX_ERROR])

    def give_up(self, ids: Sequence[int], now: datetime, error: str) -> None:
        """The last attempt failed: the messages are kept, with their error, and not tried again."""
        self._update(_chunks(ids), attempts=_rows.c.attempts + 1, dead_at=now, error=error[:_MAX_ERROR])

    def abandon(self, channels: Collection[str], now: datetime, *, before: datetime) -> int:
        """Give up what has waited since `before` for a channel that nobody serves and is none of these; how many."""
        lease = tables.leases
        held = select(lease.c.name).where(lease.c.name == literal("channel:") + _rows.c.channel, lease.c.until > now)
        others = and_(_rows.c.channel.not_in(channels), _rows.c.created_at < before, ~held.exists(), _OPEN)
        error = "The channel is not in alarms.yaml any more."
        with self._writer.begin() as connection:
            return connection.execute(update(_rows).where(others).values(dead_at=now, error=error)).rowcount

    def prune(self, before: datetime) -> None:
        """Forget messages that were sent or given up before a time."""
        with self._writer.begin() as connection:
            connection.execute(delete(_rows).where(or_(_rows.c.sent_at < before, _rows.c.dead_at < before)))

    def sent_times(self, channel: str, since: datetime) -> list[datetime]:
        """When a channel's messages went out after `since`; a group or digest is one message."""
        single = case((_rows.c.batch.is_(None), _rows.c.id), else_=None)
        query = (
            select(func.max(_rows.c.sent_at, type_=_rows.c.sent_at.type))
            .where(_rows.c.channel == channel, _rows.c.sent_at > since)
            .group_by(_rows.c.batch, single)
        )
        with self._engine.begin() as connection:
            return list(connection.execute(query).scalars())

    def overdue(self, now: datetime) -> float:
        """Seconds by which the oldest open message is late, 0 if none is; what is only postponed is not late."""
        meant = case((_rows.c.attempts == 0, _rows.c.next_at), else_=_rows.c.created_at)
        query = select(func.min(meant, type_=_rows.c.next_at.type)).where(_OPEN)
        with self._engine.begin() as connection:
            oldest: datetime | None = connection.execute(query).scalar()
        return 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds())

    def pending(self) -> list[Delivery]:
        """Messages that are still to be sent, oldest first."""
        return self._list(_OPEN)

    def dead(self) -> list[Delivery]:
        """Messages that were given up, oldest first; one that cannot be read any more is only logged."""
        return self._list(_rows.c.dead_at.is_not(None))

    def _open(self, where: ColumnElement[bool], now: datetime) -> list[Delivery]:
        with self._engine.begin() as connection:
            rows = connection.execute(_contents(and_(where, _OPEN))).mappings().all()
        found = []
        for row_id, delivery in map(_parse, rows):
            if isinstance(delivery, Delivery):
                found.append(delivery)
                continue
            reason = f"The message cannot be read: {delivery}"
            _log.error("Delivery %d given up. %s", row_id, reason)
            self._update(_chunks([row_id]), dead_at=now, error=reason[:_MAX_ERROR])
        return found

    def _list(self, where: ColumnElement[bool]) -> list[Delivery]:
        with self._engine.begin() as connection:
            rows = connection.execute(_contents(where)).mappings().all()
        found = []
        for row_id, delivery in map(_parse, rows):
            if isinstance(delivery, Delivery):
                found.append(delivery)
            else:
                _log.warning("Delivery %d cannot be read: %s", row_id, delivery)
        return found

    def _update(self, conditions: Iterable[ColumnElement[bool]], **values: Any) -> None:
        with self._writer.begin() as connection:
            for where in conditions:
                connection.execute(update(_rows).where(where).values(**values))


_OPEN = and_(_rows.c.sent_at.is_(None), _rows.c.dead_at.is_(None))


def _queued(*, postponed: bool) -> Select[Any]:
    """Rows that wait on :channel at :now, oldest first; built once, since an empty outbox is looked at all the time.

    One pass over what is open: a join of it with itself takes minutes when PostgreSQL expects few rows in a flood.
    """
    due = _rows.c.next_at <= bindparam("now", type_=_rows.c.next_at.type)
    may_go = or_(due, _rows.c.attempts == 0) if postponed else due
    stops_others = func.min(case((~may_go, _rows.c.id))).over(partition_by=_rows.c.alarm_id)
    is_open = (
        select(_rows.c.id, _rows.c.created_at, _rows.c.batch, may_go.label("may_go"), stops_others.label("stop"))
        .where(_rows.c.channel == bindparam("channel"), _OPEN)
        .subquery()
    )
    free = or_(is_open.c.stop.is_(None), is_open.c.stop > is_open.c.id)
    return (
        select(is_open.c.id, is_open.c.created_at, is_open.c.batch).where(is_open.c.may_go, free).order_by(is_open.c.id)
    )


def _contents(where: ColumnElement[bool]) -> Select[Any]:
    """Whole rows, the notification as text: one that is no JSON must not hide the others."""
    others = [_rows.c[name] for name in Delivery.model_fields if name != "notification"]
    return select(cast(_rows.c.notification, Text).label("notification"), *others).where(where).order_by(_rows.c.id)


def _parse(row: RowMapping) -> tuple[int, Delivery | str]:
    """A row's id and what it holds, or why it cannot be read."""
    fields = dict(row)
    try:
        notification = Notification.model_validate_json(fields.pop("notification"), extra="ignore")
        return fields["id"], Delivery(notification=notification, **fields)
    except ValueError as error:
        return fields["id"], f"{type(error).__name__}: {error}"


def _chunks(ids: Sequence[int]) -> Iterable[ColumnElement[bool]]:
    """Conditions for open rows, each short enough for any database."""
    for start in range(0, len(ids), _CHUNK):
        yield and_(_rows.c.id.in_(ids[start : start + _CHUNK]), _OPEN)


def _waiting(row: Row[Any]) -> Waiting:
    return Waiting(row.id, row.created_at, row.batch)


_DUE = _queued(postponed=False).limit(1)
_WAITING = _queued(postponed=True)
