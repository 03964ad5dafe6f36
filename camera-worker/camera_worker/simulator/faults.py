"""What can go wrong with the simulated camera, and the line protocol that switches it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from almenara.errors import InputError


class FaultKind(StrEnum):
    """The ways in which a real camera fails."""

    NONE = "none"
    STALL = "stall"
    RESET = "reset"
    REFUSE = "refuse"
    SLOW = "slow"
    UNAUTHORISED = "unauthorised"
    FREEZE = "freeze"
    BLACK = "black"
    CORRUPT = "corrupt"
    DROP = "drop"
    RESIZE = "resize"


CONTROL_HELP = """\
One command a line to the control port (loopback), one line of answer; `nc 127.0.0.1 PORT` will do:

  none            healthy again
  stall           connections stay open and nothing is sent
  reset           cuts every connection once (TCP reset), then healthy
  refuse          cuts every connection and answers 503
  slow[=SECONDS]  waits before each RTSP answer (default: 3600)
  unauthorised    cuts every connection and answers 401, whatever the credentials
  freeze          goes on sending the same picture
  black           sends black pictures
  corrupt=P       flips bytes in a share P (0 to 1) of the packets
  drop=P          leaves out a share P (0 to 1) of the packets
  resize=WxH      changes the size of the picture, then healthy
  status          tells the fault, the clients and the packets sent
"""

_LEAST_SIDE, _MOST_SIDE = 16, 4096  # pixels
_DEFAULT_SLOWNESS_SECONDS = 3600.0


@dataclass(frozen=True)
class Fault:
    """A fault and its parameter.

    Attributes:
        kind: which fault.
        share: of the packets, 0 to 1 (corrupt, drop).
        seconds: delay of every RTSP answer (slow).
        size: width and height in pixels, both even (resize).
    """

    kind: FaultKind = FaultKind.NONE
    share: float = 0.0
    seconds: float = 0.0
    size: tuple[int, int] | None = None

    @classmethod
    def parse(cls, line: str) -> Fault:
        """The fault that a line such as ``corrupt=0.02`` names; InputError `fault-unknown` otherwise."""
        name, _, value = line.strip().partition("=")
        try:
            kind = FaultKind(name)
            match kind:
                case FaultKind.CORRUPT | FaultKind.DROP:
                    return cls(kind, share=_share(value))
                case FaultKind.SLOW:
                    return cls(kind, seconds=float(value) if value else _DEFAULT_SLOWNESS_SECONDS)
                case FaultKind.RESIZE:
                    return cls(kind, size=_size(value))
                case _ if value:
                    raise ValueError(value)  # noqa: TRY301 - answered below, with every other misspelling
                case _:
                    return cls(kind)
        except ValueError:
            raise InputError("fault-unknown", f"'{line.strip()}' is no fault.", "Say help for the list.") from None


def _share(value: str) -> float:
    share = float(value)
    if not 0 <= share <= 1:
        raise ValueError(value)
    return share


def _size(value: str) -> tuple[int, int]:
    width, height = (int(part) for part in value.split("x"))
    if any(side % 2 or not _LEAST_SIDE <= side <= _MOST_SIDE for side in (width, height)):
        raise ValueError(value)
    return width, height
