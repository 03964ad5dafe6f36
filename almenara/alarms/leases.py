"""Leases: who of several threads and processes does what only one may do at a time."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO

from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from almenara.alarms import tables

_rows = tables.leases


class Leases:
    """Lease rows of an alarm database: the name of a job, its holder, and when its hold runs out.

    A holder that was killed is replaced when its hold runs out. In SQLite, whose processes share a machine, it is
    replaced at once: every holder keeps a file beside the database locked, and the system unlocks it when the process
    dies. A hold that ends later than two of them could was taken while the clock was ahead, and does not count.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = engine.execution_options(writes=True)
        self._signs = _Signs(Path(str(engine.url.database)).resolve()) if engine.dialect.name == "sqlite" else None

    def hold(self, name: str, owner: str, now: datetime, seconds: float) -> bool:
        """Take a lease, or hold it for longer; whether `owner` has it until `seconds` after `now`.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database cannot be read or written.
            OSError: the file that shows that the holder lives cannot be made.
        """
        with self._engine.begin() as connection:
            row = connection.execute(select(_rows.c.owner, _rows.c.until).where(_rows.c.name == name)).first()
        until = now + timedelta(seconds=seconds)
        if row is not None and row.owner != owner and now < row.until <= until + timedelta(seconds=seconds):
            holder_lives = self._signs is None or self._signs.is_alive(row.owner)
            if holder_lives:
                return False
        if self._signs is not None:
            self._signs.show(owner, name)
        with self._writer.begin() as connection:
            if row is not None:
                seen = (_rows.c.name == name, _rows.c.owner == row.owner, _rows.c.until == row.until)
                return connection.execute(update(_rows).where(*seen).values(owner=owner, until=until)).rowcount == 1
            try:
                connection.execute(insert(_rows).values(name=name, owner=owner, until=until))
            except IntegrityError:
                connection.rollback()
                return False
            return True

    def release(self, name: str, owner: str) -> None:
        """Let go of a lease, so that another takes it at once; nothing happens to one that `owner` does not have."""
        with self._writer.begin() as connection:
            connection.execute(delete(_rows).where(_rows.c.name == name, _rows.c.owner == owner))
        if self._signs is not None:
            self._signs.take_back(owner, name)


class Lease:
    """One lease as its holder sees it: asked for again and again, written only when half of it is over.

    Args:
        leases: of the database.
        name: of the job.
        owner: who asks; at most 36 characters, different for every process.
        seconds: how long it lasts when its holder falls silent.
        wall_clock: gives the present as an aware datetime.
    """

    def __init__(
        self, leases: Leases, name: str, *, owner: str, seconds: float, wall_clock: Callable[[], datetime]
    ) -> None:
        self._leases, self._name, self._owner = leases, name, owner
        self._seconds, self._wall_clock = seconds, wall_clock
        self._taken: datetime | None = None

    @property
    def known(self) -> bool:
        """Whether this holder had it the last time it asked."""
        return self._taken is not None

    @property
    def renewal_seconds(self) -> float:
        """After which, from now on, `held` has to be asked again; 0 if it is due."""
        if self._taken is None:
            return 0.0
        return max(0.0, self._seconds / 2 - (self._wall_clock() - self._taken).total_seconds())

    def held(self) -> bool:
        """Whether the job is this holder's now; takes or renews the lease where that is due.

        Raises as `Leases.hold`.
        """
        now = self._wall_clock()
        if self._taken is not None and self._taken <= now < self._taken + timedelta(seconds=self._seconds / 2):
            return True
        held = self._leases.hold(self._name, self._owner, now, self._seconds)
        self._taken = now if held else None
        return held

    def release(self) -> None:
        """Let a sibling take over at once."""
        if self._taken is not None:
            self._taken = None
            self._leases.release(self._name, self._owner)


@dataclass
class _Sign:
    file: IO[bytes]
    names: set[str] = field(default_factory=set)


class _Signs:
    """Files beside a database that are locked as long as the holder of a lease lives."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._shown: dict[str, _Sign] = {}
        self._lock = threading.Lock()

    def show(self, owner: str, name: str) -> None:
        """From now on, and until it takes it back or dies, `owner` is seen to live."""
        with self._lock:
            if not self._shown:
                self._sweep()
            if owner not in self._shown:
                self._shown[owner] = _Sign(self._locked(owner))
            self._shown[owner].names.add(name)

    def take_back(self, owner: str, name: str) -> None:
        with self._lock:
            if (sign := self._shown.get(owner)) is None:
                return
            sign.names.discard(name)
            if not sign.names:
                del self._shown[owner]
                self._path(owner).unlink(missing_ok=True)
                sign.file.close()

    def is_alive(self, owner: str) -> bool:
        """Whether the process that shows this sign lives; the sign of a dead one is removed."""
        try:
            with self._path(owner).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._path(owner).unlink(missing_ok=True)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def _sweep(self) -> None:
        """Remove the signs of processes that died, except what somebody else's permissions protect."""
        begin, end = f"{self._database.name}.", ".alive"
        for path in self._database.parent.glob(f"{glob.escape(begin)}*{end}"):
            with contextlib.suppress(OSError):
                self.is_alive(path.name.removeprefix(begin).removesuffix(end))

    def _locked(self, owner: str) -> IO[bytes]:
        """An owner's file, made again if a sweep took it for a dead one's before it was locked."""
        while True:
            file = self._path(owner).open("wb")
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:
                return file
            file.close()

    def _path(self, owner: str) -> Path:
        return self._database.with_name(f"{self._database.name}.{owner}.alive")
