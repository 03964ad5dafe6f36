"""What the commands on alarms take: durations, names and ids, refused by the option's own name."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from almenara.alarms.records import LONGEST_COMMENT, LONGEST_NAME
from almenara.cli.alarms_api import AlarmsApi
from almenara.configuration.values import parse_duration
from almenara.errors import InputError
from almenara.settings import load_settings


def between(least: str, most: str) -> Callable[[str], str]:
    """Refuses what is no duration between two others; for an option."""

    def check(text: str) -> str:
        try:
            seconds = parse_duration(text)
        except ValueError as error:
            raise typer.BadParameter(f"{error}.") from None
        if not parse_duration(least) <= seconds <= parse_duration(most):
            wrong = "short" if seconds < parse_duration(least) else "long"
            raise typer.BadParameter(f"{text} is too {wrong}: at least {least}, at most {most}.")
        return text

    return check


def _name(text: str) -> str:
    if not 0 < len(name := text.strip()) <= LONGEST_NAME:
        raise typer.BadParameter(f"write a name of 1 to {LONGEST_NAME} characters.")
    return name


def _comment(text: str) -> str:
    if len(text) > LONGEST_COMMENT:
        raise typer.BadParameter(f"it has {len(text)} characters; at most {LONGEST_COMMENT} are kept.")
    return text


ApiOption = Annotated[
    str | None,
    typer.Option("--api-url", envvar="ALMENARA_API_URL", help="Address of the API.  [default: the settings']"),
]
UserOption = Annotated[
    str | None, typer.Option(parser=_name, metavar="NAME", help="Who does it.  [default: the login name]")
]
CommentOption = Annotated[str, typer.Option(parser=_comment, metavar="TEXT", help="Why; it is kept.")]
SourceArgument = Annotated[str, typer.Argument(parser=_name, metavar="SOURCE", help="Camera or asset.")]
GlobArgument = Annotated[
    str, typer.Argument(parser=_name, metavar="SOURCES", help="Glob, such as `'line-2/*'` or `'*'`.")
]
GlobOption = Annotated[str | None, typer.Option(parser=_name, metavar="GLOB", help="Such as `'line-2/*'`.")]


def api_at(url: str | None) -> AlarmsApi:
    """The API at an address, else at that of the settings."""
    settings = load_settings()
    key = settings.api_key
    own = f"http://{settings.api_host}:{settings.api_port}"
    return AlarmsApi(url or own, None if key is None else key.get_secret_value())


def user_name(given: str | None) -> str:
    """The name that was given, else the login name; InputError without either."""
    try:
        return given or getpass.getuser()
    except (KeyError, OSError):
        raise InputError("user-missing", "This account has no login name.", "Give one with --user.") from None


def only(ids: Sequence[str], beginning: str, what: str, command: str) -> str:
    """The one id that begins so; InputError, with the command that lists them, when none or several do."""
    found = [each for each in ids if beginning and each.startswith(beginning)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(f"{what}-unknown", f"No {what} begins with {beginning!r}.", f"List them: {command}")
    shown = ", ".join(found[:5])
    raise InputError(f"{what}-ambiguous", f"{len(found)} begin with {beginning!r}: {shown}.", "Give more of it.")
