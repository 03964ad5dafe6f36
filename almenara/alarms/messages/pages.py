"""The pages that messages lead to: one alarm, and all that stand. They only show, and need nothing but the API."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from almenara.alarms.links import Sign
from almenara.alarms.messages.entries import Entry, Links, entry
from almenara.alarms.messages.environment import make_environment
from almenara.alarms.records import AlarmRecord, MessageEvent, Notification, Transition


class Pages:
    """Writes HTML in one language and one time zone; its links are relative to ``/alarms`` or ``/alarms/ID``."""

    def __init__(self, language: str, *, time_zone: str = "UTC") -> None:
        """Load the templates; raises as `make_environment`."""
        self._language = language
        self._environment = make_environment(language, time_zone, autoescape=True)

    def alarm(self, alarm: AlarmRecord, history: Sequence[Transition], now: datetime, sign: Sign | None) -> str:
        """One alarm as it stands `now`, with its pictures and its `history`, oldest first."""
        links = Links("..", sign, self._language)
        addresses = [(file, links.to_evidence(alarm, file)) for file in alarm.evidence]
        return self._environment.get_template("alarm_page.j2").render(
            entry=_entry(alarm, links),
            pictures=[(file.name, address) for file, address in addresses if file.media_type.startswith("image/")],
            files=[(file.name, address) for file, address in addresses if not file.media_type.startswith("image/")],
            history=history,
            now=now,
            language=self._language,
        )

    def standing(self, alarms: Sequence[AlarmRecord], now: datetime, sign: Sign | None, *, more: bool) -> str:
        """The `alarms` that stand, and whether there are more than these."""
        links = Links(".", sign, self._language)
        return self._environment.get_template("standing_page.j2").render(
            entries=[_entry(alarm, links) for alarm in alarms], more=more, now=now, language=self._language
        )


def _entry(alarm: AlarmRecord, links: Links) -> Entry:
    returned = alarm.cleared_at is not None and not alarm.phase.active
    event: MessageEvent = "returned" if returned else "raised"
    told = Notification(key=alarm.idempotency_key, event=event, at=alarm.raised_at, alarm=alarm)
    return entry(told, links, {})
