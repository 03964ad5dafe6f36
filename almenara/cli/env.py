"""`almenara env`: the settings of `docker compose`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from almenara import env_file
from almenara.console import JsonOption, print_json, stdout

app = typer.Typer(no_args_is_help=True, help="Settings of `docker compose`: the file .env.")


@app.command("init")
def init(
    file: Annotated[Path, typer.Option("--file", help="File to write or to complete.")] = Path(".env"),
    sample: Annotated[Path, typer.Option("--sample", help="File that names the settings.")] = Path("sample.env"),
    as_json: JsonOption = False,
) -> None:
    """Write .env with strong random secrets; of one that is there, only placeholders and missing settings change.

    Example: `almenara env init`
    """
    done = env_file.complete_file(file, sample)
    if done.secrets:
        stdout.print(f"{file} has new secrets: {', '.join(done.secrets)}. Only you can read it.")
    if others := [name for name in done.added if name not in done.secrets]:
        stdout.print(f"{file} has new settings, as in {sample}: {', '.join(others)}.")
    if not done.secrets and not done.added:
        stdout.print(f"{file} lacks nothing.")
    stdout.print("Next: docker compose up --detach --build --wait")
    if as_json:
        print_json({"file": str(file), "secrets": list(done.secrets), "added": list(done.added)})


@app.command("check")
def check(
    file: Annotated[Path, typer.Option("--file", help="File to check.")] = Path(".env"),
    environment: Annotated[
        bool, typer.Option("--environment", help="Check the environment of this process, as in a container.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Refuse placeholders and secrets that are missing, short or well known, by their names; exit code 2.

    Example: `almenara env check`
    """
    found = env_file.check(os.environ if environment else env_file.read_settings(file))
    refused = [finding for finding in found if finding.refused]
    where = "the environment" if environment else str(file)
    for finding in found:
        colour = "red" if finding.refused else "yellow"
        typer.secho(f"{finding.name}: {finding.fact} {finding.remedy}", fg=colour, err=True)
    if not refused:
        typer.echo(f"Every secret of {where} may be used.")
    if as_json:
        rows = [{"name": each.name, "fact": each.fact, "remedy": each.remedy} for each in refused]
        warnings = [{"name": each.name, "fact": each.fact, "remedy": each.remedy} for each in found if not each.refused]
        print_json({"checked": where, "refused": rows, "warnings": warnings})
    if refused:
        raise typer.Exit(2)
