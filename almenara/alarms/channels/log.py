"""The local log: one line of JSON a notification, for machines and for people without any other channel."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from almenara.alarms.channels.base import SEND_SECONDS
from almenara.alarms.records import Message
from almenara.evidence.durable import sync

_LOCK_POLL_SECONDS = 0.02


class LogChannel:
    """Appends each notification to a file as one line of JSON, on the disk before `send` returns.

    A file that would grow beyond `largest_bytes` is renamed to ``NAME.1`` first, the one before it to ``NAME.2`` and so
    on; `kept` old ones stay. A line that a crash cut short stays behind as it is and the next message begins on a line
    of its own. Several processes may share the file.
    """

    pace = None

    def __init__(self, path: Path | str, name: str = "log", *, largest_bytes: int = 10 * 2**20, kept: int = 5) -> None:
        self._path = Path(path)
        self._name = name
        self._largest_bytes = largest_bytes
        self._kept = kept

    @property
    def name(self) -> str:
        return self._name

    def send(self, message: Message) -> None:
        """Append one line for every notification.

        Raises:
            OSError: the folder cannot be made, the file cannot be written, another process does not let go of it, or
                the disk is full.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(f"{notification.model_dump_json()}\n" for notification in message.notifications).encode()
        with self._opened(len(lines)) as file:
            if size := file.seek(0, os.SEEK_END):
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    lines = b"\n" + lines
            written = file.write(lines)
            if written != len(lines):
                raise OSError(f"{self._path} took {written} of {len(lines)} bytes: the disk is full.")
            os.fsync(file.fileno())

    def close(self) -> None:
        """Nothing is open between two messages."""

    @contextlib.contextmanager
    def _opened(self, length: int) -> Iterator[IO[bytes]]:
        """The file with room for so many bytes, locked for this process."""
        deadline = time.monotonic() + SEND_SECONDS
        while True:
            with self._path.open("a+b", buffering=0) as file:
                _lock(file, deadline)
                if not self._is_current(file):
                    continue
                size = os.fstat(file.fileno()).st_size
                if size and size + length > self._largest_bytes:
                    self._rotate()
                    continue
                if not size:
                    sync(self._path.parent)
                yield file
                return

    def _is_current(self, file: IO[bytes]) -> bool:
        """Whether nobody renamed the file between its opening and its locking."""
        try:
            return os.path.samestat(os.fstat(file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False

    def _rotate(self) -> None:
        for number in range(self._kept, 0, -1):
            newer = self._numbered(number - 1)
            if newer.exists():
                newer.replace(self._numbered(number))
        sync(self._path.parent)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path


def _lock(file: IO[bytes], deadline: float) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{file.name} is locked by another process.") from None
            time.sleep(_LOCK_POLL_SECONDS)
        else:
            return
