"""What the commands share: a progress bar on stderr, JSON on stdout."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from minio_client.progress import Progress

JobsOption = Annotated[int, typer.Option(min=1, max=64, help="Files transferred at the same time.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@contextlib.contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on a terminal's standard error, nothing elsewhere."""
    console = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    name_column = TextColumn("{task.description}", markup=False)  # a file may be called [bold]
    with Bar(name_column, *columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None)

        def told(name: str, done: int, total: int) -> None:
            bar.update(task, description=name, completed=done, total=total)

        yield told


def print_json(result: Mapping[str, Any]) -> None:
    """Print one JSON object on one line."""
    typer.echo(json.dumps(result, ensure_ascii=False))
