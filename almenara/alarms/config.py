"""The file alarms.yaml: who is told of alarms, in which language, the heartbeat, and how long evidence is kept."""

from __future__ import annotations

import os
import re
import zoneinfo
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, SecretStr, field_validator
from pydantic_core import PydanticCustomError

from almenara.alarms.vocabulary import Priority
from almenara.configuration import loading
from almenara.configuration.values import Duration, OptionalDuration, Part, PositiveDuration, WholeNumber, matching
from almenara.configuration.values import parse_api_url as parse_web_address

LOG = "log"
"""The channel that is always there."""

_REMEDY = "Write one as docs/alarms.md shows, or leave ALMENARA_ALARMS_FILE unset."
_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(MB|GB|TB)")
_BYTES = {"MB": 1e6, "GB": 1e9, "TB": 1e12}

Language = Literal["en", "es"]
WebAddress = Annotated[str, AfterValidator(parse_web_address)]


def parse_size(value: object) -> int:
    """Bytes of a size such as ``500MB`` or ``20GB`` (powers of ten); ValueError for anything else."""
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is no size: write a number with its unit, such as 500MB or 20GB")
    return round(float(match[1]) * _BYTES[match[2]])


def _checked_zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone: write an IANA name such as Europe/Madrid") from None
    return name


def _checked_endpoint(endpoint: SecretStr) -> SecretStr:
    if not re.fullmatch(r"opc\.tcp://\S+", endpoint.get_secret_value()):
        raise ValueError("write an address such as opc.tcp://127.0.0.1:4840/almenara")
    return endpoint


class RatePart(Part):
    """How many messages people can take."""

    limit: WholeNumber = Field(default=10, ge=1, le=1000, title="Limit", description="messages within `window`")
    window: PositiveDuration = Field(
        default=600.0, le=86400, title="Window", description="what comes beyond the limit goes into one digest"
    )


class ChannelPart(Part):
    """What every channel has."""

    name: Annotated[
        str, matching(r"[a-z0-9][a-z0-9_-]{0,39}", "write small letters, digits, '_' and '-', at most 40")
    ] = Field(title="Name", description="of the channel, for `test-channel` and alarms about it; small letters, digits")
    type: Literal["apprise", "mqtt", "alertmanager", "opcua"] = Field(title="Type", description="how it tells")
    at_least: Priority = Field(
        default="low", title="Least priority", description="what is less urgent is not told here"
    )

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name == LOG:
            raise ValueError(f"'{LOG}' is the channel that is always there; take another name")
        return name


class ApprisePart(ChannelPart):
    """E-mail, SMS, push or webhook, by Apprise."""

    type: Literal["apprise"] = Field(title="Type", description="how it tells")
    url: SecretStr = Field(title="Address", description="of Apprise, such as `mailtos://…`, `ntfys://…`, `jsons://…`")
    language: Language | None = Field(default=None, title="Language", description="of its messages; else the file's")
    rate: RatePart = Field(default=RatePart(), title="Rate", description="how many messages people can take")
    group_wait: Duration = Field(
        default=0.0, le=3600, title="Group wait", description="a message waits so long for others to go with it"
    )
    attach: bool = Field(default=True, title="Attach", description="pictures where the service can; else links")


class MqttPart(ChannelPart):
    """A broker: JSON, QoS 1, retained state."""

    type: Literal["mqtt"] = Field(title="Type", description="how it tells")
    url: SecretStr = Field(title="Address", description="of the broker, such as `mqtts://user:password@broker:8883`")
    topic: Annotated[
        str,
        matching(r"[^+#$%/\x00\s][^+#%\x00]{0,99}", "write a topic without '+', '#', '%', at most 100 characters"),
    ] = Field(default="almenara", title="Topic", description="that all others begin with")


class AlertmanagerPart(ChannelPart):
    """Prometheus Alertmanager."""

    type: Literal["alertmanager"] = Field(title="Type", description="how it tells")
    url: SecretStr = Field(title="Address", description="of Alertmanager, such as `http://alertmanager:9093`")


