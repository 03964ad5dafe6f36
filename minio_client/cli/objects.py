"""`minio-client put`, `get`, `ls` and `presign`: files and objects."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from minio_client.cli.console import JobsOption, JsonOption, print_json, progress_bar
from minio_client.connection import Connection, connect
from minio_client.durations import parse_duration
from minio_client.links import presign
from minio_client.transfer import Location, Summary, get, list_objects, put


def add_to(app: typer.Typer) -> None:
    """Give the application these commands."""
    app.command("put")(put_command)
    app.command("get")(get_command)
    app.command("ls")(ls_command)
    app.command("presign")(presign_command)


def put_command(
    source: Annotated[Path, typer.Argument(help="A file or a folder.")],
    target: Annotated[str, typer.Argument(help="BUCKET/PREFIX.")],
    jobs: JobsOption = 4,
) -> None:
    """Copy a file or a folder to storage; what is there already is skipped.

    Example: minio-client put reports mlflow/reports
    """
    connection = Connection.from_environment()
    with progress_bar() as progress:
        location = Location.parse(target, connection.bucket)
        summary = put(connect(connection), source, location, jobs=jobs, progress=progress)
    _tell(summary, "sent")


def get_command(
    source: Annotated[str, typer.Argument(help="BUCKET/PREFIX.")],
    target: Annotated[Path, typer.Argument(help="A file or a folder.")],
    jobs: JobsOption = 4,
) -> None:
    """Copy an object, or everything below a prefix, to disk; goes on where an earlier copy was interrupted.

    Example: minio-client get evidence/line-2 evidence
    """
    connection = Connection.from_environment()
    with progress_bar() as progress:
        location = Location.parse(source, connection.bucket)
        summary = get(connect(connection), location, target, jobs=jobs, progress=progress)
    _tell(summary, "fetched")


def ls_command(
    location: Annotated[str, typer.Argument(help="BUCKET/PREFIX; default: MINIO_BUCKET_NAME.")] = "",
) -> None:
    """List objects: size in bytes, time of the last change, key.

    Example: minio-client ls evidence/line-2
    """
    connection = Connection.from_environment()
    for found in list_objects(connect(connection), Location.parse(location, connection.bucket)):
        modified = found.modified.strftime("%Y-%m-%dT%H:%M:%SZ") if found.modified else "-"
        typer.echo(f"{found.size:>14}  {modified:<20}  {found.key}")


def presign_command(
    target: Annotated[str, typer.Argument(help="BUCKET/KEY.")],
    expires: Annotated[str, typer.Option(help="How long the link works, at most 7d.")] = "1h",
    write: Annotated[bool, typer.Option("--put", help="For an upload with PUT, not a download.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print a link that lets its holder fetch one object without a key.

    The host is part of the signature: set MINIO_ENDPOINT to the address under which the link's reader reaches storage.

    Example: minio-client presign evidence/line-2/20260301T101500Z/frame.jpg --expires 12h
    """
    connection = Connection.from_environment()
    duration = parse_duration(expires, "--expires")
    link = presign(connect(connection), Location.parse(target), expires=duration, write=write)
    typer.echo(
        f"The link works under {connection.endpoint} alone: MINIO_ENDPOINT must be what its reader uses.", err=True
    )
    if as_json:
        until = datetime.now(UTC) + duration
        print_json({"link": link, "method": "PUT" if write else "GET", "until": until.isoformat(timespec="seconds")})
    else:
        typer.echo(link)


def _tell(summary: Summary, verb: str) -> None:
    typer.echo(f"{summary.transferred} files {verb} ({summary.size} bytes), {summary.skipped} unchanged")
