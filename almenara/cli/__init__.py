"""The `almenara` command. Thin: it parses, calls the library and prints; services run as child processes."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from almenara import __version__
from almenara.cli import (
    alarm_channels,
    alarms,
    backup,
    data,
    demo,
    doctor,
    env,
    evaluate,
    keys,
    models,
    predict,
    serve,
    train,
)
from almenara.errors import AlmenaraError

# A registry that is away is told within seconds, not after MLflow's minutes of retries.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

app = typer.Typer(
    name="almenara",
    help="Industrial anomaly detection: train, register, serve, watch cameras and vibration, alarm once with evidence.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(train.app, name="train")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(predict.app, name="predict")
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")
app.add_typer(alarms.app, name="alarms")
alarms.app.command("test-channel")(alarm_channels.try_channel)
app.add_typer(keys.app, name="keys")
app.add_typer(env.app, name="env")
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("serve")(serve.serve)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"almenara {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command; an error of ours or of the system is one sentence on stderr and exit code 2."""
    try:
        app()
    except (AlmenaraError, ModuleNotFoundError, OSError) as error:
        sentence = str(error)
        if isinstance(error, ModuleNotFoundError):
            sentence = f"The Python package {error.name} is not installed in {sys.prefix}. Install it: make install"
        elif isinstance(error, OSError):
            sentence = f"{error.filename or 'The system'}: {error.strerror or error}. Check path, rights and disk."
        typer.secho(f"almenara: {sentence}", fg="red", err=True)
        sys.exit(2)
