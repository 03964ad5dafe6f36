"""The outbox: messages that were committed with their alarm and wait to be sent, leased one at a time."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Engine, RowMapping, Select, and_, bindparam, or_, select, update

from almenara.alarms import tables
from almenara.alarms.records import Delivery

_log = logging.getLogger(__name__)
_rows = tables.deliveries
_MAX_ERROR = 500


class Outbox:
    """Delivery rows of an alarm database.

    A row is open until it is sent or given up. A channel gets the messages of one alarm in order: none is handed out
    while an earlier one of the same alarm is open. Who wants to send a row leases it; a lease that its holder did not
    end (it was killed) runs out, and the row is sent again under the same key.

    A message of a newer release is told without the fields that this one does not know; one that cannot be read at all
    is given up with the reason, and the next one is handed out.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = engine.execution_options(writes=True)

    def lease(self, channel: str, owner: str, now: datetime, seconds: float) -> Delivery | None:
        """The next message that is due on a channel, or None."""
        while True:
            with self._engine.begin() as connection:
                row_id = connection.execute(_DUE, {"channel": channel, "now": now}).scalar()
            if row_id is None:
                return None
            lease = update(_rows).where(_rows.c.id == row_id, _free(now))
            with self._writer.begin() as connection:
                leased = connection.execute(
                    lease.values(lease_owner=owner, leased_until=now + timedelta(seconds=seconds))
                )
            if leased.rowcount == 1 and (delivery := self._read(row_id, now)) is not None:
                return delivery

    def sent(self, delivery: Delivery, now: datetime) -> None:
        """The message arrived, whoever holds the lease by now."""
        self._close(delivery, attempts=delivery.attempts + 1, sent_at=now, error="")

    def failed(self, delivery: Delivery, owner: str, error: str, retry_at: datetime) -> None:
        """The attempt failed; try again at ``retry_at``."""
        self._update(
            and_(_rows.c.id == delivery.id, _rows.c.lease_owner == owner, _OPEN),
            attempts=delivery.attempts + 1,
            next_at=retry_at,
            error=error[:_MAX_ERROR],
        )

    def give_up(self, delivery: Delivery, now: datetime, error: str) -> None:
        """The last attempt failed: the message is kept, with its error, and not tried again."""
        self._close(delivery, attempts=delivery.attempts + 1, dead_at=now, error=error[:_MAX_ERROR])

    def pending(self) -> list[Delivery]:
        """Messages that are still to be sent, oldest first."""
        return self._list(_OPEN)

    def dead(self) -> list[Delivery]:
        """Messages that were given up, oldest first."""
        return self._list(_rows.c.dead_at.is_not(None))

    def _read(self, row_id: int, now: datetime) -> Delivery | None:
        """A leased row; None, and it is given up, if it cannot be read."""
        try:
            with self._engine.begin() as connection:
                row = connection.execute(select(_rows).where(_rows.c.id == row_id)).mappings().one()
            return _delivery(row)
        except ValueError as error:  # no JSON, or no message
            reason = f"The message cannot be read: {type(error).__name__}: {error}"
            _log.error("Delivery %d given up. %s", row_id, reason)
            self._update(and_(_rows.c.id == row_id, _OPEN), dead_at=now, error=reason[:_MAX_ERROR])
            return None

    def _close(self, delivery: Delivery, **values: Any) -> None:
        self._update(and_(_rows.c.id == delivery.id, _OPEN), **values)

    def _update(self, where: ColumnElement[bool], **values: Any) -> None:
        with self._writer.begin() as connection:
            connection.execute(update(_rows).where(where).values(lease_owner=None, leased_until=None, **values))

    def _list(self, where: ColumnElement[bool]) -> list[Delivery]:
        found = []
        with self._engine.begin() as connection:
            for row_id in connection.execute(select(_rows.c.id).where(where).order_by(_rows.c.id)).scalars().all():
                try:
                    found.append(
                        _delivery(connection.execute(select(_rows).where(_rows.c.id == row_id)).mappings().one())
                    )
                except ValueError as error:
                    _log.warning("Delivery %d cannot be read: %s: %s", row_id, type(error).__name__, error)
        return found


_OPEN = and_(_rows.c.sent_at.is_(None), _rows.c.dead_at.is_(None))


def _free(now: datetime | BindParameter[datetime]) -> ColumnElement[bool]:
    return and_(_OPEN, or_(_rows.c.leased_until.is_(None), _rows.c.leased_until <= now))


def _next_due() -> Select[int]:
    """The first row that is due on :channel at :now; built once, since an empty outbox is looked at twice a second."""
    now = bindparam("now", type_=_rows.c.next_at.type)
    earlier = _rows.alias("earlier")
    blocked = (
        select(earlier.c.id)
        .where(
            earlier.c.channel == _rows.c.channel,
            earlier.c.alarm_id == _rows.c.alarm_id,
            earlier.c.id < _rows.c.id,
            earlier.c.sent_at.is_(None),
            earlier.c.dead_at.is_(None),
        )
        .exists()
    )
    return (
        select(_rows.c.id)
        .where(_rows.c.channel == bindparam("channel"), _rows.c.next_at <= now, _free(now), ~blocked)
        .order_by(_rows.c.id)
        .limit(1)
    )


def _delivery(row: RowMapping) -> Delivery:
    return Delivery.model_validate({name: row[name] for name in Delivery.model_fields}, extra="ignore")


_DUE = _next_due()
