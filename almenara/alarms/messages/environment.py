"""The templates in one language and one time zone, and how they write times and numbers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from almenara.alarms.messages.phrases import english, spanish
from almenara.errors import ConfigurationError

LANGUAGES = ("en", "es")

_TEMPLATES = Path(__file__).parent / "templates"
_TIMES = {"en": "%Y-%m-%d %H:%M:%S %Z", "es": "%d/%m/%Y %H:%M:%S %Z"}


def make_environment(language: str, time_zone: str, *, autoescape: bool) -> Environment:
    """Load the templates.

    Args:
        language: en or es.
        time_zone: that times are written in, such as Europe/Madrid.
        autoescape: for HTML.

    Raises:
        ConfigurationError: there is no such language or time zone.
    """
    if language not in LANGUAGES:
        raise ConfigurationError(f"There are no messages in language {language!r}.", "Use en or es.")
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"There is no time zone {time_zone!r}.", "Name one as the IANA does, such as Europe/Madrid."
        ) from error

    def written(moment: datetime, pattern: str) -> str:
        return moment.astimezone(zone).strftime(pattern)

    environment = Environment(
        loader=FileSystemLoader([_TEMPLATES / language, _TEMPLATES]),
        undefined=StrictUndefined,
        autoescape=autoescape,  # noqa: S701 - False for plain text alone
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[[Any], str]] = {
        "time": lambda moment: written(moment, _TIMES[language]),
        "clock": lambda moment: written(moment, "%H:%M:%S"),
        "number": lambda value: f"{value:.2f}".replace(".", "," if language == "es" else "."),
        "duration": _duration,
        "told": spanish if language == "es" else english,
    }
    environment.filters.update(filters)
    return environment


def _duration(span: timedelta) -> str:
    minutes, seconds = divmod(max(0, round(span.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
