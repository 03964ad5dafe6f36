"""`minio-client make-buckets`, `versioning` and `lifecycle`."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from minio_client.buckets import (
    DeletionRule,
    clear_lifecycle,
    lifecycle,
    make_buckets,
    set_lifecycle,
    set_versioning,
    versioning,
)
from minio_client.cli.console import JsonOption, print_json
from minio_client.connection import Connection, connect
from minio_client.durations import parse_days
from minio_client.errors import StorageError

BucketArgument = Annotated[str, typer.Argument(metavar="BUCKET")]


class Switch(StrEnum):
    """What versioning is set to."""

    ON = "on"
    OFF = "off"


def add_to(app: typer.Typer) -> None:
    """Give the application these commands."""
    app.command("make-buckets")(make_buckets_command)
    app.command("versioning")(versioning_command)
    app.command("lifecycle")(lifecycle_command)


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


def versioning_command(
    bucket: BucketArgument,
    switch: Annotated[Switch | None, typer.Argument(metavar="[on|off]", help="Default: show it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show whether a bucket keeps old versions of its objects, or begin or stop to.

    `off` adds no more versions and keeps those that there are; storage then calls it suspended.

    Example: minio-client versioning mlflow on
    """
    storage = connect(Connection.from_environment())
    state = versioning(storage, bucket) if switch is None else set_versioning(storage, bucket, on=switch is Switch.ON)
    if as_json:
        print_json({"bucket": bucket, "versioning": state})
    else:
        typer.echo(f"{bucket}: versioning is {state}")


def lifecycle_command(
    bucket: BucketArgument,
    prefix: Annotated[str, typer.Option(help="The rule is for keys that begin so.")] = "",
    expire_after: Annotated[str, typer.Option(help="Delete objects this long after they were written: 30d.")] = "",
    noncurrent: Annotated[str, typer.Option(help="Delete old versions this long after they were replaced: 7d.")] = "",
    abort_uploads: Annotated[str, typer.Option(help="Remove uploads that did not end for so long: 2d.")] = "",
    clear: Annotated[bool, typer.Option("--clear", help="Remove all rules.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what storage deletes on its own, set the rule of a prefix, or remove all rules.

    Example: minio-client lifecycle evidence --prefix line-2/ --expire-after 90d
    """
    rule = DeletionRule(
        prefix,
        parse_days(expire_after, "--expire-after") if expire_after else None,
        parse_days(noncurrent, "--noncurrent") if noncurrent else None,
        parse_days(abort_uploads, "--abort-uploads") if abort_uploads else None,
    )
    asked = rule != DeletionRule(prefix)
    if (clear and (asked or prefix)) or (prefix and not asked):
        raise StorageError(
            "--clear removes all rules and takes no other option." if clear else "--prefix alone sets nothing.",
            "See minio-client lifecycle --help.",
        )
    storage = connect(Connection.from_environment())
    if clear:
        clear_lifecycle(storage, bucket)
    rules = set_lifecycle(storage, bucket, rule) if asked else lifecycle(storage, bucket)
    if as_json:
        print_json({"bucket": bucket, "rules": [asdict(found) for found in rules]})
        return
    for found in rules:
        typer.echo(f"{bucket}/{found.prefix}: {_sentence(found)}")
    if not rules:
        typer.echo(f"{bucket}: nothing is deleted on its own")


def _sentence(rule: DeletionRule) -> str:
    parts = [
        f"{what} after {days}d"
        for what, days in (
            ("objects", rule.expire_days),
            ("old versions", rule.noncurrent_days),
            ("unfinished uploads", rule.abort_uploads_days),
        )
        if days
    ]
    if rule.foreign:
        parts.append("a rule of another program, which may say more")
    return ", ".join(parts)