class OpcUaPart(ChannelPart):
    """An OPC UA server of our own with alarms and conditions."""

    type: Literal["opcua"] = Field(title="Type", description="how it tells")
    endpoint: Annotated[SecretStr, AfterValidator(_checked_endpoint)] = Field(
        title="Endpoint", description="that clients connect to, such as `opc.tcp://127.0.0.1:4840/almenara`"
    )


AnyPart = ApprisePart | MqttPart | AlertmanagerPart | OpcUaPart
CHANNEL_PARTS: Mapping[str, type[AnyPart]] = {
    "apprise": ApprisePart,
    "mqtt": MqttPart,
    "alertmanager": AlertmanagerPart,
    "opcua": OpcUaPart,
}


def _channel(value: Any) -> AnyPart:
    """The part of the type that it names; its mistakes keep their place, which a union of models would lose."""
    if isinstance(value, Part):
        return value  # type: ignore[return-value]
    if not isinstance(value, Mapping):
        raise ValueError("write settings, one a line, as 'name: value'")  # noqa: TRY004 - pydantic takes ValueError
    part = CHANNEL_PARTS.get(str(value.get("type")))
    if part is None:
        message = f"write one of {', '.join(CHANNEL_PARTS)}"
        raise PydanticCustomError("channel_type", "{message}", {"message": message, "within": ("type",)})
    return part.model_validate(value)


class HeartbeatPart(Part):
    """What an outside watcher listens to."""

    url: SecretStr = Field(title="Address", description="`http(s)://…` that is called, or `mqtt(s)://broker/topic`")
    every: PositiveDuration = Field(default=60.0, ge=1, le=3600, title="Every", description="time between two beats")


class EvidencePart(Part):
    """Where evidence lies, and how long."""

    url: (
        Annotated[str, matching(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/\S*)?", "write s3://BUCKET/PREFIX")] | None
    ) = Field(default=None, title="Address", description="`s3://BUCKET/PREFIX` of object storage; else a local folder")
    endpoint: WebAddress | None = Field(
        default=None, title="Endpoint", description="of the object storage, such as `http://minio:9000`"
    )
    keep: OptionalDuration = Field(
        default=90 * 86400.0, ge=3600, title="Keep", description="what is older goes, except of alarms that stand"
    )
    at_most: Annotated[int, BeforeValidator(parse_size)] = Field(
        default=20 * 10**9, ge=10**6, title="At most", description="size of all evidence; beyond it the oldest goes"
    )

    @field_validator("endpoint")
    @classmethod
    def _has_bucket(cls, endpoint: str | None, info: Any) -> str | None:
        if endpoint is not None and "url" in info.data and info.data["url"] is None:
            raise ValueError("an endpoint needs the 'url' of a bucket")
        return endpoint


class AlarmsConfig(Part):
    """The whole file."""

    language: Language = Field(default="en", title="Language", description="of messages")
    time_zone: Annotated[str, AfterValidator(_checked_zone)] = Field(
        default="UTC", title="Time zone", description="of times in messages: an IANA name, such as Europe/Madrid"
    )
    link: WebAddress | None = Field(
        default=None, title="Link", description="public address of the API, for links in messages; none without it"
    )
    channels: tuple[Annotated[AnyPart, PlainValidator(_channel)], ...] = Field(
        default=(), max_length=50, title="Channels", description="beside the log, which is always there"
    )
    heartbeat: HeartbeatPart | None = Field(
        default=None, title="Heartbeat", description="goes out only while every camera is scored and messages arrive"
    )
    evidence: EvidencePart = Field(default=EvidencePart(), title="Evidence", description="where it lies, and how long")

    @field_validator("channels")
    @classmethod
    def _distinct(cls, channels: tuple[AnyPart, ...]) -> tuple[AnyPart, ...]:
        names: set[str] = set()
        for entry, channel in enumerate(channels):
            if channel.name in names:
                message = f"two channels are named {channel.name}"
                raise PydanticCustomError("channel_twice", "{message}", {"message": message, "within": (entry, "name")})
            names.add(channel.name)
        return channels


def load_alarms_config(path: Path | None, environment: Mapping[str, str] = os.environ) -> AlarmsConfig:
    """The file, or the defaults without one; raises as `almenara.configuration.loading.load_config`."""
    if path is None:
        return AlarmsConfig()
    return loading.load_config(path, AlarmsConfig, remedy=_REMEDY, environment=environment)
