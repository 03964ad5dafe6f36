"""The command `minio-client`."""

from __future__ import annotations

import sys

import typer

from minio_client.cli import buckets, datasets, objects
from minio_client.errors import StorageError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Buckets, data sets and files in S3 object storage. Reads MINIO_ENDPOINT, MINIO_ACCESS_KEY, MINIO_SECRET_KEY "
    "and MINIO_BUCKET_NAME.",
)
buckets.add_to(app)
objects.add_to(app)
app.add_typer(datasets.app, name="datasets")


def main() -> None:
    """Run the command; what stands in the way is told in a sentence, with exit code 2."""
    try:
        app()
    except StorageError as error:
        typer.echo(f"minio-client: {error}", err=True)
        sys.exit(2)
