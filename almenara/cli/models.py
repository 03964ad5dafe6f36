"""`almenara models`: what the registry holds, comparison, promotion, challengers, rollback and import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from almenara.console import JsonOption, print_json, stdout, table
from almenara.errors import GateError, InputError
from almenara.settings import load_settings

if TYPE_CHECKING:
    from almenara.comparison import Comparison
    from almenara.registry import Registry

app = typer.Typer(
    no_args_is_help=True, help="List, compare, promote, roll back and import registered models, and name challengers."
)

NameArgument = Annotated[str, typer.Argument(help="Registered name.")]
ReasonOption = Annotated[str, typer.Option(help="Why; kept as a tag of the version.")]
FileArgument = Annotated[Path, typer.Argument(help="The graph, an ONNX file.", exists=True, dir_okay=False)]
CardOption = Annotated[
    Path, typer.Option("--card", help="Its card.json; docs/models.md shows whole ones.", exists=True, dir_okay=False)
]


@app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """List registered models, their versions, champions and challengers.

    Example: `almenara models list --json`
    """
    registry = _registry()
    rows = [(model, registry.versions(model.name)) for model in registry.models()]
    if not rows:
        stdout.print(f"No model is registered at {registry.address}. Train one: almenara train --help")
    else:
        table(
            f"Models at {registry.address}",
            ["name", "task", "role", "asset", "champion", "challenger", "versions"],
            [
                [
                    model.name,
                    model.task,
                    model.role,
                    model.asset or "",
                    model.champion or "none",
                    model.challenger or "",
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
                        "challenger": model.challenger,
                        "versions": versions,
                    }
                    for model, versions in rows
                ]
            }
        )


@app.command()
def show(
    name: NameArgument,
    version: Annotated[str | None, typer.Argument(help="Of this version alone, with its figures.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Who promoted, challenged and rolled back which version, when and why; of one version its figures, too.

    Example: `almenara models show bearing 3`
    """
    registry = _registry()
    card = None if version is None else registry.card(name, version)
    changes = [change for change in registry.history(name) if version in (None, change.version)]
    if card is not None:
        table(
            f"{name} version {version}: {card.method}, data {card.training_data.get('fingerprint', 'unknown')}",
            ["protocol", "metric", "value"],
            [
                [protocol, metric, f"{value:.4g}"]
                for protocol, metrics in card.metrics.items()
                for metric, value in metrics.items()
            ],
        )
    table(
        f"History of {name}" + (f" version {version}" if version else ""),
        ["when", "version", "what", "who", "why"],
        [[change.at, change.version, change.what, change.who, change.why] for change in changes],
    )
    if as_json:
        kept = None if card is None else card.model_dump(mode="json", exclude={"calibration_scores"})
        print_json({"name": name, "card": kept, "history": [change.model_dump() for change in changes]})


