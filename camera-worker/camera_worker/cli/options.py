"""The configuration that the command line makes: of a file, of options alone, or of a file with options over it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import SecretStr, ValidationError

from almenara.errors import InputError
from almenara.redaction import redact_address
from camera_worker.config import (
    AlarmConfig,
    CameraConfig,
    StatusConfig,
    WorkerConfig,
    check_frozen_after,
    load_config,
    parse_api_url,
)
from camera_worker.sharding import Shard

logger = logging.getLogger(__name__)

PASSWORD_VARIABLE = "CAMERA_PASSWORD"  # noqa: S105 - the variable's name

_NAMED = {"frames": "--keyframes", "password": PASSWORD_VARIABLE}
_SEE_HELP = "See camera-worker --help."


@dataclass(frozen=True)
class Options:
    """What was said on the command line; None is unsaid. The fields are those of the options of the same names."""

    source: str | None = None
    config: Path | None = None
    name: str | None = None
    username: str | None = None
    transport: Literal["tcp", "udp"] | None = None
    keyframes: bool = False
    realtime: bool = False
    model: str | None = None
    fps: float | None = None
    threshold: float | None = None
    alerts: bool | None = None
    var_dir: Path | None = None
    api_url: str | None = None
    status_port: int | None = None
    shard: str | None = None


def configure(options: Options, environment: Mapping[str, str] = os.environ) -> WorkerConfig:
    """The configuration that `options` ask for; the file is read anew each time. It may be left without a camera.

    `model`, `fps` and `threshold` go before what the file says of each camera, `source` before all of its cameras.
    Raises InputError as `load_config`, and `option-invalid`, `option-misplaced` or `source-missing` in one sentence.
    """
    _check_places(options)
    said = {"model": options.model, "fps": options.fps}
    given = {field: value for field, value in said.items() if value is not None}
    shown = _camera(options, given, environment)
    worker = load_config(options.config, environment) if options.config else WorkerConfig(cameras=(shown,))
    cameras = (shown,) if options.source else worker.cameras
    if options.shard:
        cameras = _owned(cameras, options.shard)
    url = _api_url(options.api_url) if options.api_url else worker.api.url or _api_url_of(environment)
    return worker.model_copy(
        update={
            "cameras": tuple(_changed(camera, given, options.threshold) for camera in cameras),
            "alerts": (bool(options.config) and worker.alerts) if options.alerts is None else options.alerts,
            "api": worker.api.model_copy(update={"url": url}) if url else worker.api,
            "var_dir": options.var_dir or worker.var_dir,
            "name": _worker_name(worker.name, options.shard),
            "status": _status(worker.status, options.status_port),
        }
    )


def _check_places(options: Options) -> None:
    if options.config is None and options.source is None:
        raise InputError("source-missing", "No camera is named.", "Say --source URL or --config FILE.")
    if options.shard and (options.source or not options.config):
        fact = "--shard shares out the cameras of a configuration file."
        raise InputError("option-misplaced", fact, "Say it with --config FILE and without --source.")
    of_source = ("name", "username", "transport", "keyframes", "realtime")
    misplaced = [option for option in of_source if getattr(options, option)]
    if misplaced and not options.source:
        fact = f"--{misplaced[0]} describes the camera of --source, and there is none."
        raise InputError("option-misplaced", fact, f"Set it for a camera in {options.config}.")


def _camera(options: Options, given: dict[str, Any], environment: Mapping[str, str]) -> CameraConfig:
    """The camera of --source; without one, a stand-in that has the options of every camera checked."""
    said = {"name": options.name or "camera", "source": options.source or "0", **given}
    if options.username is not None:
        if PASSWORD_VARIABLE not in environment:
            fact = f"--username is given, and the environment has no variable {PASSWORD_VARIABLE}."
            raise InputError("option-invalid", fact, "Set it to the camera's password, or to nothing.")
        said |= {"username": options.username, "password": SecretStr(environment[PASSWORD_VARIABLE])}
    if options.transport:
        said["transport"] = options.transport
    if options.keyframes:
        said["frames"] = "keyframes"
    if options.realtime:
        said["realtime"] = True
    try:
        return CameraConfig.model_validate(said)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = str(first["loc"][0])
        reason = first["msg"].removeprefix("Value error, ").rstrip(".")
        fact = f"{_NAMED.get(field, f'--{field}')} cannot be used: {reason}."
        raise InputError("option-invalid", fact, _SEE_HELP) from None


def _owned(cameras: tuple[CameraConfig, ...], text: str) -> tuple[CameraConfig, ...]:
    try:
        shard = Shard.parse(text)
    except ValueError as error:
        raise InputError("option-invalid", f"--shard cannot be used: {error}.", _SEE_HELP) from None
    owned = tuple(camera for camera in cameras if shard.owns(camera.name))
    if owned:
        logger.info("shard %s watches %d of %d cameras: %s", shard, len(owned), len(cameras), _names(owned))
    else:
        logger.warning("shard %s has none of the %d cameras; it waits for a reload (SIGHUP)", shard, len(cameras))
    return owned


def _worker_name(name: str, shard: str | None) -> str:
    """Workers that share a file are told apart by the number of their shard."""
    return f"{name}-{Shard.parse(shard).index}" if shard else name


def _names(cameras: tuple[CameraConfig, ...]) -> str:
    return ", ".join(camera.name for camera in cameras)


def _changed(camera: CameraConfig, given: dict[str, Any], threshold: float | None) -> CameraConfig:
    alarm = _with_threshold(camera.alarm, threshold) if threshold else camera.alarm
    changed = camera.model_copy(update={**given, "alarm": alarm})
    if "frozen_after" in camera.model_fields_set:
        try:
            check_frozen_after(changed.frozen_after, changed.fps)
        except ValueError as error:
            fact = f"--fps cannot be used: with frozen_after of {camera.name}, {error}."
            raise InputError("option-invalid", fact, _SEE_HELP) from None
    return changed


def _with_threshold(alarm: AlarmConfig, threshold: float) -> AlarmConfig:
    return alarm.model_copy(update={"threshold": threshold, "deadband": min(alarm.deadband, threshold / 2)})


def _api_url_of(environment: Mapping[str, str]) -> str | None:
    url = environment.get("ALMENARA_API_URL")
    return _api_url(url) if url else None


def _api_url(text: str) -> str:
    try:
        return parse_api_url(text)
    except ValueError:
        remedy = "Give one such as http://127.0.0.1:8000."
        raise InputError("api-url", f"{redact_address(text)!r} is no address of an API.", remedy) from None


def _status(status: StatusConfig | None, port: int | None) -> StatusConfig | None:
    if port is None:
        return status
    return status.model_copy(update={"port": port}) if status else StatusConfig(port=port)
