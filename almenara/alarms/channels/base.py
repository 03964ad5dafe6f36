"""What every way to tell people or systems has in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from almenara.alarms.records import Message


@dataclass(frozen=True)
class Pace:
    """How many messages people can take.

    Attributes:
        limit: messages within `window_seconds`; what comes beyond is collected in a digest.
        window_seconds: length of the window, which slides.
        group_wait_seconds: how long a message waits for others to go with it; 0 sends each at once.
    """

    limit: int = 10
    window_seconds: float = 600.0
    group_wait_seconds: float = 0.0


class Channel(Protocol):
    """One way to tell people or systems."""

    @property
    def name(self) -> str:
        """The channel's name in the outbox; stays the same over restarts."""
        ...

    @property
    def pace(self) -> Pace | None:
        """What people can take; None for a machine, which gets every notification by itself, at once."""
        ...

    def send(self, message: Message) -> None:
        """Send one message, and raise any exception if it may not have arrived.

        It has to give up within `SEND_SECONDS`. The message may come again with the same key.
        """
        ...

    def close(self) -> None:
        """Ends connections; called once, when nothing is sent any more."""
        ...


@runtime_checkable
class Listening(Protocol):
    """A channel that somebody may look at before the first message."""

    def start(self) -> None:
        """Connect or listen ahead of the first message; raises any exception when that is not possible now."""
        ...


SEND_SECONDS = 10.0
"""How long one attempt may take; the deliverer's lease is longer."""
