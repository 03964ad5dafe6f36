"""Makes the channels of alarms.yaml; each library is imported only when a channel needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from almenara.alarms.channels.base import Channel, Pace
from almenara.alarms.config import (
    AlarmsConfig,
    AlertmanagerPart,
    AnyPart,
    ApprisePart,
    MqttPart,
    OpcUaPart,
    load_alarms_config,
)
from almenara.alarms.heartbeat import Heartbeat
from almenara.alarms.records import AlarmRecord
from almenara.alarms.vocabulary import PRIORITIES
from almenara.configuration.yaml_lines import Location, parse_yaml
from almenara.errors import ConfigurationError, InputError
from almenara.redaction import redact

if TYPE_CHECKING:
    from almenara.evidence import EvidenceReader


class Desk(Protocol):
    """Where a channel on which people can also answer finds the alarms."""

    def acknowledge(self, alarm_id: str, user: str, comment: str) -> None:
        """Notes that a user has seen an alarm; raises InputError."""
        ...

    def standing(self) -> Iterable[AlarmRecord]:
        """The alarms that stand."""
        ...


def open_channel(
    part: AnyPart,
    *,
    config: AlarmsConfig,
    evidence: EvidenceReader | None = None,
    token: Callable[[str], str] | None = None,
    desk: Desk | None = None,
) -> Channel:
    """A channel as the file describes it; it connects when the first message is sent.

    Args:
        part: of the channel.
        config: the whole file, whose language, time zone and link hold for every channel.
        evidence: reads what is attached; without it pictures are linked.
        token: signs the path of a link.
        desk: for channels that show what stands and take acknowledgements.

    Raises ConfigurationError, with the channel's name, for an address that cannot be used.
    """
    if isinstance(part, ApprisePart):
        return _apprise(part, config, evidence, token)
    try:
        return _for_machines(part, config, token, desk)
    except ConfigurationError as error:
        raise ConfigurationError(f"Channel {part.name}: {error.fact}", error.remedy) from None


def load_checked(path: Path | None) -> AlarmsConfig:
    """The file, or the defaults without one, when its channels and its heartbeat could be opened; nothing connects.

    Raises InputError as `load_alarms_config`; an address that cannot be used is a mistake in the file, too.
    """
    config = load_alarms_config(path)
    if path is None:
        return config
    mistakes: list[tuple[Location, ConfigurationError]] = []
    for index, part in enumerate(config.channels):
        try:
            open_channel(part, config=config).close()
        except ConfigurationError as error:
            mistakes.append((("channels", index, "endpoint" if isinstance(part, OpcUaPart) else "url"), error))
    if beat := config.heartbeat:
        try:
            Heartbeat(beat.url.get_secret_value(), every_seconds=beat.every, healthy=lambda: None)
        except ConfigurationError as error:
            mistakes.append((("heartbeat", "url"), ConfigurationError(f"heartbeat: {error.fact}", error.remedy)))
    if mistakes:
        document = parse_yaml(path.read_text(encoding="utf-8"), str(path))
        lines = [
            f"{path}, line {document.line(place)}: {redact(error.fact)} {error.remedy}".rstrip()
            for place, error in mistakes
        ]
        raise InputError("config-invalid", "\n".join(lines))
    return config


def _for_machines(
    part: MqttPart | AlertmanagerPart | OpcUaPart,
    config: AlarmsConfig,
    token: Callable[[str], str] | None,
    desk: Desk | None,
) -> Channel:
    match part:
        case MqttPart():
            from almenara.alarms.channels.mqtt import MqttChannel

            return MqttChannel(part.name, part.url.get_secret_value(), topic=part.topic)
        case AlertmanagerPart():
            from almenara.alarms.channels.alertmanager import AlertmanagerChannel

            return AlertmanagerChannel(part.name, part.url.get_secret_value(), link=config.link, token=token)
        case OpcUaPart():
            from almenara.alarms.channels.opcua import OpcUaChannel

            endpoint = part.endpoint.get_secret_value()
            if desk is None:
                return OpcUaChannel(part.name, endpoint)
            least = PRIORITIES.index(part.at_least)

            def standing() -> list[AlarmRecord]:
                return [alarm for alarm in desk.standing() if PRIORITIES.index(alarm.priority) >= least]

            return OpcUaChannel(part.name, endpoint, acknowledge=desk.acknowledge, standing=standing)


def _apprise(
    part: ApprisePart,
    config: AlarmsConfig,
    evidence: EvidenceReader | None,
    token: Callable[[str], str] | None,
) -> Channel:
    from almenara.alarms.channels.apprise import AppriseChannel
    from almenara.alarms.messages.render import Renderer

    renderer = Renderer(part.language or config.language, time_zone=config.time_zone, link=config.link, token=token)
    pace = Pace(part.rate.limit, part.rate.window, part.group_wait)
    url = part.url.get_secret_value()
    return AppriseChannel(part.name, url, renderer=renderer, pace=pace, attach=part.attach, evidence=evidence)
