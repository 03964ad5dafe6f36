"""One notification as the templates see it: what it is about in the plant's terms, and where its pictures are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlencode

from almenara.alarms.records import AlarmRecord, EvidenceFile, MessageEvent, Notification
from almenara.alarms.vocabulary import PRIORITIES, Priority

Topic = Literal["vision", "vibration", "sight", "detection", "channel", "system"]
"""A camera's or an asset's anomaly, a blind camera, scoring away, a channel that delivers nothing, anything else."""


@dataclass(frozen=True)
class Links:
    """Makes the addresses that messages point to; None without the API's public address.

    Attributes:
        base: the API's public address, such as https://almenara.plant.example.
        token: signs the path of a link, so that it opens without a key; None: a key is needed.
        language: of the pages that the links open.
    """

    base: str | None
    token: Callable[[str], str] | None
    language: str

    def to_alarm(self, alarm: AlarmRecord) -> str | None:
        """The page of one alarm."""
        return self._to(f"/alarms/{alarm.id}", lang=self.language)

    def to_alarms(self) -> str | None:
        """The page of the alarms that stand."""
        return self._to("/alarms", lang=self.language)

    def to_evidence(self, alarm: AlarmRecord, file: EvidenceFile) -> str | None:
        return self._to(f"/v1/alarms/{alarm.id}/evidence/{quote(file.name)}")

    def _to(self, path: str, **query: str) -> str | None:
        if self.base is None:
            return None
        if self.token is not None:
            query["token"] = self.token(path)
        return f"{self.base}{path}?{urlencode(query)}" if query else f"{self.base}{path}"


@dataclass(frozen=True)
class Entry:
    """One notification.

    Attributes:
        key, event, alarm, chattering: of the notification.
        topic, name: what it is about; the name is the camera's, asset's or channel's, without what marks the topic.
        link: to the alarm; none of a test, whose alarm is nowhere.
        pictures: names of the pictures that come with the message.
        files: name and address of the evidence that does not come with it.
    """

    key: str
    event: MessageEvent
    alarm: AlarmRecord
    chattering: bool
    topic: Topic
    name: str
    link: str | None
    pictures: tuple[str, ...]
    files: tuple[tuple[str, str], ...]

    @property
    def returned(self) -> bool:
        """Whether its condition is over, be this what is told or not."""
        return self.alarm.cleared_at is not None and not self.alarm.phase.active


def entry(notification: Notification, links: Links, attached: Mapping[str, str]) -> Entry:
    """What the templates see of a notification.

    Args:
        notification: the notification.
        links: makes addresses.
        attached: name of each piece of evidence that comes with the message, by its uri.
    """
    alarm = notification.alarm
    topic, name = _topic(alarm)
    linked = [(file.name, links.to_evidence(alarm, file)) for file in alarm.evidence if file.uri not in attached]
    return Entry(
        key=notification.key,
        event=notification.event,
        alarm=alarm,
        chattering=notification.chattering,
        topic=topic,
        name=name,
        link=None if notification.event == "test" else links.to_alarm(alarm),
        pictures=tuple(attached[file.uri] for file in alarm.evidence if file.uri in attached),
        files=tuple((name, address) for name, address in linked if address is not None),
    )


def highest(entries: tuple[Entry, ...]) -> Priority:
    """The most urgent priority among them."""
    return max((each.alarm.priority for each in entries), key=PRIORITIES.index)


def _topic(alarm: AlarmRecord) -> tuple[Topic, str]:
    if alarm.kind != "system":
        return alarm.kind, alarm.source
    if alarm.source == "detection":
        return "detection", alarm.source
    if alarm.source.startswith("channel/"):
        return "channel", alarm.source.removeprefix("channel/")
    if alarm.source.endswith("/sight"):
        return "sight", alarm.source.removesuffix("/sight")
    return "system", alarm.source
