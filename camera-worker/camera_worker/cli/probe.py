"""`camera-worker probe`: what a camera delivers, and what to change on it."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Literal

import typer

from camera_worker.probe import ProbeReport
from camera_worker.probe import probe as watch_source
from camera_worker.sources import ReadOptions, Source

_WELL = "Nothing to change."


def probe(
    source: Annotated[str, typer.Argument(help="rtsp:// or http:// URL, video file, or number of a webcam.")],
    username: Annotated[str | None, typer.Option(help="Of the camera; any characters.", show_default=False)] = None,
    password: Annotated[
        str | None,
        typer.Option(envvar="CAMERA_PASSWORD", help="Of the camera; the variable keeps it unseen.", show_default=False),
    ] = None,
    transport: Annotated[Literal["tcp", "udp"], typer.Option(help="Of RTSP.")] = "tcp",
    seconds: Annotated[float, typer.Option(min=0.5, max=600, help="How long to watch.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Watch a source for some seconds: what it delivers, what it costs, what to change on the camera.

    Example: CAMERA_PASSWORD=... camera-worker probe rtsp://10.0.0.7/stream --username plant.op
    """
    # A password that is only in the environment is not meant for a source without a user.
    parsed = Source.parse(source, username=username, password=password if username is not None else None)
    report = watch_source(parsed, ReadOptions(transport=transport), seconds=seconds)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(report), ensure_ascii=False))
        return
    for name, value in _lines(report):
        typer.echo(f"{name + ':':<22}{value}")
    typer.echo("")
    well = "Nothing to change: how many pictures a second come is up to whoever asks." if report.polled else _WELL
    for sentence in report.advice or (well,):
        typer.echo(f"- {sentence}")


def _lines(report: ProbeReport) -> list[tuple[str, str]]:
    total = report.pictures + report.damaged
    return [
        ("source", report.source),
        ("delivery", report.delivery),
        ("codec", f"{report.codec} {report.profile or ''}".strip() + (", B-frames" if report.b_frames else "")),
        ("size", f"{report.width}x{report.height}"),
        ("pictures a second", _rate(report)),
        ("key frame interval", _figure(report.keyframe_interval, ".2f", " s")),
        ("bit rate", _figure(report.bit_rate and report.bit_rate / 1e6, ".2f", " Mbit/s")),
        ("first picture", f"after {report.first_picture:.2f} s"),
        ("latency", "cannot be told: the stream does not say when a picture was taken"),
        ("longest gap", _figure(report.longest_gap, ".2f", " s")),
        ("damaged", f"{report.damaged} of {total} pictures ({report.damaged_share:.1%})"),
        ("decoding", _figure(report.decode_ms, ".2f", " ms a picture")),
        ("cameras a core", f"{_figure(report.cameras_per_core, '.0f')}, decoding alone"),
    ]


def _rate(report: ProbeReport) -> str:
    fps = _figure(report.fps, ".1f")
    return f"{fps}, as the probe asked" if report.polled else f"{fps} (declared: {_figure(report.declared_fps, 'g')})"


def _figure(value: float | None, form: str, unit: str = "") -> str:
    return "not known" if value is None else f"{value:{form}}{unit}"
