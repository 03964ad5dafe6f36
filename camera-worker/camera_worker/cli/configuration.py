"""`camera-worker validate` and `create-config`: check and make a configuration."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from almenara.alarms.channels.opening import load_checked
from almenara.alarms.config import LOG
from almenara.errors import InputError
from almenara.settings import load_settings
from camera_worker.config import TEMPLATE, CameraConfig, load_config

DEFAULT_CONFIG = Path("cameras.yaml")


def validate(file: Annotated[Path, typer.Argument(help="Configuration file (YAML).")]) -> None:
    """Check a configuration file, and the alarms file with its channels; every mistake is named with its line.

    Secrets are read as the worker would, from the environment and from files; nothing is connected to.

    Example: camera-worker validate cameras.yaml
    """
    worker = load_config(file)
    alarms_file = worker.alarms_file or load_settings().alarms_file
    alarms = load_checked(alarms_file)
    for camera in worker.cameras:
        typer.echo(f"{camera.name}: {camera.parsed_source().label}, model {camera.model}{_hours(camera)}")
    if alarms_file:
        typer.echo(f"{alarms_file}: channels {', '.join([LOG, *(part.name for part in alarms.channels)])}")
    typer.echo(f"{file} is valid.")


def create_config(
    file: Annotated[Path, typer.Argument(help="File to write; it must not exist.")] = DEFAULT_CONFIG,
) -> None:
    """Write a commented configuration file.

    Example: camera-worker create-config cameras.yaml
    """
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(TEMPLATE)
    except FileExistsError:
        raise InputError("config-exists", f"{file} is there already.", "Name another file.") from None
    except OSError as error:
        raise InputError("config-unwritable", f"{file} cannot be written: {error.strerror}.") from None
    typer.echo(f"Wrote {file}. Check it with: camera-worker validate {file}")


def _hours(camera: CameraConfig) -> str:
    schedule = camera.parsed_schedule()
    if schedule is None:
        return ""
    now = datetime.now(UTC)
    change = schedule.next_change(now)
    until = f" until {change.astimezone(schedule.zone):%a %H:%M %Z}" if change else ""
    return f", {'watched' if schedule.is_active(now) else 'paused'}{until}"
