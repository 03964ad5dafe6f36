"""A reserve of disk space, given up so that an alarm can be committed on a full disk."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from almenara.evidence.durable import put_file, remove_unfinished, sync

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

_LEFTOVER_SECONDS = 60.0
_SQLITE_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_WRITE}


class DiskReserve:
    """A file that takes space until an alarm needs it.

    Args:
        path: beside the alarm database, on the same disk.
        size: bytes.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path, self._size = path, size

    def release(self) -> bool:
        """Gives the space up; False when there was none. Raises OSError."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        sync(self._path.parent)
        return True

    def restore(self) -> bool:
        """Takes the space if as much stays free beside it; whether it is held then. Raises OSError.

        Also removes what a process that was killed while it took the space left behind.
        """
        remove_unfinished(self._path, time.time() - _LEFTOVER_SECONDS)
        if self._path.exists() and self._path.stat().st_size == self._size:
            return True
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self._path.parent).free < 2 * self._size:
            return False
        put_file(self._path, os.urandom(self._size))  # zeros would take no space where the disk compresses
        return True


def committing(reserve: DiskReserve, call: Callable[[], _Result]) -> _Result:
    """The result of `call`, which is tried once more when the disk was full and the reserve could be given up.

    Raises what `call` raises.
    """
    try:
        return call()
    except Exception as error:
        if not _is_disk_full(error) or not reserve.release():
            raise
    logger.error("The disk is full: its reserve was given up so that alarms are kept. Make room on it.")
    return call()


def _is_disk_full(error: BaseException) -> bool:
    """Whether the error, or what caused it, is that of a full disk."""
    return any(
        cause.errno in {errno.ENOSPC, errno.EDQUOT}
        if isinstance(cause, OSError)
        else getattr(cause, "sqlite_errorcode", None) in _SQLITE_FULL
        for cause in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = getattr(error, "orig", None) or error.__cause__
