"""`minio-client datasets`: push, pull, list and compare versions of data sets."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from minio import Minio

from minio_client.cli.console import JobsOption, JsonOption, print_json, progress_bar
from minio_client.connection import Connection, connect
from minio_client.datasets import (
    BUCKET,
    Manifest,
    Reference,
    compare,
    list_datasets,
    list_versions,
    load_manifest,
    pull,
    push,
    scan,
)
from minio_client.progress import Progress

app = typer.Typer(
    no_args_is_help=True,
    help="Versions of data sets: a version is named by what it contains, and each content is stored once.",
)
BucketOption = Annotated[str, typer.Option(help="Bucket of the data sets.")]
_DIGITS = 12


@app.command("push")
def push_command(
    folder: Annotated[Path, typer.Argument(help="What to send.")],
    name: Annotated[str, typer.Argument(help="Name of the data set.")],
    fingerprint: Annotated[
        str | None, typer.Option(help="Data fingerprint of a training on this folder, to find the version by.")
    ] = None,
    bucket: BucketOption = BUCKET,
    jobs: JobsOption = 4,
    as_json: JsonOption = False,
) -> None:
    """Send a folder as the latest version; what storage holds already is not sent again.

    Example: minio-client datasets push recordings/cwru cwru
    """
    with progress_bar() as progress:
        storage = connect(Connection.from_environment())
        pushed = push(storage, folder, name, bucket=bucket, fingerprint=fingerprint, jobs=jobs, progress=progress)
    if as_json:
        print_json({"name": name, **asdict(pushed)})
        return
    typer.echo(f"{name}@{pushed.version}: {'new' if pushed.new else 'was there'}")
    typer.echo(f"{pushed.files} files ({pushed.size} bytes), {pushed.sent} contents sent ({pushed.sent_size} bytes)")


@app.command("pull")
def pull_command(
    version: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="Without a version: the latest.")],
    folder: Annotated[Path, typer.Argument(help="Where to.")],
    force: Annotated[bool, typer.Option("--force", help="Replace local files that differ.")] = False,
    bucket: BucketOption = BUCKET,
    jobs: JobsOption = 4,
    as_json: JsonOption = False,
) -> None:
    """Fetch a version into a folder and check every file; goes on where an earlier pull was interrupted.

    VERSION is `latest`, or the first 6 or more digits of a version or of a training run's data fingerprint. No local
    file is deleted, and none that differs is replaced without --force.

    Example: minio-client datasets pull cwru@3f9a1c2b recordings/cwru
    """
    reference = Reference.parse(version)
    with progress_bar() as progress:
        storage = connect(Connection.from_environment())
        pulled = pull(storage, reference, folder, bucket=bucket, force=force, jobs=jobs, progress=progress)
    if pulled.others:
        typer.echo(
            f"{len(pulled.others)} files in {folder} are no part of the version, such as {pulled.others[0]}.", err=True
        )
    if as_json:
        print_json({"name": reference.name, **asdict(pulled)})
        return
    typer.echo(f"{reference.name}@{pulled.version}")
    typer.echo(f"{pulled.fetched} files fetched ({pulled.fetched_size} bytes), {pulled.unchanged} unchanged")


@app.command("list")
def list_command(
    name: Annotated[str | None, typer.Argument(help="A data set; default: show which there are.")] = None,
    bucket: BucketOption = BUCKET,
    as_json: JsonOption = False,
) -> None:
    """List data sets, or the versions of one, the latest first: version, last push, files, bytes, fingerprints.

    Example: minio-client datasets list cwru
    """
    storage = connect(Connection.from_environment())
    if name is None:
        datasets = list_datasets(storage, bucket)
        if as_json:
            told = [
                {"name": d.name, "versions": d.versions, "latest": d.latest.version, "pushed": _time(d.latest.pushed)}
                for d in datasets
            ]
            print_json({"bucket": bucket, "datasets": told})
            return
        for found in datasets:
            latest = found.latest
            typer.echo(f"{found.name}  {found.versions} versions  {latest.version[:_DIGITS]}  {_time(latest.pushed)}")
        return
    versions = list_versions(storage, bucket, Reference.parse(name).name)
    if as_json:
        print_json({"name": name, "versions": [asdict(v) | {"pushed": _time(v.pushed)} for v in versions]})
        return
    for version in versions:
        prints = " ".join(fingerprint[:_DIGITS] for fingerprint in version.fingerprints)
        line = f"{version.version[:_DIGITS]}  {_time(version.pushed)}  {version.files:>7}  {version.size:>14}  {prints}"
        typer.echo(line.rstrip())


@app.command("diff")
def diff_command(
    before: Annotated[str, typer.Argument(metavar="NAME@VERSION|FOLDER")],
    after: Annotated[str, typer.Argument(metavar="NAME@VERSION|FOLDER")],
    bucket: BucketOption = BUCKET,
    jobs: JobsOption = 4,
    as_json: JsonOption = False,
) -> None:
    """Compare two versions, or a version and a folder: files added, removed and changed.

    What has an `@` is a version, anything else a folder.

    Example: minio-client datasets diff cwru@latest recordings/cwru
    """
    with progress_bar() as progress:
        storage = connect(Connection.from_environment())
        old, new = (_manifest(storage, bucket, text, jobs, progress) for text in (before, after))
    difference = compare(old, new)
    if as_json:
        print_json({"before": old.version, "after": new.version, **asdict(difference)})
        return
    for word, paths in asdict(difference).items():
        for path in paths:
            typer.echo(f"{word:<8} {path}")
    if old.version == new.version:
        typer.echo("no difference")


def _manifest(storage: Minio, bucket: str, text: str, jobs: int, progress: Progress) -> Manifest:
    if "@" in text:
        return load_manifest(storage, bucket, Reference.parse(text))
    return scan(Path(text), jobs=jobs, progress=progress)


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
