"""`almenara env`: the settings of `docker compose`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from almenara.console import JsonOption, print_json, stdout
from almenara.env_file import complete_file

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
    done = complete_file(file, sample)
    if done.secrets:
        stdout.print(f"{file} has new secrets: {', '.join(done.secrets)}. Only you can read it.")
    if others := [name for name in done.added if name not in done.secrets]:
        stdout.print(f"{file} has new settings, as in {sample}: {', '.join(others)}.")
    if not done.secrets and not done.added:
        stdout.print(f"{file} lacks nothing.")
    stdout.print("Next: docker compose up --detach --build --wait")
    if as_json:
        print_json({"file": str(file), "secrets": list(done.secrets), "added": list(done.added)})
