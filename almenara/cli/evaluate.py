"""`almenara evaluate`: honest figures on splits that a deployment would face."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from almenara.console import DataOption, JsonOption, print_json, progress_bars, stdout, table
from almenara.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="Measure a method on data it has not seen, group by group.")

NoTrackOption = Annotated[bool, typer.Option("--no-track", help="Do not log the figures to MLflow.")]


Protocol = Literal["leave-one-fault-size-out", "random-window"]
RANDOM: Protocol = "random-window"


@app.command()
def vibration(
    data: DataOption,
    protocol: Annotated[
        Protocol, typer.Option(help="random-window leaks and is for comparison only.")
    ] = "leave-one-fault-size-out",
    method: Annotated[str, typer.Option(help="logistic-regression, random-forest or ensemble.")] = "ensemble",
    window_seconds: Annotated[float, typer.Option(min=0.05, max=60, help="Length of a window.")] = 1.0,
    seed: int = 0,
    no_track: NoTrackOption = False,
    as_json: JsonOption = False,
) -> None:
    """Macro-F1 per window and per record; the leaking random split is printed beside the honest one.

    Example: `almenara evaluate vibration --data cwru/ --protocol leave-one-fault-size-out --json`
    """
    from almenara.vibration.evaluate import evaluate
    from almenara.vibration.recordings import load_folder

    recordings = load_folder(data)
    protocols = dict.fromkeys([protocol, RANDOM])
    with progress_bars() as progress:
        reports = {
            each: evaluate(
                recordings,
                protocol=each,
                method=method,
                window_seconds=window_seconds,
                seed=seed,
                progress=progress,
            )
            for each in protocols
        }
    rows = [
        [
            name + (" (leaks)" if name == RANDOM else ""),
            f"{report.macro_f1:.3f}",
            f"{report.record_macro_f1:.3f}",
            f"{report.ece:.3f}",
            "none healthy" if report.false_alarm_rate is None else f"{report.false_alarm_rate:.1%}",
            f"{report.windows} / {report.records}",
        ]
        for name, report in reports.items()
    ]
    table(
        f"{method}, {window_seconds:g} s windows",
        ["protocol", "macro-F1", "per record", "ECE", "false alarms", "windows / records"],
        rows,
    )
    chosen = reports[protocol]
    for note in chosen.notes:
        stdout.print(f"note: {note}")
    result = chosen.model_dump(mode="json")
    if protocol != RANDOM:
        leaking = reports[RANDOM]
        result["random_window_leaking"] = {
            "macro_f1": leaking.macro_f1,
            "record_macro_f1": leaking.record_macro_f1,
        }
    if as_json:
        print_json(result)
    if not no_track:
        _track(
            f"evaluate vibration {method}",
            result,
            {"protocol": protocol, "method": method, "window_seconds": window_seconds},
        )


@app.command()
def vision(
    data: DataOption,
    method: Annotated[str, typer.Option(help="padim.")] = "padim",
    backbone: Annotated[str, typer.Option(help="Where features come from.")] = "efficientnet-lite0",
    size: Annotated[
        int, typer.Option(min=64, max=1024, help="Pixels of the square that pictures are resized to.")
    ] = 256,
    false_alarm_rate: Annotated[float, typer.Option(min=1e-4, max=0.5, help="Promised rate.")] = 0.05,
    seeds: Annotated[int, typer.Option(min=1, max=20, help="Number of split seeds.")] = 3,
    no_track: NoTrackOption = False,
    as_json: JsonOption = False,
) -> None:
    """AUROC, PRO and the realised false-alarm rate over several splits by group.

    Example: `almenara evaluate vision --data tiles/ --method padim --json`
    """
    from almenara.vision.evaluate import evaluate
    from almenara.vision.images import load_folder

    with progress_bars() as progress:
        report = evaluate(
            load_folder(data),
            method=method,
            backbone=backbone,
            size=size,
            false_alarm_rate=false_alarm_rate,
            seeds=tuple(range(seeds)),
            progress=progress,
        )
    result = report.model_dump(mode="json")
    shown = {key: value for key, value in result.items() if isinstance(value, int | float)}
    table(
        f"{method} on {backbone}, {size} px, {seeds} splits by group",
        ["figure", "mean"],
        [[key, f"{value:.4g}"] for key, value in shown.items()],
    )
    table(
        "image AUROC by defect",
        ["defect", "AUROC"],
        [[key, f"{value:.3f}"] for key, value in report.per_defect.items()],
    )
    for note in report.notes:
        stdout.print(f"note: {note}")
    if as_json:
        print_json(result)
    if not no_track:
        _track(f"evaluate vision {method}", result, {"method": method, "backbone": backbone, "size": size})


def _track(name: str, result: Mapping[str, Any], parameters: Mapping[str, str | int | float]) -> None:
    """Log the numbers of a result to MLflow."""
    from almenara import tracking

    settings = load_settings()
    metrics = {key: float(value) for key, value in result.items() if isinstance(value, int | float)}
    uri = settings.tracking_uri
    with tracking.run(uri, settings.mlflow_experiment_name, name), tracking.registry_errors(uri):
        tracking.log_metrics(metrics, parameters)
