"""What can go wrong with the simulated camera, as people write it, and the switch that its parts ask."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from almenara.configuration.values import parse_duration
from almenara.errors import InputError


class FaultKind(StrEnum):
    """The ways in which a real camera fails."""

    NONE = "none"
    STALL = "stall"
    RESET = "reset"
    REFUSE = "refuse"
    SLOW = "slow"
    UNAUTHORISED = "unauthorised"
    AWAY = "away"
    UDP = "udp"
    FREEZE = "freeze"
    BLACK = "black"
    BLUR = "blur"
    CORRUPT = "corrupt"
    DROP = "drop"
    RESIZE = "resize"


CONTROL_HELP = """\
One command a line to the control port (loopback), which answers it; `camera-worker fault COMMAND` sends it:

  none            healthy again
  stall           connections stay open and nothing is sent
  reset           cuts every connection once (TCP reset), then healthy
  refuse          cuts every connection and answers 503
  slow[=SECONDS]  waits before each RTSP or HTTP answer (default: 3600)
  unauthorised    cuts every connection and answers 401, whatever the credentials
  away            cuts every connection and listens no more, as if unplugged
  udp=off         answers 461 to clients that ask for UDP
  freeze          goes on sending the same picture
  black           sends black pictures
  blur            sends pictures out of focus
  corrupt=P       flips bytes in a share P (0 to 1) of the packets (HTTP: of the pictures)
  drop=P          leaves out a share P (0 to 1) of the packets (HTTP: of the pictures)
  resize=WxH      changes the size of the picture, then healthy
  FAULT for 10s   healthy again by itself after that time (500ms, 10s, 2m)
  status          tells the fault, the clients and the packets sent
"""

MOMENTARY = frozenset({FaultKind.RESET, FaultKind.RESIZE})
"""They happen once and leave the camera healthy."""

_LEAST_SIDE, _MOST_SIDE = 16, 4096  # pixels
_DEFAULT_SLOWNESS_SECONDS = 3600.0
_HESITATION_SECONDS = 0.1


@dataclass(frozen=True)
class Fault:
    """A fault and its parameter.

    Attributes:
        kind: which fault.
        share: of the packets, 0 to 1 (corrupt, drop).
        seconds: delay of every answer (slow).
        size: width and height in pixels, both even (resize).
        lasting: seconds until the camera is healthy again by itself; None for until it is told so.
    """

    kind: FaultKind = FaultKind.NONE
    share: float = 0.0
    seconds: float = 0.0
    size: tuple[int, int] | None = None
    lasting: float | None = None

    @classmethod
    def parse(cls, line: str) -> Fault:
        """The fault that a line such as ``corrupt=0.02 for 10s`` names; InputError `fault-unknown` otherwise."""
        what, lasts, duration = line.strip().partition(" for ")
        name, _, value = what.partition("=")
        try:
            fault = cls._parse(FaultKind(name), value)
            if not lasts:
                return fault
            if fault.kind in MOMENTARY or fault.kind is FaultKind.NONE:
                raise ValueError(line)  # noqa: TRY301 - answered below, with every other misspelling
            return replace(fault, lasting=parse_duration(duration))
        except ValueError:
            raise InputError("fault-unknown", f"'{line.strip()}' is no fault.", "Say help for the list.") from None

    @classmethod
    def _parse(cls, kind: FaultKind, value: str) -> Fault:
        match kind:
            case FaultKind.CORRUPT | FaultKind.DROP:
                return cls(kind, share=_share(value))
            case FaultKind.SLOW:
                return cls(kind, seconds=_seconds(value) if value else _DEFAULT_SLOWNESS_SECONDS)
            case FaultKind.RESIZE:
                return cls(kind, size=_size(value))
            case _ if value != ("off" if kind is FaultKind.UDP else ""):
                raise ValueError(value)
            case _:
                return cls(kind)


class FaultSwitch:
    """The fault that is on, for the parts of the camera that act on it."""

    def __init__(self) -> None:
        self.fault = Fault()

    def on(self, kind: FaultKind) -> bool:
        return self.fault.kind is kind

    def strikes(self, kind: FaultKind, chance: random.Random | None = None) -> bool:
        """Whether this packet or picture belongs to the share that `corrupt` or `drop` hits, drawn from `chance`."""
        if not self.on(kind):
            return False
        return (chance.random() if chance else random.random()) < self.fault.share  # noqa: S311 - a simulation

    async def hesitate(self, given_up: Callable[[], bool]) -> None:
        """Waits as long as `slow` says, or until it is switched off; ConnectionAbortedError when the client left."""
        start = time.monotonic()
        while self.on(FaultKind.SLOW) and time.monotonic() - start < self.fault.seconds:
            if given_up():
                raise ConnectionAbortedError
            await asyncio.sleep(_HESITATION_SECONDS)


def _share(value: str) -> float:
    share = float(value)
    if not 0 <= share <= 1:
        raise ValueError(value)
    return share


def _seconds(value: str) -> float:
    seconds = float(value)
    if not 0 <= seconds <= _DEFAULT_SLOWNESS_SECONDS:
        raise ValueError(value)
    return seconds


def _size(value: str) -> tuple[int, int]:
    width, height = (int(part) for part in value.split("x"))
    if any(side % 2 or not _LEAST_SIDE <= side <= _MOST_SIDE for side in (width, height)):
        raise ValueError(value)
    return width, height
