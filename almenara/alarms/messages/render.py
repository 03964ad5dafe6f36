"""Messages as text, as a short text for SMS and as an HTML mail, from one set of templates a language."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping

from jinja2 import Environment

from almenara.alarms.messages.entries import Entry, Links, entry, highest
from almenara.alarms.messages.environment import make_environment
from almenara.alarms.records import Message, Notification

SHORT = 300
"""Characters of a short text: two SMS, three with accents."""

_SUBJECT = 150  # characters; phones show about a third of it
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
            token: signs the path of a link, so that it opens without an API key.

        Raises:
            ConfigurationError: there is no such language or time zone.
        """
        self._plain = make_environment(language, time_zone, autoescape=False)
        self._html = make_environment(language, time_zone, autoescape=True)
        self.language = language
        self._links = Links(None if link is None else link.rstrip("/"), token, language)

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
            most=SHORT,
            language=self.language,
            **options,
        )
        return rendered.strip()

    def _entry(self, notification: Notification, attached: Mapping[str, str]) -> Entry:
        return entry(notification, self._links, attached)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3].rstrip() + "..."
