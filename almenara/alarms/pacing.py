"""How many messages people get: singles, groups, and the digest of a flood. Decisions only, without I/O."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from almenara.alarms.channels.base import Pace

Kind = Literal["single", "group", "digest"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Waiting:
    """A notification that a channel has still to send.

    Attributes:
        id: of its delivery.
        created_at: when it was committed.
        batch: key of the group or digest that it belongs to, if that was tried before.
    """

    id: int
    created_at: datetime
    batch: str | None = None


@dataclass(frozen=True)
class Send:
    """Send these now, as one message; `batch` is the key of one that was tried before."""

    ids: tuple[int, ...]
    kind: Kind
    batch: str | None = None


@dataclass(frozen=True)
class Wait:
    """Send nothing before `until`, which is later than now."""

    until: datetime


def decide(pace: Pace | None, waiting: Sequence[Waiting], sent_times: Sequence[datetime], now: datetime) -> Send | Wait:
    """What a channel does next.

    One at a time while there is room in the window for all that waits. More than that is a flood: it goes out as one
    digest, at once if there is room for a single message, else together with all that comes until there is.

    Args:
        pace: what the channel's receivers can take; None for a machine, which takes everything, one at a time.
        waiting: what the channel may send, oldest first, at least one.
        sent_times: when its messages of the last two windows went out; a group or digest is one message.
        now: the present.
    """
    first = waiting[0]
    if pace is None:
        return Send((first.id,), "single")
    sent = sorted(sent_times)
    recent = _within(sent, pace, now)
    if len(recent) >= pace.limit:
        return Wait(recent[-pace.limit] + timedelta(seconds=pace.window_seconds))
    for row in waiting:
        if row.batch is not None:
            return Send(tuple(r.id for r in waiting if r.batch == row.batch), batch_kind(row.batch), row.batch)
    ready = first.created_at + timedelta(seconds=pace.group_wait_seconds)
    if now < ready <= now + timedelta(seconds=pace.group_wait_seconds):
        return Wait(ready)
    if len(waiting) == 1:
        return Send((first.id,), "single")
    held_back = len(_within(sent, pace, ready)) >= pace.limit
    if held_back or (len(waiting) > pace.limit - len(recent) and not pace.group_wait_seconds):
        return Send(tuple(row.id for row in waiting), "digest")
    if pace.group_wait_seconds:
        return Send(tuple(row.id for row in waiting), "group")
    return Send((first.id,), "single")


def new_batch(kind: Kind, now: datetime) -> str:
    """The key of a group or digest, at most 36 characters; it tells its kind and when it was put together.

    It begins with what tells it from others, since people see its first eight characters.
    """
    return f"{uuid.uuid4().hex[:12]}-{(now - _EPOCH) // _MICROSECOND:014x}-{kind}"


def batch_kind(batch: str) -> Kind:
    """The kind of a group or digest."""
    return "digest" if batch.endswith("-digest") else "group"


def batch_time(batch: str) -> datetime:
    """When a group or digest was put together."""
    return _EPOCH + int(batch.split("-")[1], 16) * _MICROSECOND


def _within(sent: Sequence[datetime], pace: Pace, now: datetime) -> list[datetime]:
    """Those of the window that ends now; what lies in the future was noted while the clock was ahead."""
    begin = now - timedelta(seconds=pace.window_seconds)
    return [at for at in sent if begin < at <= now]
