"""What the worker is told of one camera: where its pictures come from, and which of them are looked at when."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator

from almenara.alarms.rule import Rule
from almenara.configuration.values import (
    Number,
    OptionalDuration,
    Part,
    PositiveDuration,
    SecretFile,
    matching,
    only_one,
)
from almenara.errors import InputError
from camera_worker.config.alarm import AlarmConfig, EvidenceConfig
from camera_worker.schedule import Schedule, Window, parse_time_zone
from camera_worker.sight import DETECTION
from camera_worker.sources import ReadOptions, Source, SourceKind

DEFAULT_FPS = 2.0
_STALE_SECONDS = 10.0
_STALE_KEY_FRAMES_SECONDS = 90.0

_NAME = matching(
    r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}", "write letters, digits, '.', '_' and '-', at most 80, a letter or digit first"
)
_MODEL = matching(
    r"[a-z0-9][a-z0-9_-]{0,79}", "write small letters, digits, '_' and '-', at most 80, a letter or digit first"
)

Relative = Annotated[Number, Field(ge=0, le=1)]
Polygon = Annotated[tuple[tuple[Relative, Relative], ...], Field(min_length=3, max_length=100)]
"""Corners as x, y relative to the whole picture."""


def _checked_zone(name: str) -> str:
    parse_time_zone(name)
    return name


def _checked_window(text: str) -> str:
    Window.parse(text)
    return text


class RegionConfig(Part):
    """The part of the picture that is looked at, relative to it: 0 is its left or upper edge, 1 its right or lower."""

    x: Number = Field(ge=0, lt=1, title="Left edge", description="of the picture's width")
    y: Number = Field(ge=0, lt=1, title="Upper edge", description="of the picture's height")
    width: Number = Field(ge=0.01, le=1, title="Width", description="of the picture's width")
    height: Number = Field(ge=0.01, le=1, title="Height", description="of the picture's height")

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if self.x + self.width > 1 + 1e-9 or self.y + self.height > 1 + 1e-9:
            raise ValueError("it reaches beyond the picture: x + width and y + height are at most 1")
        return self


class ScheduleConfig(Part):
    """When a camera is watched; outside of it the worker is not connected to it."""

    time_zone: Annotated[str, AfterValidator(_checked_zone)] = Field(
        default="UTC", title="Time zone", description="IANA name, such as Europe/Madrid"
    )
    active: tuple[Annotated[str, AfterValidator(_checked_window)], ...] = Field(
        min_length=1,
        max_length=100,
        title="Windows",
        description="such as `mon-fri 06:00-22:00`; may run past midnight",
    )


class CameraConfig(Part):
    """One camera."""

    name: Annotated[str, _NAME] = Field(title="Name", description="source of its alarms: letters, digits, `._-`")
    source: SecretStr = Field(
        title="Source", description="rtsp:// or http:// URL, path of a video file, or number of a webcam"
    )
    username: str | None = Field(default=None, title="User", description="of the camera; any characters")
    password_file: SecretFile | None = Field(
        default=None, title="Password file", description="holds the password as its only line, instead of `password`"
    )
    password: SecretStr | None = Field(
        default=None, validate_default=True, title="Password", description="of the camera; any characters"
    )
    model: Annotated[str, _MODEL] = Field(
        default="sludge-outflow",
        title="Model",
        description="registered model that scores its pictures: small letters, digits, `_-`",
    )
    fps: Number | None = Field(
        default=None,
        gt=0,
        le=60,
        title="Pictures a second",
        description="how many are scored; 2 by default, and every one of a video file without `realtime`",
    )
    realtime: bool = Field(
        default=False, title="Real time", description="plays a video file at its own speed, as a camera would send it"
    )
    transport: Literal["tcp", "udp"] = Field(
        default="tcp", title="Transport", description="of rtsp://; `udp` loses pictures where the network loses packets"
    )
    frames: Literal["all", "keyframes"] = Field(
        default="all", title="Frames", description="`keyframes` decodes only those, for little work and few pictures"
    )
    region: RegionConfig | None = Field(default=None, title="Region", description="the only part that is looked at")
    mask: tuple[Polygon, ...] = Field(
        default=(), max_length=32, title="Mask", description="polygons that are never looked at"
    )
    schedule: ScheduleConfig | None = Field(
        default=None, title="Schedule", description="when the camera is watched; always without it"
    )
    frozen_after: OptionalDuration = Field(
        default=8.0,
        gt=0,
        title="Frozen after",
        description="the same picture for so long is a fault; `off` for a still, noise-free scene",
    )
    connect_timeout: PositiveDuration = Field(
        default=3.0, le=60, title="Connect timeout", description="patience until a connection stands"
    )
    read_timeout: PositiveDuration = Field(
        default=3.0, le=60, title="Read timeout", description="without a picture for so long the camera is offline"
    )
    unauthorised_retry: PositiveDuration = Field(
        default=60.0,
        title="Retry when unauthorised",
        description="pause after refused credentials, so that no camera locks the worker out",
    )
    evidence: EvidenceConfig = Field(
        default=EvidenceConfig(), title="Evidence", description="what an alarm shows beside its picture"
    )
    alarm: AlarmConfig = Field(default=AlarmConfig(), title="Alarm", description="when its verdicts become an alarm")

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name == DETECTION:
            raise ValueError(f"the alarm of missing verdicts is called {name}: take another")
        return name

    @field_validator("source", mode="before")
    @classmethod
    def _webcam_number(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("source")
    @classmethod
    def _is_source(cls, source: SecretStr) -> SecretStr:
        try:
            Source.parse(source.get_secret_value())
        except InputError as error:
            raise ValueError(str(error)) from None
        return source

    @field_validator("username")
    @classmethod
    def _needs_user(cls, username: str | None, info: ValidationInfo) -> str | None:
        if username is not None and _kind(info) in {SourceKind.FILE, SourceKind.WEBCAM}:
            raise ValueError("a video file or webcam asks for no user: drop it")
        return username

    @field_validator("password")
    @classmethod
    def _one_password(cls, password: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        password = only_one(password, info.data.get("password_file"), "password")
        if password is not None and info.data.get("username", "") is None:
            raise ValueError("'username' is missing beside it")
        return password

    @field_validator("realtime")
    @classmethod
    def _plays_file(cls, realtime: bool, info: ValidationInfo) -> bool:
        if realtime and _kind(info) not in {SourceKind.FILE, None}:
            raise ValueError("only a video file can be played in real time; a camera is always")
        return realtime

    @field_validator("transport")
    @classmethod
    def _has_transport(cls, transport: str, info: ValidationInfo) -> str:
        if transport == "udp" and _kind(info) and not _address(info).lower().startswith("rtsp://"):
            raise ValueError("udp is for rtsp:// sources only")
        return transport

    @field_validator("frames")
    @classmethod
    def _has_keyframes(cls, frames: str, info: ValidationInfo) -> str:
        if frames == "keyframes" and _kind(info) in {SourceKind.WEBCAM, SourceKind.HTTP}:
            raise ValueError("this source has no key frames: each of its pictures stands alone")
        return frames

    @field_validator("schedule")
    @classmethod
    def _is_camera(cls, schedule: ScheduleConfig | None, info: ValidationInfo) -> ScheduleConfig | None:
        if schedule is not None and _kind(info) is SourceKind.FILE:
            raise ValueError("a video file has no hours: it is read when the worker starts")
        return schedule

    @field_validator("frozen_after")
    @classmethod
    def _can_tell_frozen(cls, frozen_after: float | None, info: ValidationInfo) -> float | None:
        if "fps" in info.data:
            check_frozen_after(frozen_after, info.data["fps"])
        return frozen_after

    def parsed_source(self) -> Source:
        """The source with its credentials; InputError as `Source.parse`."""
        password = self.password.get_secret_value() if self.password else None
        return Source.parse(self.source.get_secret_value(), username=self.username, password=password)

    def parsed_schedule(self) -> Schedule | None:
        """When the camera is watched; None is always."""
        return Schedule.parse(self.schedule.time_zone, self.schedule.active) if self.schedule else None

    def rule(self) -> Rule:
        """When its verdicts become an alarm.

        A camera that gives neither verdict nor reason for 10 s, or for longer where its pictures are far apart, is
        unknown; a video file is not, since its time passes only while it is read.
        """
        if self.parsed_source().kind is SourceKind.FILE and not self.realtime:
            return self.alarm.rule()
        apart = _STALE_KEY_FRAMES_SECONDS if self.frames == "keyframes" else 3 / (self.fps or DEFAULT_FPS)
        return self.alarm.rule(max(_STALE_SECONDS, 2 * self.read_timeout, apart))

    def read_options(self) -> ReadOptions:
        """How the source is read; snapshots at least twice within `read_timeout`, so that one may be lost.

        Pictures that stand alone are decoded twice as often as they are scored, so that a fresh one is there in time.
        """
        interval = min(1 / (self.fps or DEFAULT_FPS), self.read_timeout / 2)
        return ReadOptions(
            connect=self.connect_timeout,
            read=self.read_timeout,
            unauthorised=self.unauthorised_retry,
            transport=self.transport,
            keyframes_only=self.frames == "keyframes",
            interval=interval,
            decode_every=interval / 2,
        )


def check_frozen_after(frozen_after: float | None, fps: float | None) -> None:
    """Refuses, with a ValueError, a `frozen_after` in which less than two pictures are scored."""
    between = 1 / (fps or DEFAULT_FPS)
    if frozen_after is not None and frozen_after < between:
        raise ValueError(f"pictures are {between:g}s apart at this fps: give at least that, or off")


def _address(info: ValidationInfo) -> str:
    """The source as it was written; empty when it was refused, which is told at its own line."""
    source = info.data.get("source")
    return source.get_secret_value() if isinstance(source, SecretStr) else ""


def _kind(info: ValidationInfo) -> SourceKind | None:
    address = _address(info)
    return Source.parse(address).kind if address else None
