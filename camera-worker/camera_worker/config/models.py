"""What the worker can be told: the API, its own status address, its cameras; strict and immutable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from almenara.configuration.values import Part, PositiveDuration, SecretFile, WholeNumber, only_one, parse_api_url
from camera_worker.config.camera import CameraConfig


class ApiConfig(Part):
    """Where verdicts come from."""

    url: Annotated[str, AfterValidator(parse_api_url)] | None = Field(
        default=None,
        title="Address",
        description="of the API, such as `http://127.0.0.1:8000`; else ALMENARA_API_HOST and ALMENARA_API_PORT",
    )
    key_file: SecretFile | None = Field(
        default=None, title="Key file", description="holds the key as its only line, instead of `key`"
    )
    key: SecretStr | None = Field(
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

    api: ApiConfig = Field(default=ApiConfig(), title="API", description="where verdicts come from")
    status: StatusConfig | None = Field(
        default=None, title="Status", description="addresses that tell how the worker is; none without it"
    )
    blind_after: PositiveDuration = Field(
        default=30.0, le=3600, title="Blind after", description="blindness that lasts so long is an alarm"
    )
    alerts: bool = Field(default=True, title="Alerts", description="raises alarms; `false` only scores")
    var_dir: Path | None = Field(
        default=None, title="Folder", description="of alarm database, alarm log and evidence; else ALMENARA_VAR_DIR"
    )
    cameras: tuple[CameraConfig, ...] = Field(
        min_length=1, max_length=1000, title="Cameras", description="at least one"
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
