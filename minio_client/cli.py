"""The command `minio-client`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from minio_client.connection import Connection, connect
from minio_client.errors import StorageError
from minio_client.transfer import Location, Progress, Summary, get, list_objects, make_buckets, put

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Buckets and files in S3 object storage. Reads MINIO_ENDPOINT, MINIO_ACCESS_KEY, MINIO_SECRET_KEY and "
    "MINIO_BUCKET_NAME.",
)
Jobs = Annotated[int, typer.Option(min=1, max=64, help="Files transferred at the same time.")]


def main() -> None:
    """Run the command; what stands in the way is told in a sentence, with exit code 2."""
    try:
        app()
    except StorageError as error:
        typer.echo(f"minio-client: {error}", err=True)
        sys.exit(2)


@app.command("make-buckets")
def make_buckets_command(
    names: Annotated[list[str] | None, typer.Argument(help="Default: MINIO_BUCKET_NAME.")] = None,
) -> None:
    """Make buckets that are not there yet.

    Example: minio-client make-buckets mlflow datasets evidence
    """
    connection = Connection.from_environment()
    wanted = names or ([connection.bucket] if connection.bucket else [])
    if not wanted:
        raise StorageError("No bucket is named.", "Name one, or set MINIO_BUCKET_NAME.")
    made = make_buckets(connect(connection), wanted)
    for name in wanted:
        typer.echo(f"{name}: {'made' if name in made else 'was there'}")


@app.command("put")
def put_command(
    source: Annotated[Path, typer.Argument(help="A file or a folder.")],
    target: Annotated[str, typer.Argument(help="BUCKET/PREFIX.")],
    jobs: Jobs = 4,
) -> None:
    """Copy a file or a folder to storage; what is there already is skipped.

    Example: minio-client put recordings datasets/cwru
    """
    connection = Connection.from_environment()
    with _progress_bar() as progress:
        location = Location.parse(target, connection.bucket)
        summary = put(connect(connection), source, location, jobs=jobs, progress=progress)
    _tell(summary, "sent")


@app.command("get")
def get_command(
    source: Annotated[str, typer.Argument(help="BUCKET/PREFIX.")],
    target: Annotated[Path, typer.Argument(help="A file or a folder.")],
    jobs: Jobs = 4,
) -> None:
    """Copy an object, or everything below a prefix, to disk; goes on where an earlier copy was interrupted.

    Example: minio-client get datasets/cwru recordings
    """
    connection = Connection.from_environment()
    with _progress_bar() as progress:
        location = Location.parse(source, connection.bucket)
        summary = get(connect(connection), location, target, jobs=jobs, progress=progress)
    _tell(summary, "fetched")


@app.command("ls")
def ls_command(
    location: Annotated[str, typer.Argument(help="BUCKET/PREFIX; default: MINIO_BUCKET_NAME.")] = "",
) -> None:
    """List objects: size in bytes, time of the last change, key.

    Example: minio-client ls datasets/cwru
    """
    connection = Connection.from_environment()
    for found in list_objects(connect(connection), Location.parse(location, connection.bucket)):
        modified = found.modified.strftime("%Y-%m-%dT%H:%M:%SZ") if found.modified else "-"
        typer.echo(f"{found.size:>14}  {modified:<20}  {found.key}")


@contextlib.contextmanager
def _progress_bar() -> Iterator[Progress]:
    """A bar on a terminal's standard error, nothing elsewhere."""
    console = Console(stderr=True)
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None)

        def told(name: str, done: int, total: int) -> None:
            bar.update(task, description=name, completed=done, total=total)

        yield told


def _tell(summary: Summary, verb: str) -> None:
    typer.echo(f"{summary.transferred} files {verb} ({summary.size} bytes), {summary.skipped} unchanged")
