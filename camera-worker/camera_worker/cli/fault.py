"""`camera-worker fault`: switch the faults of a simulated camera."""

from __future__ import annotations

from typing import Annotated

import typer

from camera_worker.simulator import command


def fault(
    words: Annotated[list[str], typer.Argument(metavar="COMMAND", help="Such as stall, drop=0.02, stall for 10s.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Control port of the simulated camera.")] = 8555,
) -> None:
    """Switch a fault of a simulated camera on or off while it runs; help lists them, status tells which is on.

    Examples:

      camera-worker fault stall --port 8555

      camera-worker fault black for 20s

      camera-worker fault none
    """
    typer.echo(command(" ".join(words), port))
