"""Repeats: a request that was answered once gets the same answer again, from whichever process it reaches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

import orjson
from sqlalchemy import Connection, Engine, delete, insert, select
from sqlalchemy.exc import IntegrityError

from almenara.alarms import tables
from almenara.errors import InputError
from almenara_api.together import RefusedError

_rows = tables.asset_answers
_PRUNED = 500


class RepeatedError(RefusedError):
    """The request has been answered before, perhaps this very moment by another process."""


@dataclass(frozen=True)
class Claim:
    """What makes two requests one: SHA-256 of who asks which model under which key, and of all that was sent."""

    id: str
    fingerprint: str

    @classmethod
    def of(cls, identity: Iterable[str], query: Iterable[tuple[str, str]], kind: str, body: bytes) -> Self:
        """The claim of a request.

        Args:
            identity: the caller's name, the model, and the key or the recording.
            query: the query's parameters, in any order.
            kind: media type of the body.
            body: the whole body.
        """
        sent = hashlib.sha256(orjson.dumps([kind, sorted(query)]))
        sent.update(body)
        return cls(hashlib.sha256(orjson.dumps(list(identity))).hexdigest(), sent.hexdigest())


class Answers:
    """Answers of the last hours, in the alarm database. Every method raises SQLAlchemyError when that fails.

    Args:
        engine: of the database.
        keep_seconds: how long an answer is kept.
    """

    def __init__(self, engine: Engine, keep_seconds: float) -> None:
        self._engine = engine
        self._keep = timedelta(seconds=keep_seconds)

    def find(self, claim: Claim, now: datetime) -> str | None:
        """The answer that was given, None if there is none.

        Raises:
            InputError: `idempotency-mismatch`, another request has this key.
        """
        query = select(_rows).where(_rows.c.id == claim.id, _rows.c.at >= now - self._keep)
        with self._engine.begin() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        if row.fingerprint != claim.fingerprint:
            raise InputError(
                "idempotency-mismatch",
                "Another body or other parameters came with this Idempotency-Key, or as this recording, "
                f"at {row.at:%Y-%m-%dT%H:%M:%SZ}.",
                "Send a repeat exactly as it was, and what is new with a key or a record_id of its own.",
            )
        return str(row.answer)

    def add(self, connection: Connection, claim: Claim, answer: str, now: datetime) -> None:
        """Keep an answer in a transaction that writes; raises RepeatedError when another request was faster."""
        connection.execute(delete(_rows).where(_rows.c.id == claim.id, _rows.c.at < now - self._keep))
        values = {"id": claim.id, "fingerprint": claim.fingerprint, "answer": answer, "at": now}
        try:
            connection.execute(insert(_rows).values(values))
        except IntegrityError:
            raise RepeatedError from None

    def prune(self, connection: Connection, now: datetime) -> bool:
        """Forget some of the old ones; whether there may be more."""
        old = select(_rows.c.id).where(_rows.c.at < now - self._keep).limit(_PRUNED)
        return connection.execute(delete(_rows).where(_rows.c.id.in_(old))).rowcount == _PRUNED
