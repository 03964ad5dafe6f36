"""`camera-worker --source …`: watch cameras."""

from __future__ import annotations

import asyncio
import signal
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from almenara.settings import load_settings
from camera_worker.cli.common import log_to_stderr
from camera_worker.cli.configuration import DEFAULT_CONFIG, create_config
from camera_worker.cli.options import Options, configure
from camera_worker.cli.verdicts import VerdictLines
from camera_worker.config import WorkerConfig
from camera_worker.sources import SourceKind
from camera_worker.supervisor import Supervisor
from camera_worker.threads import DaemonThreads

_CAMERA, _SCORING, _ALARMS, _WORKER = "Camera", "Scoring", "Alarms", "Worker"

_Source = Annotated[
    str | None,
    typer.Option(
        help="rtsp:// or http:// URL, path of a video file, or number of a webcam. "
        "Others on this machine see a password in a URL in the list of processes: give --username instead.",
        rich_help_panel=_CAMERA,
    ),
]
_Username = Annotated[
    str | None,
    typer.Option(
        help="User of the camera; its password is taken from the environment's CAMERA_PASSWORD.",
        rich_help_panel=_CAMERA,
    ),
]
_Name = Annotated[
    str | None, typer.Option(help="Name of the camera in alarms. Default: camera.", rich_help_panel=_CAMERA)
]
_Transport = Annotated[
    Literal["tcp", "udp"] | None,
    typer.Option(help="Of RTSP; udp loses pictures where packets are lost.", rich_help_panel=_CAMERA),
]
_Keyframes = Annotated[
    bool, typer.Option("--keyframes", help="Decode only key frames: little work.", rich_help_panel=_CAMERA)
]
_Realtime = Annotated[
    bool,
    typer.Option(
        "--realtime", help="Play a video file at its own speed and sample it as a camera.", rich_help_panel=_CAMERA
    ),
]
_Model = Annotated[
    str | None, typer.Option(help="Registered model. Default: sludge-outflow.", rich_help_panel=_SCORING)
]
_Fps = Annotated[
    float | None,
    typer.Option(
        min=0.01,
        max=60,
        help="Pictures scored a second. Default: 2, and every picture of a video file without --realtime.",
        rich_help_panel=_SCORING,
    ),
]
_ApiUrl = Annotated[
    str | None,
    typer.Option(help="Address of the API; else the file's, or ALMENARA_API_URL.", rich_help_panel=_SCORING),
]
_Json = Annotated[bool, typer.Option("--json", help="Print one verdict a line.", rich_help_panel=_SCORING)]
_Threshold = Annotated[
    float | None,
    typer.Option(min=0.001, max=1, help="Anomaly, 0-1; 0.5 is the model's own threshold.", rich_help_panel=_ALARMS),
]
_Alerts = Annotated[
    bool | None,
    typer.Option(
        "--alerts/--no-alerts",
        help="Raise alarms, or only score. Default: as the file says; without one only score.",
        rich_help_panel=_ALARMS,
    ),
]
_VarDir = Annotated[
    Path | None,
    typer.Option(help="Folder of alarms and evidence. Default: ALMENARA_VAR_DIR, or var.", rich_help_panel=_ALARMS),
]
_Config = Annotated[
    Path | None,
    typer.Option(
        help="Configuration file (YAML); options win over it. SIGHUP reads it again.", rich_help_panel=_WORKER
    ),
]
_Shard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Watch this worker's share of the file's cameras: worker I of N, such as 1/3.",
        rich_help_panel=_WORKER,
    ),
]
_StatusPort = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        help="Port of /healthz, /readyz, /metrics and /cameras, on 127.0.0.1 unless the file names a host.",
        rich_help_panel=_WORKER,
    ),
]
_CreateConfig = Annotated[
    bool, typer.Option("--create-config", help="Write a commented cameras.yaml and exit.", rich_help_panel=_WORKER)
]


def watch(
    context: typer.Context,
    source: _Source = None,
    username: _Username = None,
    name: _Name = None,
    transport: _Transport = None,
    keyframes: _Keyframes = False,
    realtime: _Realtime = False,
    model: _Model = None,
    fps: _Fps = None,
    api_url: _ApiUrl = None,
    as_json: _Json = False,
    threshold: _Threshold = None,
    alerts: _Alerts = None,
    var_dir: _VarDir = None,
    config: _Config = None,
    shard: _Shard = None,
    status_port: _StatusPort = None,
    make_config: _CreateConfig = False,
) -> None:
    """Watch cameras: score their pictures through the API, raise alarms with evidence.

    Examples:

      camera-worker --source 0 --threshold 0.75 --alerts

      CAMERA_PASSWORD=... camera-worker --source rtsp://10.0.0.7/stream --username operator --alerts

      camera-worker --source shift.mp4 --json | jq .anomaly

      camera-worker --config cameras.yaml --shard 1/3 --status-port 8090
    """
    if context.invoked_subcommand:
        return
    if make_config:
        create_config(DEFAULT_CONFIG)
        return
    log_to_stderr()
    options = Options(
        source=source,
        config=config,
        name=name,
        username=username,
        transport=transport,
        keyframes=keyframes,
        realtime=realtime,
        model=model,
        fps=fps,
        threshold=threshold,
        alerts=alerts,
        var_dir=var_dir,
        api_url=api_url,
        status_port=status_port,
        shard=shard,
    )
    raise typer.Exit(asyncio.run(_watch(options, as_json=as_json)))


async def _watch(options: Options, *, as_json: bool) -> int:
    if options.config:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which would end a process that does not listen to it yet
    loop = asyncio.get_running_loop()
    loop.set_default_executor(DaemonThreads())
    worker = configure(options)
    load = partial(configure, options) if options.config else None
    if not as_json:
        return await Supervisor(worker, load_settings(), load=load).run()

    def stop() -> None:
        loop.call_soon_threadsafe(supervisor.stop)

    with VerdictLines(stop, complete=_only_files(worker)) as lines:
        supervisor = Supervisor(worker, load_settings(), report=lines.report, load=load)
        try:
            return await supervisor.run()
        finally:
            if supervisor.stopping:
                lines.hurry()


def _only_files(worker: WorkerConfig) -> bool:
    return bool(worker.cameras) and all(
        camera.parsed_source().kind is SourceKind.FILE and not camera.realtime for camera in worker.cameras
    )