@app.command()
def compare(
    name: NameArgument,
    a: Annotated[str | None, typer.Argument(help="A version; the champion unless given.")] = None,
    b: Annotated[str | None, typer.Argument(help="Another one; the newest other one unless given.")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw the figures side by side into this PNG file.", dir_okay=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Every figure of two versions side by side, which is better, and whether the two can be compared at all.

    Example: `almenara models compare bearing 2 3 --plot bearing.png`
    """
    if plot is not None and plot.suffix.lower() != ".png":
        raise InputError("plot-name", f"{plot} is no name of a PNG file.", "End it with .png.")
    found = _registry().compare(name, a, b)
    _print_comparison(found)
    if plot is not None:
        from almenara import comparison

        plot.write_bytes(comparison.plot(found))
        stdout.print(f"Drawn: {plot}")
    if as_json:
        print_json(found.model_dump())


@app.command()
def promote(
    name: NameArgument,
    version: Annotated[str, typer.Argument(help="Version to make the champion.")],
    reason: ReasonOption,
    force: Annotated[
        bool, typer.Option("--force", help="Also when it is worse or cannot be compared; a tag of the version says so.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a version the champion unless it is worse; a running API serves it within seconds.

    Example: `almenara models promote bearing 3 --reason "better on the March recordings"`
    """
    ref = _registry().promote(name, version, reason=reason, force=force)
    stdout.print(f"{ref.name} version {ref.version} is the champion.")
    if as_json:
        print_json(ref.model_dump())


@app.command()
def challenge(
    name: NameArgument,
    version: Annotated[str | None, typer.Argument(help="Version that is to judge beside the champion.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="No challenger any more.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Let a version judge live requests beside the champion, whose verdicts alone count.

    Example: `almenara models challenge bearing 4`, and to end it `almenara models challenge bearing --clear`
    """
    if clear == (version is not None):
        raise InputError(
            "challenge-unclear", "Either a version or --clear is wanted.", f"almenara models challenge {name} VERSION"
        )
    registry = _registry()
    if version is None:
        withdrawn = registry.withdraw(name)
        stdout.print(
            f"{name} has no challenger." if withdrawn is None else f"{name} version {withdrawn} challenges no more."
        )
    else:
        registry.challenge(name, version)
        stdout.print(f"{name} version {version} is the challenger.")
    if as_json:
        print_json({"name": name, "challenger": version})


@app.command()
def rollback(name: NameArgument, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """Give the alias back to the champion before this one.

    Example: `almenara models rollback bearing --reason "false alarms on line 2"`
    """
    ref = _registry().rollback(name, reason=reason)
    stdout.print(f"{ref.name} is back at version {ref.version}.")
    if as_json:
        print_json(ref.model_dump())


@app.command("import")
def import_model(
    graph: FileArgument,
    card: CardOption,
    promote: Annotated[bool, typer.Option("--promote", help="Make it the champion unless it is worse.")] = False,
    reason: Annotated[str, typer.Option(help="Why it is promoted; needed with --promote.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Check an ONNX graph that was made elsewhere and register it under its card's name; the API serves it as ours.

    Example: `almenara models import model.onnx --card card.json --promote --reason "first model of line 2"`
    """
    from almenara import importing
    from almenara.comparison import PromotionError
    from almenara.history import require_reason

    if promote:
        require_reason(reason)
    candidate = importing.read(graph, card)
    settings, registry = load_settings(), _registry()
    try:
        ref = registry.register(candidate, settings.mlflow_experiment_name, work="import")
    except GateError as error:
        raise GateError(f"{graph}: {error.fact}", error.remedy) from error
    stdout.print(f"Registered {ref.name} version {ref.version}.")
    refused = ""
    if promote:
        try:
            ref = registry.promote(ref.name, ref.version, reason=reason)
            stdout.print(f"{ref.name} version {ref.version} is the champion.")
        except PromotionError as error:
            refused = str(error)
            stdout.print(f"Not promoted: {refused}")
    if as_json:
        print_json({**ref.model_dump(), "refused": refused})


def _print_comparison(found: Comparison) -> None:
    a, b = found.a, found.b
    names = {"a": f"version {a.version}", "b": f"version {b.version}", "same": "the same", None: ""}
    table(
        f"{found.name}: version {a.version} and version {b.version}",
        ["", f"version {a.version}", f"version {b.version}"],
        [
            ["method", a.method, b.method],
            ["data fingerprint", *(f"{each.fingerprint or 'unknown':.16}" for each in (a, b))],
            ["protocols", ", ".join(a.protocols) or "none", ", ".join(b.protocols) or "none"],
            *(
                [parameter, a.parameters.get(parameter, ""), b.parameters.get(parameter, "")]
                for parameter in sorted(a.parameters.keys() | b.parameters.keys())
                if a.parameters.get(parameter) != b.parameters.get(parameter) and parameter != "method"
            ),
        ],
    )
    table(
        "Figures",
        ["protocol", "metric", names["a"], names["b"], "difference", "better"],
        [
            [
                each.protocol + (" (leaks)" if each.leaks and "leak" not in each.protocol else ""),
                each.metric,
                "" if each.a is None else f"{each.a:.4g}",
                "" if each.b is None else f"{each.b:.4g}",
                "" if each.difference is None else f"{each.difference:+.4f}",
                names[each.better],
            ]
            for each in found.figures
        ],
    )
    if not found.comparable:
        stdout.print(f"Not comparable. {' '.join(found.obstacles)}")
    elif found.main is not None:
        verdict = {"a": f"{names['a']} is better", "b": f"{names['b']} is better", "same": "the two are the same"}
        decided = verdict[found.main.better] if found.main.better else "nothing is decided"
        stdout.print(f"Comparable; by {found.main.metric} ({found.main.protocol}) {decided}.")
    else:
        stdout.print("Comparable, but neither has the figure that decides: nothing says that one is worse.")


def _registry() -> Registry:
    from almenara.registry import Registry

    return Registry(load_settings().tracking_uri)
