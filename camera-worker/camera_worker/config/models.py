"""What the worker can be told: one strict, immutable model a topic."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from almenara.alarms import Priority, Rule
from camera_worker.config.values import Duration, OptionalDuration, Part, PositiveDuration
from camera_worker.sources import Source

DEFAULT_FPS = 2.0
API_URL = re.compile(r"https?://\S+")


class ApiConfig(Part):
    """Where verdicts come from."""

    url: str | None = Field(default=None, pattern=rf"^{API_URL.pattern}$", description="address of the API")
    key: SecretStr | None = Field(default=None, description="sent as X-API-Key")
    timeout: PositiveDuration = Field(default=5.0, description="of one request")


class AlarmConfig(Part):
    """When a camera's verdicts become an alarm."""

    threshold: float = Field(default=0.5, gt=0, le=1, description="anomaly, 0-1; .5 is the model's threshold")
    deadband: float = Field(default=0.05, ge=0, lt=1)
    on_delay: Duration = 2.0
    off_delay: Duration = 5.0
    cooldown: Duration = 60.0
    priority: Priority = "high"

    @model_validator(mode="after")
    def _can_return(self) -> Self:
        self.rule()
        return self

    def rule(self) -> Rule:
        """The same, as the alarm engine takes it."""
        return Rule(
            threshold=self.threshold,
            deadband=self.deadband,
            on_delay_seconds=self.on_delay,
            off_delay_seconds=self.off_delay,
            cooldown_seconds=self.cooldown,
            priority=self.priority,
        )


class RegionConfig(Part):
    """The part of the picture that is looked at, relative to it: 0 is its left or upper edge, 1 its right or lower."""

    x: float = Field(ge=0, lt=1)
    y: float = Field(ge=0, lt=1)
    width: float = Field(gt=0, le=1)
    height: float = Field(gt=0, le=1)

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if self.x + self.width > 1 or self.y + self.height > 1:
            raise ValueError("the region reaches beyond the picture: x + width and y + height are at most 1")
        return self


Relative = Annotated[float, Field(ge=0, le=1)]
Polygon = Annotated[tuple[tuple[Relative, Relative], ...], Field(min_length=3, max_length=100)]
"""Corners as x, y relative to the whole picture."""


class EvidenceConfig(Part):
    """What an alarm shows beside the picture that raised it."""

    before: Duration = Field(default=5.0, le=60, description="seconds before the alarm in the strip of pictures")
    after: Duration = Field(default=5.0, le=60, description="seconds after it")


class ScheduleConfig(Part):
    """When a camera is watched; outside of it the worker is not connected to it."""

    time_zone: str = Field(default="UTC", description="IANA name, such as Europe/Madrid")
    active: tuple[str, ...] = Field(min_length=1, description="such as `mon-fri 06:00-22:00`; may run past midnight")


class CameraConfig(Part):
    """One camera."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$", description="source of its alarms")
    source: SecretStr = Field(description="rtsp:// or http:// URL, video file, or number of a webcam")
    username: str | None = Field(default=None, description="of the camera; any characters")
    password: SecretStr | None = Field(default=None, description="of the camera; any characters")
    model: str = Field(default="sludge-outflow", pattern=r"^[a-z0-9][a-z0-9_-]{0,79}$")
    fps: float | None = Field(
        default=None, gt=0, le=60, description="pictures scored a second; 2 by default, every one of a video file"
    )
    realtime: bool = Field(default=False, description="plays a video file at its own speed, as a camera would send it")
    transport: Literal["tcp", "udp"] = Field(default="tcp", description="of RTSP")
    frames: Literal["all", "keyframes"] = Field(default="all", description="which pictures are decoded")
    region: RegionConfig | None = Field(default=None, description="the only part that is looked at")
    mask: tuple[Polygon, ...] = Field(default=(), max_length=32, description="parts that are never looked at")
    schedule: ScheduleConfig | None = None
    evidence: EvidenceConfig = EvidenceConfig()
    frozen_after: OptionalDuration = Field(default=8.0, description="`off` for a still, noise-free scene")
    connect_timeout: PositiveDuration = 3.0
    read_timeout: PositiveDuration = 3.0
    unauthorised_retry: PositiveDuration = Field(
        default=60.0, description="pause after refused credentials, so that no camera locks the worker out"
    )
    alarm: AlarmConfig = AlarmConfig()

    @field_validator("source", mode="before")
    @classmethod
    def _webcam_number(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    def parsed_source(self) -> Source:
        """The source with its credentials; InputError as `Source.parse`."""
        password = self.password.get_secret_value() if self.password else None
        return Source.parse(self.source.get_secret_value(), username=self.username, password=password)


class StatusConfig(Part):
    """Where the worker tells how it is: /healthz, /readyz, /metrics and /cameras."""

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(ge=0, le=65535)


class WorkerConfig(Part):
    """The whole worker."""

    api: ApiConfig = ApiConfig()
    status: StatusConfig | None = Field(default=None, description="no server without it")
    blind_after: PositiveDuration = Field(default=30.0, description="blindness that lasts so long is an alarm")
    alerts: bool = Field(default=True, description="raise alarms; otherwise verdicts are only logged")
    var_dir: Path | None = Field(default=None, description="alarm database, alarm log and evidence")
    cameras: tuple[CameraConfig, ...] = Field(min_length=1)

    @field_validator("cameras")
    @classmethod
    def _distinct(cls, cameras: tuple[CameraConfig, ...]) -> tuple[CameraConfig, ...]:
        names = [camera.name for camera in cameras]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two cameras are named {', '.join(twice)}; alarms could not be told apart")
        return cameras
