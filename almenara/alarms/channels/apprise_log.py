"""What Apprise says about an attempt, kept for the error of that attempt and without the secrets of its URL.

Apprise tells failures to its log alone, and there may print a URL with a token in its path. Its log is therefore
heard here and nowhere else.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from apprise.plugins.base import NotifyBase

from almenara.redaction import redact

_LONGEST = 400  # characters of a reason
_DETAILS = ("Socket Exception", "I/O Exception", "Response Details")  # said at DEBUG, and often all there is to know
_PLAIN = frozenset(
    {"yes", "no", "true", "false", "html", "text", "markdown", "starttls", "ssl", "insecure", "localhost", "127.0.0.1"}
)
_OPEN_OPTIONS = frozenset({"smtp", "mode", "format", "method", "overflow", "tz"})


class Said:
    """Lines of one attempt."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def text(self) -> str:
        """One line; may hold secrets, see `hide`."""
        return " ".join(" ".join(self.lines).split())


class _Ear(logging.Handler):
    """Collects what is said in the threads that listen."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: dict[int, Said] = {}

    def emit(self, record: logging.LogRecord) -> None:
        said = self.heard.get(threading.get_ident())
        if said is None or record.levelno > logging.ERROR:  # above it are deprecations
            return
        line = record.getMessage()
        if record.levelno >= logging.WARNING or line.startswith(_DETAILS):
            said.lines.append(line)


_ear = _Ear()
_log = logging.getLogger("apprise")
_log.addHandler(_ear)
_log.setLevel(logging.DEBUG)
_log.propagate = False


@contextmanager
def listening() -> Iterator[Said]:
    """What Apprise says in this thread meanwhile."""
    said = Said()
    _ear.heard[threading.get_ident()] = said
    try:
        yield said
    finally:
        _ear.heard.pop(threading.get_ident(), None)


def secrets(url: str, plugin: NotifyBase) -> re.Pattern[str] | None:
    """Matches every part of an Apprise URL that may be secret, as written and decoded; None: there is none.

    Many services take their token for user, host, path or an option, so only a host that is one, short words and a few
    options are taken to be public.
    """
    split = urlsplit(url)
    user_info, _, place = split.netloc.rpartition("@")
    parts = [user_info, *user_info.split(":", 1), *split.path.split("/"), *split.fragment.split("/")]
    parts += [value for key, value in parse_qsl(split.query) if key not in _OPEN_OPTIONS]
    templates: tuple[str, ...] = plugin.templates
    if not any("{host}" in template for template in templates):
        parts.append(place)
    known = {part for part in parts if len(part) > 3 and part.lower() not in _PLAIN}
    known |= {password for password in (plugin.password, user_info.partition(":")[2]) if password}
    spelt = {form for part in known for form in (part, unquote(part), quote(unquote(part), safe=""))}
    longest_first = sorted(spelt, key=len, reverse=True)
    return re.compile("|".join(re.escape(part) for part in longest_first), re.IGNORECASE) if spelt else None


def hide(pattern: re.Pattern[str] | None, text: str) -> str:
    """`text` without the secrets of the URL, cut to 400 characters."""
    hidden = redact(pattern.sub("***", text) if pattern else text)
    return hidden if len(hidden) <= _LONGEST else hidden[: _LONGEST - 3] + "..."
