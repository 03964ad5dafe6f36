"""`almenara models`: what the registry holds, promotion and rollback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from almenara.console import JsonOption, print_json, stdout, table
from almenara.settings import load_settings

if TYPE_CHECKING:
    from almenara.registry import Registry

app = typer.Typer(no_args_is_help=True, help="List, promote and roll back registered models.")

NameArgument = Annotated[str, typer.Argument(help="Registered name.")]
ReasonOption = Annotated[str, typer.Option(help="Why; kept as a tag of the version.")]


@app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """List registered models, their versions and champions.

    Example: `almenara models list --json`
    """
    registry = _registry()
    rows = [(model, registry.versions(model.name)) for model in registry.models()]
    if not rows:
        stdout.print(f"No model is registered at {registry.address}. Train one: almenara train --help")
    else:
        table(
            f"Models at {registry.address}",
            ["name", "task", "role", "asset", "champion", "versions"],
            [
                [
                    model.name,
                    model.task,
                    model.role,
                    model.asset or "",
                    model.champion or "none",
                    ", ".join(versions),
                ]
                for model, versions in rows
            ],
        )
    if as_json:
        print_json(
            {
                "models": [
                    {
                        "name": model.name,
                        "task": model.task,
                        "role": model.role,
                        "asset": model.asset,
                        "champion": model.champion,
                        "versions": versions,
                    }
                    for model, versions in rows
                ]
            }
        )


@app.command()
def promote(
    name: NameArgument,
    version: Annotated[str, typer.Argument(help="Version to make the champion.")],
    reason: ReasonOption,
    as_json: JsonOption = False,
) -> None:
    """Make a version the champion; a running API serves it within seconds.

    Example: `almenara models promote bearing 3 --reason "better on the March recordings"`
    """
    ref = _registry().promote(name, version, reason=reason)
    stdout.print(f"{ref.name} version {ref.version} is the champion.")
    if as_json:
        print_json(ref.model_dump())


@app.command()
def rollback(name: NameArgument, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """Give the alias back to the champion before this one.

    Example: `almenara models rollback bearing --reason "false alarms on line 2"`
    """
    ref = _registry().rollback(name, reason=reason)
    stdout.print(f"{ref.name} is back at version {ref.version}.")
    if as_json:
        print_json(ref.model_dump())


def _registry() -> Registry:
    from almenara.registry import Registry

    return Registry(load_settings().tracking_uri)
