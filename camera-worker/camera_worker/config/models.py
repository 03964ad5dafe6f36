"""What the worker can be told: the API, its own status address, its cameras; strict and immutable."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from almenara.configuration.values import (
    Part,
    PositiveDuration,
    SecretFile,
    WholeNumber,
    matching,
    only_one,
    parse_api_url,
)
from almenara.settings import ApiKey, sendable_key
from camera_worker.config.camera import CameraConfig


def _host_name() -> str:
    """This machine's name, of characters that a worker's name may have."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname()).strip("-._")[:80] or "worker"


class ApiConfig(Part):
    """Where verdicts come from."""

    url: Annotated[str, AfterValidator(parse_api_url)] | None = Field(
        default=None,
        title="Address",
        description="of the API, such as `http://127.0.0.1:8000`; else ALMENARA_API_HOST and ALMENARA_API_PORT",
    )
    key_file: Annotated[SecretFile, AfterValidator(sendable_key)] | None = Field(
        default=None, title="Key file", description="holds the key as its only line, instead of `key`"
    )
    key: ApiKey | None = Field(
        default=None,
        validate_default=True,
        title="Key",
        description="sent to the API as X-API-Key; else ALMENARA_API_KEY",
    )
    timeout: PositiveDuration = Field(default=5.0, le=60, title="Timeout", description="of one request")

    @field_validator("key")
    @classmethod
    def _one_key(cls, key: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        return only_one(key, info.data.get("key_file"), "key")


class StatusConfig(Part):
    """Where the worker tells how it is: /healthz, /readyz, /metrics and /cameras."""

    host: str = Field(
        default="127.0.0.1", min_length=1, title="Host", description="address to listen on; 0.0.0.0 for all"
    )
    port: WholeNumber = Field(ge=0, le=65535, title="Port", description="0 takes a free one")


class WorkerConfig(Part):
    """The whole worker."""

    name: Annotated[
        str, matching(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}", "write letters, digits, '.', '_' and '-', at most 80")
    ] = Field(
        default_factory=_host_name,
        title="Name",
        description="of this worker at the plant-wide record, its own among all; else the host's",
    )
    api: ApiConfig = Field(default=ApiConfig(), title="API", description="where verdicts come from")
    status: StatusConfig | None = Field(
        default=None, title="Status", description="addresses that tell how the worker is; none without it"
    )
    blind_after: PositiveDuration = Field(
        default=30.0, le=3600, title="Blind after", description="blindness that lasts so long is an alarm"
    )
    alerts: bool = Field(default=True, title="Alerts", description="raises alarms; `false` only scores")
    alarms_file: Path | None = Field(
        default=None,
        title="Alarms file",
        description="who is told of alarms; else ALMENARA_ALARMS_FILE, or the log alone",
    )
    forward: bool = Field(
        default=True, title="Forward", description="alarms go to the plant-wide record behind the API too"
    )
    var_dir: Path | None = Field(
        default=None, title="Folder", description="of alarm database, alarm log and evidence; else ALMENARA_VAR_DIR"
    )
    cameras: tuple[CameraConfig, ...] = Field(
        max_length=1000, title="Cameras", description="[] while there is none yet"
    )

    @field_validator("cameras")
    @classmethod
    def _distinct(cls, cameras: tuple[CameraConfig, ...]) -> tuple[CameraConfig, ...]:
        names: set[str] = set()
        for entry, camera in enumerate(cameras):
            if camera.name in names:
                message = f"two cameras are named {camera.name}; alarms could not be told apart"
                raise PydanticCustomError("camera_twice", "{message}", {"message": message, "within": (entry, "name")})
            names.add(camera.name)
        return cameras
