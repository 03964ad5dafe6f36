"""`almenara predict`: judge pictures and recordings with a registered champion."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import numpy as np
import typer
from numpy.typing import NDArray

from almenara.console import JsonOption, print_json, stdout
from almenara.contracts import ModelRef, VibrationVerdict, VisionVerdict
from almenara.errors import AlmenaraError, InputError, RegistryError
from almenara.redaction import redact_address
from almenara.settings import load_settings

if TYPE_CHECKING:
    from almenara.client import Almenara
    from almenara.client.questions import Heatmap
    from almenara.registry import Registry
    from almenara.servable import Package

_Verdict = TypeVar("_Verdict", VisionVerdict, VibrationVerdict)

app = typer.Typer(no_args_is_help=True, help="Judge files with the champion of the registry, or of an API.")

FilesArgument = Annotated[list[Path], typer.Argument(help="Files to judge.", exists=True, dir_okay=False)]
ModelOption = Annotated[str | None, typer.Option("--model", help="Registered name; may be left out when there is one.")]
UrlOption = Annotated[
    str | None,
    typer.Option(help="Address of an API that judges instead; it is sent ALMENARA_API_KEY.", metavar="http://…"),
]


@app.command()
def image(
    files: FilesArgument,
    model: ModelOption = None,
    url: UrlOption = None,
    overlays: Annotated[Path | None, typer.Option(help="Folder for the pictures with their heatmaps.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Judge pictures (JPEG, PNG, WebP).

    Example: `almenara predict image frame.jpg --model sludge-outflow --overlays out/`
    """
    results = {}
    with _picture_judge(url, model, drawing=overlays is not None) as judge:
        for file in files:
            verdict = judge(file)
            results[str(file)] = verdict.model_copy(update={"heatmap": None}).model_dump(mode="json")
            stdout.print(
                f"{file}: [bold]{verdict.label}[/] anomaly {verdict.anomaly:.2f}, score {verdict.score:.4g} "
                f"(threshold {verdict.threshold:.4g}), p {verdict.p_value:.3f}"
            )
            if overlays is not None and verdict.heatmap is not None:
                overlays.mkdir(parents=True, exist_ok=True)
                suffix = ".png" if verdict.heatmap.media_type == "image/png" else ".jpg"
                drawn = overlays / f"{file.stem}_overlay{suffix}"
                drawn.write_bytes(base64.b64decode(verdict.heatmap.base64))
    if as_json:
        print_json({"model": verdict.model.model_dump(), "verdicts": results})


@app.command()
def recording(
    files: FilesArgument,
    model: ModelOption = None,
    url: UrlOption = None,
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
    from almenara.vibration.signals import agreed_rate, read_signal

    results = {}
    with _signal_judge(url, model, shaft_rpm=shaft_rpm, bearing=bearing, unit=unit) as judge:
        for file in files:
            signal, found = read_signal(file, channel=channel)
            rate = agreed_rate(sampling_rate_hz, found, str(file))
            snapshots = {str(file): signal}
            if signal.ndim == 2:
                snapshots = {f"{file}#{index}": row for index, row in enumerate(signal)}
            for name, samples in snapshots.items():
                verdict = judge(name, samples, rate)
                results[name] = verdict.model_dump(mode="json")
                stdout.print(f"{name}: [bold]{verdict.label}[/] over {verdict.windows} windows. {verdict.reason}")
    if as_json:
        print_json({"model": verdict.model.model_dump(), "verdicts": results})


@contextmanager
def _picture_judge(url: str | None, model: str | None, *, drawing: bool) -> Iterator[Callable[[Path], VisionVerdict]]:
    """What judges a picture file, here or at an API; with its overlay when `drawing`."""
    if url is not None:
        with _api(url, "vision", model) as (api, served):
            heatmap: Heatmap = "overlay" if drawing else "none"
            yield lambda file: _telling_of(str(file), lambda: api.vision.predict(served, file, heatmap=heatmap))
        return
    from almenara.servable import VisionModel
    from almenara.vision import images
    from almenara.vision import verdict as vision

    package, ref = _champion("vision", model)
    champion = VisionModel(package, ref)

    most = load_settings().max_pixels

    def judge(file: Path) -> VisionVerdict:
        result = champion.predict(champion.decode(images.read_bytes(file), max_pixels=most, name=str(file)))
        if not drawing:
            return result.verdict
        overlay = images.encode_png(vision.overlay(images.read(file, most), result.map, package.card))
        return result.verdict.model_copy(update={"heatmap": vision.picture(overlay)})

    yield judge


@contextmanager
def _signal_judge(
    url: str | None, model: str | None, *, shaft_rpm: float | None, bearing: str | None, unit: str | None
) -> Iterator[Callable[[str, NDArray[np.float32], float], VibrationVerdict]]:
    """What judges a named signal of a sampling rate, here or at an API."""
    if url is not None:
        with _api(url, "vibration", model) as (api, served):
            yield lambda name, samples, rate: _telling_of(
                name,
                lambda: api.vibration.predict(
                    served, samples, sampling_rate_hz=rate, shaft_rpm=shaft_rpm, bearing=bearing, unit=unit
                ),
            )
        return
    from almenara.servable import VibrationModel

    champion = VibrationModel(*_champion("vibration", model))
    yield lambda _, samples, rate: champion.predict(samples, rate, shaft_rpm=shaft_rpm, bearing=bearing, unit=unit)


@contextmanager
def _api(url: str, task: str, model: str | None) -> Iterator[tuple[Almenara, str]]:
    """A client of the API, and the model to ask there."""
    from almenara.client import Almenara

    key = load_settings().api_key
    with Almenara(url, key=key.get_secret_value() if key else None) as api:
        if model is None:
            served = [row for row in api.models().models if row.task == task and row.role != "novelty" and row.version]
            model = _only([row.name for row in served], task, f"The API at {redact_address(url)}")
        yield api, model


def _telling_of(name: str, ask: Callable[[], _Verdict]) -> _Verdict:
    """The API's answer; of the file that it refuses it knows no name."""
    from almenara.client import ApiError

    try:
        return ask()
    except ApiError as error:
        raise AlmenaraError(f"{name}: {error.fact}", error.remedy) from error


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
    found = {served.name: served for served in registry.served() if served.task == task and served.role != "novelty"}
    served = found[_only(list(found), task, f"The registry at {registry.address}")]
    return ModelRef(name=served.name, version=served.version, alias=served.alias)


def _only(names: Sequence[str], task: str, place: str) -> str:
    """The one champion's name."""
    if not names:
        raise RegistryError(f"{place} has no {task} champion.", f"Train one: almenara train {task} --data FOLDER")
    if len(names) > 1:
        found = ", ".join(names)
        raise InputError("model-ambiguous", f"There are several {task} champions: {found}.", "Name one with --model.")
    return names[0]
