"""`camera-worker --source …`: watch cameras."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from almenara.errors import InputError
from almenara.settings import load_settings
from camera_worker.camera import Scored
from camera_worker.cli.common import log_to_stderr
from camera_worker.cli.configuration import DEFAULT_CONFIG, create_config
from camera_worker.config import API_URL, AlarmConfig, CameraConfig, WorkerConfig, load_config
from camera_worker.supervisor import Supervisor


def watch(
    context: typer.Context,
    source: Annotated[
        str | None, typer.Option(help="rtsp:// URL, path of a video file, or number of a webcam.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0.001, max=1, help="Anomaly, 0-1; .5 is the model's own threshold.")
    ] = None,
    alerts: Annotated[
        bool | None, typer.Option("--alerts/--no-alerts", help="Raise alarms, or only score.", show_default=False)
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Configuration file (YAML); options win over it.")] = None,
    model: Annotated[str | None, typer.Option(help="Registered model (sludge-outflow).", show_default=False)] = None,
    api_url: Annotated[
        str | None, typer.Option(envvar="ALMENARA_API_URL", help="Address of the API.", show_default=False)
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the camera in alarms (camera).", show_default=False)] = None,
    fps: Annotated[float | None, typer.Option(min=0.01, max=60, help="Pictures scored a second.")] = None,
    var_dir: Annotated[
        Path | None, typer.Option(help="Where alarms and evidence go (ALMENARA_VAR_DIR, or var).", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one verdict a line.")] = False,
    make_config: Annotated[bool, typer.Option("--create-config", help="Write cameras.yaml and exit.")] = False,
) -> None:
    """Watch cameras: score their pictures through the API, raise alarms with evidence.

    Examples:

      camera-worker --source rtsp://10.0.0.7/stream --threshold 0.75 --alerts

      camera-worker --config cameras.yaml
    """
    if context.invoked_subcommand:
        return
    if make_config:
        create_config(DEFAULT_CONFIG)
        return
    log_to_stderr()
    given: dict[str, Any] = {"model": model, "fps": fps}
    chosen = {key: value for key, value in given.items() if value is not None}
    worker = _configure(config, source, name, threshold, chosen)
    if api_url is not None and not API_URL.fullmatch(api_url):
        raise InputError("api-url", f"{api_url!r} is no address of an API.", "Give one such as http://127.0.0.1:8000.")
    worker = worker.model_copy(
        update={
            "alerts": (bool(config) and worker.alerts) if alerts is None else alerts,
            "api": worker.api.model_copy(update={"url": api_url}) if api_url else worker.api,
            "var_dir": var_dir or worker.var_dir,
        }
    )
    raise typer.Exit(asyncio.run(_watch(worker, as_json=as_json)))


def _configure(
    file: Path | None, source: str | None, name: str | None, threshold: float | None, given: dict[str, Any]
) -> WorkerConfig:
    """The file's configuration or an empty one, with what the command line says in its place."""
    if file is None and source is None:
        raise InputError("source-missing", "No camera is named.", "Say --source URL or --config FILE.")
    try:
        shown = CameraConfig.model_validate({"name": name or "camera", "source": source or "0", **given})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        fact = f"--{first['loc'][0]} cannot be used: {first['msg']}."
        raise InputError("option-invalid", fact, "See camera-worker --help.") from None
    worker = load_config(file) if file else WorkerConfig(cameras=(shown,))
    cameras = (shown,) if source else worker.cameras
    changed = []
    for camera in cameras:
        alarm = _with_threshold(camera.alarm, threshold) if threshold else camera.alarm
        updates = {field: getattr(shown, field) for field in given} | {"alarm": alarm}
        changed.append(camera.model_copy(update=updates))
        camera.parsed_source()
    return worker.model_copy(update={"cameras": tuple(changed)})


def _with_threshold(alarm: AlarmConfig, threshold: float) -> AlarmConfig:
    return alarm.model_copy(update={"threshold": threshold, "deadband": min(alarm.deadband, threshold / 2)})


async def _watch(worker: WorkerConfig, *, as_json: bool) -> int:
    def report(scored: Scored) -> None:
        if not as_json:
            return
        try:
            _print_verdict(scored)
        except BrokenPipeError:  # whoever read the verdicts has seen enough
            supervisor.stop()

    supervisor = Supervisor(worker, load_settings(), report=report)
    return await supervisor.run()


def _print_verdict(scored: Scored) -> None:
    line = {
        "camera": scored.camera,
        "captured_at": scored.captured_at.isoformat(),
        "age_seconds": round(scored.age, 3),
        **scored.verdict.model_dump(mode="json", exclude={"heatmap"}),
    }
    sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
    sys.stdout.flush()
