"""`almenara train`: train, calibrate, gate and register."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from almenara.console import DataOption, JsonOption, print_json, progress_bars, stdout
from almenara.settings import load_settings

if TYPE_CHECKING:
    from almenara.training import Outcome, Trainer

app = typer.Typer(no_args_is_help=True, help="Train a model, run its export gates and register it in MLflow.")

PromoteOption = Annotated[
    bool,
    typer.Option(
        "--promote",
        help="Make it the champion, unless it is worse than the champion or cannot be compared with it. The first "
        "version of a name becomes champion anyway.",
    ),
]
RateOption = Annotated[float, typer.Option(min=1e-4, max=0.5, help="False-alarm rate to calibrate the threshold for.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Refuse when the data cannot hold the promised rate.")]
SeedOption = Annotated[int, typer.Option(help="Of the splits and the models.")]


@app.command()
def vibration(
    data: DataOption,
    name: Annotated[str, typer.Option(help="Registered name; baselines become NAME-baseline-ASSET.")] = "bearing",
    method: Annotated[str, typer.Option(help="logistic-regression, random-forest or ensemble.")] = "ensemble",
    false_alarm_rate: RateOption = 0.05,
    strict: StrictOption = False,
    seed: SeedOption = 0,
    promote: PromoteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train the bearing classifier, and a novelty baseline for every asset with enough healthy records.

    Example: `almenara train vibration --data recordings/ --false-alarm-rate 0.02`
    """
    from almenara.vibration.recordings import load_folder

    recordings = load_folder(data)
    _train(
        lambda trainer: trainer.vibration(
            recordings, name=name, method=method, false_alarm_rate=false_alarm_rate, strict=strict, seed=seed
        ),
        promote=promote,
        as_json=as_json,
    )


@app.command()
def vision(
    data: DataOption,
    name: Annotated[str, typer.Option(help="Registered name.")] = "surface",
    method: Annotated[str, typer.Option(help="padim (a fixed camera, normal pictures only).")] = "padim",
    backbone: Annotated[str, typer.Option(help="Where features come from.")] = "efficientnet-lite0",
    size: Annotated[int, typer.Option(min=64, max=1024, help="Pixels of the square that pictures become.")] = 256,
    false_alarm_rate: RateOption = 0.05,
    strict: StrictOption = False,
    seed: SeedOption = 0,
    promote: PromoteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a picture model on normal pictures and calibrate its threshold on others.

    Example: `almenara train vision --data pictures/ --method padim --name outflow`
    """
    from almenara.vision.images import load_folder

    samples = load_folder(data)
    _train(
        lambda trainer: trainer.vision(
            samples,
            name=name,
            method=method,
            backbone=backbone,
            size=size,
            false_alarm_rate=false_alarm_rate,
            strict=strict,
            seed=seed,
        ),
        promote=promote,
        as_json=as_json,
    )


def _train(work: Callable[[Trainer], Outcome], *, promote: bool, as_json: bool) -> None:
    """Run a training against the registry of the settings, then print what it registered."""
    from almenara.registry import Registry
    from almenara.training import Trainer

    settings = load_settings()
    registry = Registry(settings.tracking_uri)
    with progress_bars() as progress:
        outcome = work(Trainer(registry, settings.mlflow_experiment_name, promote, progress))
    for registered in outcome.registered:
        stdout.print(registered.sentence)
    for note in outcome.notes:
        stdout.print(f"note: {note}")
    if as_json:
        print_json(
            {
                "models": {registered.ref.name: registered.ref.version for registered in outcome.registered},
                "champions": [registered.ref.name for registered in outcome.registered if registered.ref.alias],
                "refused": {
                    registered.ref.name: registered.refused for registered in outcome.registered if registered.refused
                },
                "metrics": {registered.ref.name: registered.card.metrics for registered in outcome.registered},
                "notes": outcome.notes,
            }
        )
