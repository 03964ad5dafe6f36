"""Where alarms are told: the interface of a channel, and the local log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from almenara.alarms.records import Notification


class Channel(Protocol):
    """One way to tell people or systems."""

    @property
    def name(self) -> str:
        """The channel's name in the outbox; stays the same over restarts."""
        ...

    def send(self, notification: Notification) -> None:
        """Send one message, and raise any exception if it may not have arrived.

        It has to give up well within the deliverer's lease. The message may come again with the same key.
        """
        ...


class LogChannel:
    """Appends each notification to a file as one line of JSON, on the disk before `send` returns.

    A line that a crash cut short stays behind as it is and the next message begins on a line of its own. Several
    processes may share the file.
    """

    def __init__(self, path: Path | str, name: str = "log") -> None:
        self._path = Path(path)
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def send(self, notification: Notification) -> None:
        """Append one line.

        Raises:
            OSError: the folder cannot be made, the file cannot be written, or the disk is full.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = notification.model_dump_json().encode() + b"\n"
        with self._path.open("a+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = b"\n" + line
            written = file.write(line)
            if written != len(line):
                raise OSError(f"{self._path} took {written} of {len(line)} bytes: the disk is full.")
            os.fsync(file.fileno())
