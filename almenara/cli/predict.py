"""`almenara predict`: judge pictures and recordings with a registered champion."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from almenara.console import JsonOption, print_json, stdout
from almenara.contracts import ModelRef
from almenara.errors import InputError, RegistryError
from almenara.settings import load_settings

if TYPE_CHECKING:
    from almenara.registry import Registry
    from almenara.servable import Package

app = typer.Typer(no_args_is_help=True, help="Judge files with the champion of the registry.")

FilesArgument = Annotated[list[Path], typer.Argument(help="Files to judge.", exists=True, dir_okay=False)]
ModelOption = Annotated[str | None, typer.Option("--model", help="Registered name; may be left out when there is one.")]


@app.command()
def image(
    files: FilesArgument,
    model: ModelOption = None,
    overlays: Annotated[Path | None, typer.Option(help="Folder for the pictures with their heatmaps.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Judge pictures (JPEG, PNG, WebP).

    Example: `almenara predict image frame.jpg --model sludge-outflow --overlays out/`
    """
    from almenara.servable import VisionModel
    from almenara.vision import images, verdict

    package, ref = _champion("vision", model)
    judge = VisionModel(package, ref)
    results = {}
    for file in files:
        picture = images.read(file, max_pixels=load_settings().max_pixels)
        result = judge.predict(picture)
        results[str(file)] = result.verdict.model_dump(mode="json")
        stdout.print(
            f"{file}: [bold]{result.verdict.label}[/] anomaly {result.verdict.anomaly:.2f}, "
            f"score {result.verdict.score:.4g} (threshold {result.verdict.threshold:.4g}), "
            f"p {result.verdict.p_value:.3f}"
        )
        if overlays is not None:
            overlays.mkdir(parents=True, exist_ok=True)
            drawn = overlays / f"{file.stem}_overlay.png"
            drawn.write_bytes(images.encode_png(verdict.overlay(picture, result.map, package.card)))
    if as_json:
        print_json({"model": ref.model_dump(), "verdicts": results})


@app.command()
def recording(
    files: FilesArgument,
    model: ModelOption = None,
    channel: Annotated[str | None, typer.Option(help="Variable or column to read, for files with several.")] = None,
    sampling_rate_hz: Annotated[
        float | None, typer.Option(min=1, help="Needed when the file does not say; it is never assumed.")
    ] = None,
    shaft_rpm: Annotated[float | None, typer.Option(min=1, help="Revolutions a minute.")] = None,
    bearing: Annotated[str | None, typer.Option(help="Designation, such as 6205-2RS.")] = None,
    unit: Annotated[str | None, typer.Option(help="Unit of the samples, such as g.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Judge vibration recordings (.mat, .npz, .npy, .csv, .wav); of a recording in two dimensions each snapshot.

    Example: `almenara predict recording pump.wav --shaft-rpm 1797 --bearing 6205-2RS`
    """
    from almenara.servable import VibrationModel
    from almenara.vibration.signals import agreed_rate, read_signal

    package, ref = _champion("vibration", model)
    judge = VibrationModel(package, ref)
    results = {}
    for file in files:
        signal, found = read_signal(file, channel=channel)
        rate = agreed_rate(sampling_rate_hz, found, str(file))
        snapshots = {str(file): signal}
        if signal.ndim == 2:
            snapshots = {f"{file}#{index}": row for index, row in enumerate(signal)}
        for name, samples in snapshots.items():
            verdict = judge.predict(samples, rate, shaft_rpm=shaft_rpm, bearing=bearing, unit=unit)
            results[name] = verdict.model_dump(mode="json")
            stdout.print(f"{name}: [bold]{verdict.label}[/] over {verdict.windows} windows. {verdict.reason}")
    if as_json:
        print_json({"model": ref.model_dump(), "verdicts": results})


def _champion(task: str, name: str | None) -> tuple[Package, ModelRef]:
    """The package behind the champion alias."""
    from almenara import servable
    from almenara.registry import Registry

    settings = load_settings()
    registry = Registry(settings.tracking_uri)
    ref = registry.champion(name) if name else _only_champion(registry, task)
    with tempfile.TemporaryDirectory() as folder:
        package = servable.load(registry.fetch(ref.name, ref.version, Path(folder)))
    if package.card.task != task:
        raise InputError(
            "model-task", f"{ref.name} is a {package.card.task} model.", f"Name a {task} model with --model."
        )
    return package, ref


def _only_champion(registry: Registry, task: str) -> ModelRef:
    found = [served for served in registry.served() if served.task == task and served.role != "novelty"]
    if not found:
        raise RegistryError(
            f"The registry at {registry.address} has no {task} champion.",
            f"Train one: almenara train {task} --data FOLDER",
        )
    if len(found) > 1:
        names = ", ".join(served.name for served in found)
        raise InputError("model-ambiguous", f"There are several {task} champions: {names}.", "Name one with --model.")
    return ModelRef(name=found[0].name, version=found[0].version, alias=found[0].alias)
