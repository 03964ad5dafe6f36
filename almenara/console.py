"""What the commands share on a terminal: progress bars on stderr, results and JSON on stdout."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from almenara.contracts import Progress

stdout = Console()
stderr = Console(stderr=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
DataOption = Annotated[
    Path,
    typer.Option("--data", help="Folder of recordings (manifest.csv) or of pictures.", exists=True, file_okay=False),
]


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """A `Progress` callable that draws one bar a stage."""
    bars = Bars(
        TextColumn("{task.description:<36}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=stderr,
    )
    tasks: dict[str, Any] = {}

    def report(stage: str, done: int, total: int) -> None:
        again = stage in tasks and done < total and bars.tasks[tasks[stage]].finished
        if stage not in tasks or again:
            tasks[stage] = bars.add_task(stage, total=total)
        bars.update(tasks[stage], completed=done, total=total)

    with bars:
        yield report


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table on stdout."""
    drawn = Table(*columns, title=title, title_justify="left", title_style="bold")
    for row in rows:
        drawn.add_row(*row)
    stdout.print(drawn)


def print_json(result: Mapping[str, Any]) -> None:
    """Print one JSON object on one line."""
    typer.echo(json.dumps(result, ensure_ascii=False, default=str))
