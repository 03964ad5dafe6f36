"""`camera-worker simulate`: be a camera."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated

import typer

from almenara.errors import InputError
from camera_worker.cli.common import log_to_stderr
from camera_worker.simulator import SimulatedCamera
from camera_worker.simulator.login import LoginScheme
from camera_worker.simulator.scenes import SCENES_HELP, parse_scene
from camera_worker.supervisor import ending_signals

_LOOPBACK = {"127.0.0.1", "localhost"}


def simulate(
    port: Annotated[int, typer.Option(min=0, max=65535, help="RTSP port; 0 takes a free one.")] = 8554,
    control_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port that faults are switched on.", show_default=False)
    ] = None,
    http_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of /mjpeg and /snapshot.jpg.", show_default=False)
    ] = None,
    width: Annotated[int, typer.Option(min=16, max=4096, help="Pixels, even.")] = 640,
    height: Annotated[int, typer.Option(min=16, max=4096, help="Pixels, even.")] = 480,
    fps: Annotated[int, typer.Option(min=1, max=60, help="Pictures a second.")] = 15,
    host: Annotated[str, typer.Option(help="Address to listen on; off loopback a password is needed.")] = "127.0.0.1",
    scene: Annotated[str, typer.Option(help=f"One of {SCENES_HELP}.")] = "sludge",
    seed: Annotated[int, typer.Option(help="Of the rendered scene.")] = 7,
    anomaly_every: Annotated[float, typer.Option(help="Seconds between anomalies; 0 for none.")] = 60.0,
    anomaly_for: Annotated[float, typer.Option(help="Seconds that an anomaly lasts.")] = 15.0,
    keyframe_interval: Annotated[float, typer.Option(min=0.01, max=600, help="Seconds between key frames.")] = 2.0,
    keyframe_on_play: Annotated[
        bool, typer.Option(help="Begin with a key frame; cheap cameras let a viewer wait for the next.")
    ] = True,
    loop: Annotated[
        float | None,
        typer.Option(min=0.1, max=60, help="Encode so many seconds once and repeat them.", show_default=False),
    ] = None,
    user: Annotated[str | None, typer.Option(help="User that viewers need.", show_default=False)] = None,
    password: Annotated[
        str | None, typer.Option(envvar="SIMULATED_CAMERA_PASSWORD", help="Its password.", show_default=False)
    ] = None,
    login: Annotated[LoginScheme, typer.Option(help="How viewers are asked for it.")] = "digest",
) -> None:
    """Be a camera: a real RTSP and HTTP server whose faults are switched at run time.

    Example: camera-worker simulate --port 8554 --control-port 8555

    then: camera-worker fault stall --port 8555
    """
    log_to_stderr()
    if width % 2 or height % 2:
        raise InputError("size-odd", f"{width}x{height} cannot be encoded.", "Give an even width and height.")
    if password and user is None:
        remedy = "Give --user, or drop --password and SIMULATED_CAMERA_PASSWORD."
        raise InputError("user-missing", "A password without a user protects nothing.", remedy)
    if host not in _LOOPBACK and not password:
        remedy = "Give --user and SIMULATED_CAMERA_PASSWORD, or drop --host."
        raise InputError("password-missing", f"Whoever reaches {host} would see the camera.", remedy)
    pictures = parse_scene(
        scene, width=width, height=height, seed=seed, anomaly_every=anomaly_every, anomaly_for=anomaly_for
    )
    camera = SimulatedCamera(
        pictures,
        width=width,
        height=height,
        fps=fps,
        host=host,
        user=user,
        password=password,
        login=login,
        keyframe_interval=keyframe_interval,
        keyframe_on_play=keyframe_on_play,
        loop=loop,
    )
    asyncio.run(_simulate(camera, port, control_port, http_port))


async def _simulate(camera: SimulatedCamera, port: int, control_port: int | None, http_port: int | None) -> None:
    await camera.start(port, control_port, http_port)
    stop = asyncio.Event()
    with ending_signals(stop.set):
        if control_port is not None:
            logging.getLogger(__name__).info("faults are switched on 127.0.0.1:%d", camera.control_port)
        urls = [camera.url] if http_port is None else [camera.url, camera.mjpeg_url, camera.snapshot_url]
        typer.echo(" ".join(["ready", *urls]))
        ends = {asyncio.create_task(camera.finished()), asyncio.create_task(stop.wait())}
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    await camera.stop()
    for task in done:
        task.result()
