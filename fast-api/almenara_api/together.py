"""Group commit: what several threads write at the same time costs one transaction, as durable as each by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, IntegrityError

Write = Callable[[Connection], None]


class RefusedError(Exception):
    """Raised by a write that takes itself back; those beside it are committed."""


@dataclass(eq=False)
class _Entry:
    order: tuple[str, ...]
    write: Write
    done: bool = False
    error: Exception | None = None


class Together:
    """Whoever comes while a transaction is being committed is written with the next one.

    Args:
        engine: of the database.
    """

    def __init__(self, engine: Engine) -> None:
        self._writer = engine.execution_options(writes=True)
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._waiting: list[_Entry] = []

    def run(self, write: Write, *, order: tuple[str, ...]) -> None:
        """Returns once a write is committed.

        Args:
            write: called with the connection of the transaction, in any thread.
            order: those of a transaction come in this order, so that two processes do not wait for each other.

        Raises:
            RefusedError: `write` raised it.
            ValueError, sqlalchemy.exc.IntegrityError, sqlalchemy.exc.DataError: what it writes cannot be kept.
            sqlalchemy.exc.SQLAlchemyError: the database failed, and nothing is written.
        """
        entry = _Entry(order, write)
        with self._lock:
            self._waiting.append(entry)
        with self._turn:
            if not entry.done:
                self._commit()
        if entry.error is not None:
            raise entry.error

    def _commit(self) -> None:
        with self._lock:
            entries, self._waiting = sorted(self._waiting, key=lambda each: each.order), []
        try:
            with self._writer.begin() as connection:
                for entry in entries:
                    self._try(entry, connection)
        except Exception as error:  # noqa: BLE001  each of them is told
            for entry in entries:
                entry.error = error
        for entry in entries:
            entry.done = True

    def _try(self, entry: _Entry, connection: Connection) -> None:
        try:
            with connection.begin_nested():
                entry.write(connection)
        except (RefusedError, ValueError, IntegrityError, DataError) as error:
            entry.error = error
