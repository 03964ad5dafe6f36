"""`almenara data`: bring recordings into the form that training takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from almenara.console import progress_bars, stdout

app = typer.Typer(no_args_is_help=True, help="Import public data sets, and tell versions of data apart.")
importers = typer.Typer(no_args_is_help=True, help="Write a manifest for a data set as people download it.")
app.add_typer(importers, name="import")


@importers.command()
def cwru(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="Folder with the .mat files.", exists=True, file_okay=False)
    ],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="Folder to write.", file_okay=False)],
) -> None:
    """Case Western Reserve University bearing data: keeps the drive-end channel, names fault, size, load and rate.

    Example: `almenara data import cwru downloads/ recordings/cwru`
    """
    from almenara.vibration.cwru import import_cwru

    with progress_bars() as progress:
        report = import_cwru(source, destination, progress=progress)
    stdout.print(f"Imported {len(report.records)} records into {destination}.")
    for name in report.skipped:
        stdout.print(f"skipped: {name}")


@app.command()
def fingerprint(
    task: Annotated[Literal["vibration", "vision"], typer.Argument(help="What is trained on it.")],
    folder: Annotated[Path, typer.Argument(help="As --data of a training.", exists=True, file_okay=False)],
) -> None:
    """Print the fingerprint that a training on a folder writes into its model's card.

    Example: `minio-client datasets push pictures outflow --fingerprint "$(almenara data fingerprint vision pictures)"`
    """
    if task == "vision":
        from almenara.vision import images

        typer.echo(images.fingerprint(images.load_folder(folder)))
    else:
        from almenara.vibration import recordings

        typer.echo(recordings.fingerprint(recordings.load_folder(folder)))
