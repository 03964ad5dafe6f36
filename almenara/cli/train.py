"""`almenara train`: train, calibrate, gate and register."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from almenara.cli.console import DataOption, JsonOption, print_json, progress_bars, stderr, stdout
from almenara.contracts import Candidate, ModelRef
from almenara.settings import Settings

if TYPE_CHECKING:
    from almenara.registry import Registry
    from almenara.vibration.recordings import Recording

app = typer.Typer(no_args_is_help=True, help="Train a model, run its export gates and register it in MLflow.")

LEAST_BASELINE_RECORDS = 2  # one to fit on, one to calibrate on

PromoteOption = Annotated[
    bool,
    typer.Option("--promote", help="Make it the champion. The first version of a name becomes champion anyway."),
]
RateOption = Annotated[float, typer.Option(min=1e-4, max=0.5, help="False-alarm rate to calibrate the threshold for.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Refuse when the data cannot hold the promised rate.")]


@app.command()
def vibration(
    data: DataOption,
    name: Annotated[str, typer.Option(help="Registered name; baselines become NAME-baseline-ASSET.")] = "bearing",
    method: Annotated[str, typer.Option(help="logistic-regression, random-forest or ensemble.")] = "ensemble",
    false_alarm_rate: RateOption = 0.05,
    strict: StrictOption = False,
    seed: int = 0,
    promote: PromoteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train the bearing classifier, and a novelty baseline for every asset with enough healthy records.

    Example: `almenara train vibration --data recordings/ --false-alarm-rate 0.02`
    """
    from almenara.vibration.recordings import load_folder
    from almenara.vibration.train import train_classifier, train_novelty

    recordings = load_folder(data)
    registry, settings = _registry()
    registered: dict[str, str] = {}
    with progress_bars() as progress:
        classifier = train_classifier(recordings, name=name, method=method, seed=seed, progress=progress)
        registered |= register(registry, settings, classifier, promote)
        for asset, healthy in healthy_by_asset(recordings).items():
            if len(healthy) < LEAST_BASELINE_RECORDS:
                stderr.print(
                    f"No baseline for {asset}: it has {len(healthy)} healthy record and needs at least "
                    f"{LEAST_BASELINE_RECORDS}. Without one the classifier names faults but raises no alarm."
                )
                continue
            baseline = train_novelty(
                healthy,
                name=baseline_name(name, asset),
                asset=asset,
                false_alarm_rate=false_alarm_rate,
                strict=strict,
                seed=seed,
                progress=progress,
            )
            registered |= register(registry, settings, baseline, promote)
    if as_json:
        print_json({"models": registered, "metrics": classifier.card.metrics})


@app.command()
def vision(
    data: DataOption,
    name: Annotated[str, typer.Option(help="Registered name.")] = "surface",
    method: Annotated[str, typer.Option(help="padim (a fixed camera, normal pictures only).")] = "padim",
    backbone: Annotated[str, typer.Option(help="Where features come from.")] = "efficientnet-lite0",
    size: Annotated[
        int, typer.Option(min=64, max=1024, help="Pixels of the square that pictures are resized to.")
    ] = 256,
    false_alarm_rate: RateOption = 0.05,
    strict: StrictOption = False,
    seed: int = 0,
    promote: PromoteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a picture model on normal pictures and calibrate its threshold on others.

    Example: `almenara train vision --data pictures/ --method padim --name outflow`
    """
    from almenara.vision.images import load_folder
    from almenara.vision.train import train

    samples = load_folder(data)
    registry, settings = _registry()
    with progress_bars() as progress:
        candidate = train(
            samples,
            name=name,
            method=method,
            backbone=backbone,
            size=size,
            false_alarm_rate=false_alarm_rate,
            strict=strict,
            seed=seed,
            progress=progress,
        )
        registered = register(registry, settings, candidate, promote)
    if as_json:
        print_json({"models": registered, "metrics": candidate.card.metrics})


def baseline_name(name: str, asset: str) -> str:
    """Registered name of an asset's novelty model, in the card's alphabet."""
    plain = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in asset.lower())
    return f"{name}-baseline-{plain}"[:80]


def healthy_by_asset(recordings: list[Recording]) -> dict[str, list[Recording]]:
    """Healthy recordings of each asset, assets in order of appearance."""
    found: dict[str, list[Any]] = {}
    for recording in recordings:
        if recording.fault == "normal":
            found.setdefault(recording.asset, []).append(recording)
    return found


def register(registry: Registry, settings: Settings, candidate: Candidate, promote: bool) -> dict[str, str]:
    """Register a candidate, promote it when asked or when it is the first, and say so."""
    made = registry.register(candidate, settings.mlflow_experiment_name)
    first = made.version == "1"
    if promote or first:
        registry.promote(made.name, made.version, reason="first version" if first else "asked for at training")
    stdout.print(_sentence(candidate, made, champion=promote or first))
    return {made.name: made.version}


def _sentence(candidate: Candidate, made: ModelRef, *, champion: bool) -> str:
    threshold = candidate.card.threshold
    parts = [f"Registered {made.name} version {made.version}" + (", the champion." if champion else ".")]
    if threshold is not None:
        parts.append(
            f"Threshold {threshold.value:.4g} for a false-alarm rate of {threshold.false_alarm_rate:.1%} "
            f"({threshold.promise}: {threshold.groups} groups, {threshold.groups_needed} needed)."
        )
    if not champion:
        parts.append(f"Promote it: almenara models promote {made.name} {made.version} --reason …")
    return " ".join(parts)


def _registry() -> tuple[Registry, Settings]:
    from almenara.registry import Registry

    settings = Settings()
    return Registry(settings.tracking_uri), settings
