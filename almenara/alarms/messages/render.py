"""Messages as text, as a short text for SMS and as an HTML mail, from one set of templates a language."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from almenara.alarms.messages.entries import Entry, Links, entry, highest
from almenara.alarms.messages.phrases import english, spanish
from almenara.alarms.records import Message, Notification
from almenara.errors import ConfigurationError

LANGUAGES = ("en", "es")

SHORT = 300
"""Characters of a short text: two SMS, three with accents."""

_SUBJECT = 150  # characters; phones show about a third of it
_TEMPLATES = Path(__file__).parent / "templates"
_TIMES = {"en": "%Y-%m-%d %H:%M:%S %Z", "es": "%d/%m/%Y %H:%M:%S %Z"}
_NOTHING: Mapping[str, str] = {}


class Renderer:
    """Writes messages in one language and one time zone."""

    def __init__(
        self,
        language: str,
        *,
        time_zone: str = "UTC",
        link: str | None = None,
        token: Callable[[str], str] | None = None,
    ) -> None:
        """Load the templates.

        Args:
            language: en or es.
            time_zone: that times are written in, such as Europe/Madrid.
            link: public address of the API; without it messages carry no links.
            token: signs the path of a piece of evidence, so that its link opens without an API key.

        Raises:
            ConfigurationError: there is no such language or time zone.
        """
        if language not in LANGUAGES:
            raise ConfigurationError(f"There are no messages in language {language!r}.", "Use en or es.")
        try:
            self._zone = ZoneInfo(time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ConfigurationError(
                f"There is no time zone {time_zone!r}.", "Name one as the IANA does, such as Europe/Madrid."
            ) from error
        self.language = language
        self._links = Links(None if link is None else link.rstrip("/"), token)
        self._plain = self._environment(autoescape=False)
        self._html = self._environment(autoescape=True)

    def subject(self, message: Message) -> str:
        """One line of at most 150 characters."""
        return _cut(" ".join(self._render(self._plain, "subject.j2", message, _NOTHING).split()), _SUBJECT)

    def text(
        self,
        message: Message,
        *,
        attached: Mapping[str, str] = _NOTHING,
        limit: int | None = None,
        headline: bool = True,
    ) -> str:
        """Plain text.

        Args:
            message: what is told.
            attached: name of each piece of evidence that comes with it, by its uri; the rest is linked.
            limit: most characters; of a digest as many alarms are named as fit.
            headline: begin with what happened; False where the subject stands above.
        """
        return self._fit("text.j2", message, attached, limit, headline=headline)

    def short(self, message: Message) -> str:
        """One paragraph of at most 300 characters, for SMS."""
        return " ".join(self._fit("short.j2", message, _NOTHING, SHORT).split())

    def html(self, message: Message, *, attached: Mapping[str, str] = _NOTHING, inline: bool = False) -> str:
        """A mail that needs nothing from outside.

        Args:
            message: what is told.
            attached: as in `text`.
            inline: show the attached pictures where they belong, by `cid:NAME`.
        """
        return self._render(self._html, "mail.j2", message, attached, inline=inline)

    def _fit(
        self, template: str, message: Message, attached: Mapping[str, str], limit: int | None, **options: bool
    ) -> str:
        def render(shown: int | None = None) -> str:
            return self._render(self._plain, template, message, attached, shown=shown, **options)

        whole = render()
        if limit is None or len(whole) <= limit:
            return whole

        def length(shown: int) -> int:
            return len(render(shown))

        count = len(message.notifications) + len(message.earlier)
        fitting = bisect_right(range(1, count + 1), limit, key=length)
        return _cut(render(max(fitting, 1)), limit)

    def _render(
        self,
        environment: Environment,
        template: str,
        message: Message,
        attached: Mapping[str, str],
        *,
        shown: int | None = None,
        **options: bool,
    ) -> str:
        entries = tuple(self._entry(each, attached) for each in message.notifications)
        earlier = tuple(self._entry(each, attached) for each in message.earlier)
        count = len(entries) + len(earlier) if shown is None else shown
        rendered = environment.get_template(template).render(
            message=message,
            entries=entries,
            shown=entries[:count],
            earlier=earlier,
            earlier_shown=earlier[: max(0, count - len(entries))],
            sources=tuple(dict.fromkeys(each.name for each in entries)),
            raised=sum(each.event != "returned" for each in entries),
            highest=highest(entries),
            since=min(each.at for each in message.notifications),
            until=max(each.at for each in message.notifications),
            all_alarms=self._links.to_alarms(),
            count=count,
            language=self.language,
            **options,
        )
        return rendered.strip()

    def _entry(self, notification: Notification, attached: Mapping[str, str]) -> Entry:
        return entry(notification, self._links, attached)

    def _environment(self, *, autoescape: bool) -> Environment:
        environment = Environment(
            loader=FileSystemLoader([_TEMPLATES / self.language, _TEMPLATES]),
            undefined=StrictUndefined,
            autoescape=autoescape,  # noqa: S701 - False for plain text alone
            trim_blocks=True,
            lstrip_blocks=True,
        )
        filters: dict[str, Callable[[Any], str]] = {
            "time": self._time,
            "clock": self._clock,
            "number": self._number,
            "duration": _duration,
            "told": spanish if self.language == "es" else english,
        }
        environment.filters.update(filters)
        return environment

    def _time(self, moment: datetime) -> str:
        return moment.astimezone(self._zone).strftime(_TIMES[self.language])

    def _clock(self, moment: datetime) -> str:
        return moment.astimezone(self._zone).strftime("%H:%M:%S")

    def _number(self, value: float) -> str:
        return f"{value:.2f}".replace(".", "," if self.language == "es" else ".")


def _duration(span: timedelta) -> str:
    minutes, seconds = divmod(max(0, round(span.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3].rstrip() + "..."
