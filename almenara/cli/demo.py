"""`almenara demo`: the whole line on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End after the first alarm of each kind; last line is JSON.")
    ] = False,
    train_only: Annotated[
        bool, typer.Option("--train-only", help="Register the champions at MLFLOW_TRACKING_URI, and end.")
    ] = False,
    skip_camera: Annotated[bool, typer.Option("--skip-camera", help="Vibration only.")] = False,
    var_dir: Annotated[
        Path | None, typer.Option(help="Where databases, models, evidence and logs go.  [default: var]")
    ] = None,
) -> None:
    """Train two champions, serve them, watch a simulated camera and a simulated pump, and raise real alarms.

    Example: `almenara demo --once`
    """
    if var_dir is not None:
        os.environ["ALMENARA_VAR_DIR"] = str(var_dir)
    from almenara import demo as line

    if train_only:
        line.train()
        return
    raise typer.Exit(line.run(once=once, camera=not skip_camera))
