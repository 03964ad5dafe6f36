"""The `camera-worker` command: watch cameras, check and make a configuration, simulate a camera."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import av
import typer
from pydantic import ValidationError

from almenara.errors import AlmenaraError, InputError
from almenara.settings import load_settings
from camera_worker.camera import Scored
from camera_worker.config import API_URL, AlarmConfig, CameraConfig, WorkerConfig, load_config
from camera_worker.redaction import RedactingFormatter, redact
from camera_worker.simulator import CONTROL_HELP, SimulatedCamera
from camera_worker.simulator.scenes import parse_scene
from camera_worker.supervisor import Supervisor, ending_signals
from camera_worker.template import TEMPLATE

DEFAULT_CONFIG = Path("cameras.yaml")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=False)


def main() -> None:
    """Entry point: what is refused on purpose is one sentence on stderr and exit code 2.

    Anything else is a traceback without credentials and exit code 1.
    """
    av.logging.set_level(None)
    try:
        app(prog_name="camera-worker")
    except AlmenaraError as error:
        sys.stderr.write(f"camera-worker: {redact(str(error))}\n")
        sys.exit(2)
    except OSError as error:
        where = f"{error.filename or 'The system'}: {error.strerror or error}. Check path, rights and disk."
        sys.stderr.write(f"camera-worker: {redact(where)}\n")
        sys.exit(2)
    except Exception:  # noqa: BLE001 - shown as Python would, but redacted
        sys.stderr.write(redact(traceback.format_exc()))
        sys.exit(1)


@app.callback(invoke_without_command=True)
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
    _log_to_stderr()
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


@app.command()
def validate(file: Annotated[Path, typer.Argument(help="Configuration file (YAML).")]) -> None:
    """Check a configuration file; every mistake is named with its line.

    Example: camera-worker validate cameras.yaml
    """
    worker = load_config(file)
    for camera in worker.cameras:
        typer.echo(f"{camera.name}: {camera.parsed_source().label}, model {camera.model}, {camera.fps:g} a second")
    typer.echo(f"{file} is valid.")


@app.command("create-config")
def create_config(
    file: Annotated[Path, typer.Argument(help="File to write; it must not exist.")] = DEFAULT_CONFIG,
) -> None:
    """Write a commented configuration file.

    Example: camera-worker create-config cameras.yaml
    """
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(TEMPLATE)
    except FileExistsError:
        raise InputError("config-exists", f"{file} is there already.", "Name another file.") from None
    except OSError as error:
        raise InputError("config-unwritable", f"{file} cannot be written: {error.strerror}.") from None
    typer.echo(f"Wrote {file}. Check it with: camera-worker validate {file}")


@app.command(epilog="\n\n".join(filter(None, CONTROL_HELP.splitlines())))
def simulate(
    port: Annotated[int, typer.Option(min=0, max=65535, help="RTSP port; 0 takes a free one.")] = 8554,
    control_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port that faults are switched on.", show_default=False)
    ] = None,
    width: Annotated[int, typer.Option(min=16, max=4096, help="Pixels, even.")] = 640,
    height: Annotated[int, typer.Option(min=16, max=4096, help="Pixels, even.")] = 480,
    fps: Annotated[int, typer.Option(min=1, max=60, help="Pictures a second.")] = 15,
    scene: Annotated[str, typer.Option(help="sludge, or folder:DIR for the pictures of a folder.")] = "sludge",
    seed: Annotated[int, typer.Option(help="Of the rendered scene.")] = 7,
    anomaly_every: Annotated[float, typer.Option(help="Seconds between anomalies; 0 for none.")] = 60.0,
    anomaly_for: Annotated[float, typer.Option(help="Seconds that an anomaly lasts.")] = 15.0,
    user: Annotated[str | None, typer.Option(help="User that viewers need.", show_default=False)] = None,
    password: Annotated[
        str | None, typer.Option(envvar="SIMULATED_CAMERA_PASSWORD", help="Its password.", show_default=False)
    ] = None,
) -> None:
    """Be a camera: a real RTSP server on loopback whose faults are switched at run time.

    Example: camera-worker simulate --port 8554 --control-port 8555

    then: echo stall | nc 127.0.0.1 8555
    """
    _log_to_stderr()
    if width % 2 or height % 2:
        raise InputError("size-odd", f"{width}x{height} cannot be encoded.", "Give an even width and height.")
    pictures = parse_scene(
        scene, width=width, height=height, seed=seed, anomaly_every=anomaly_every, anomaly_for=anomaly_for
    )
    camera = SimulatedCamera(pictures, width=width, height=height, fps=fps, user=user, password=password)
    asyncio.run(_simulate(camera, port, control_port))


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


async def _simulate(camera: SimulatedCamera, port: int, control_port: int | None) -> None:
    await camera.start(port, control_port)
    stop = asyncio.Event()
    with ending_signals(stop.set):
        if control_port is not None:
            logging.getLogger(__name__).info("faults are switched on 127.0.0.1:%d", camera.control_port)
        typer.echo(f"ready {camera.url}")
        ends = {asyncio.create_task(camera.finished()), asyncio.create_task(stop.wait())}
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    await camera.stop()
    for task in done:
        task.result()


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)
