"""`almenara alarms`: where sources stand, and when nobody is told of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote

import typer

from almenara.alarms.records import Silence, SourceStatus
from almenara.cli.alarms_options import (
    ApiOption,
    CommentOption,
    GlobArgument,
    SourceArgument,
    UserOption,
    api_at,
    between,
    only,
    user_name,
)
from almenara.cli.alarms_tables import plain, silences_table, sources_table, time_of
from almenara.configuration.values import parse_duration
from almenara.console import JsonOption, print_json, stdout

_FORMS = "Such as 30m, 2h or 1d; 1m to"


def sources(api_url: ApiOption = None, as_json: JsonOption = False) -> None:
    """List cameras and assets, and where each of them stands.

    Example: `almenara alarms sources`
    """
    found = api_at(api_url).get("/sources", list[SourceStatus])
    if found:
        sources_table(found)
    else:
        stdout.print("No source has been judged yet.")
    if as_json:
        print_json({"sources": [each.model_dump(mode="json") for each in found]})


def shelve(
    source: SourceArgument,
    duration: Annotated[str, typer.Argument(parser=between("1m", "7d"), metavar="DURATION", help=f"{_FORMS} 7d.")],
    comment: CommentOption = "",
    user: UserOption = None,
    api_url: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell nobody about a source for a time; what still stands then is told.

    Example: `almenara alarms shelve line-2/outflow 2h --comment "cleaning"`
    """
    status = _act(api_url, "shelve", source, user, comment, seconds=parse_duration(duration))
    until = "" if status.shelved_until is None else f" until {time_of(status.shelved_until)}"
    stdout.print(f"{plain(source)} is shelved{until}.")
    if as_json:
        print_json(status.model_dump(mode="json"))


def unshelve(
    source: SourceArgument,
    comment: CommentOption = "",
    user: UserOption = None,
    api_url: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """End the shelving of a source.

    Example: `almenara alarms unshelve line-2/outflow`
    """
    status = _act(api_url, "unshelve", source, user, comment)
    stdout.print(f"{plain(source)} is not shelved any more: {status.phase}.")
    if as_json:
        print_json(status.model_dump(mode="json"))


def out_of_service(
    source: SourceArgument,
    comment: CommentOption = "",
    user: UserOption = None,
    api_url: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop judging a source, until `in-service`.

    Example: `almenara alarms out-of-service line-2/outflow --comment "dismantled"`
    """
    status = _act(api_url, "out-of-service", source, user, comment)
    stdout.print(f"{plain(source)} is out of service: it is not judged until somebody returns it.")
    if as_json:
        print_json(status.model_dump(mode="json"))


def in_service(
    source: SourceArgument,
    comment: CommentOption = "",
    user: UserOption = None,
    api_url: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge a source again; it is unknown until its next reading.

    Example: `almenara alarms in-service line-2/outflow`
    """
    status = _act(api_url, "in-service", source, user, comment)
    stdout.print(f"{plain(source)} is in service: {status.phase}.")
    if as_json:
        print_json(status.model_dump(mode="json"))


def silence(
    sources: GlobArgument,
    duration: Annotated[str, typer.Argument(parser=between("1m", "90d"), metavar="DURATION", help=f"{_FORMS} 90d.")],
    starts: Annotated[datetime | None, typer.Option(metavar="TIME", help="Local time.  [default: now]")] = None,
    comment: CommentOption = "",
    user: UserOption = None,
    api_url: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """Plan a time in which nobody is told about some sources; what still stands afterwards is told then.

    Example: `almenara alarms silence 'line-2/*' 4h --starts "2026-03-02 06:00:00" --comment "maintenance"`
    """
    seconds = parse_duration(duration)
    when = {"seconds": seconds} if starts is None else _period(starts, seconds)
    body = {"sources": sources, "user": user_name(user), "comment": comment, **when}
    planned = api_at(api_url).post("/silences", Silence, body)
    stdout.print(f"{plain(planned.sources)} is silent from {time_of(planned.starts_at)} to {time_of(planned.ends_at)}.")
    if as_json:
        print_json(planned.model_dump(mode="json"))


def silences(
    end: Annotated[str | None, typer.Option(metavar="ID", help="End this one before its time.")] = None,
    user: UserOption = None,
    api_url: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the silences in force now or later, or end one.

    Example: `almenara alarms silences --end 7b1e22aa`
    """
    api = api_at(api_url)
    found = api.get("/silences", list[Silence])
    if end is not None:
        ended = only([each.id for each in found], end, "silence", "almenara alarms silences")
        api.delete(f"/silences/{quote(ended, safe='')}", Silence, [("user", user_name(user))])
        found = [each for each in found if each.id != ended]
    if found:
        silences_table(found)
    else:
        stdout.print("No silence is in force or planned.")
    if as_json:
        print_json({"silences": [each.model_dump(mode="json") for each in found]})


def _act(api_url: str | None, action: str, source: str, user: str | None, comment: str, **more: float) -> SourceStatus:
    body = {"source": source, "user": user_name(user), "comment": comment, **more}
    return api_at(api_url).post(f"/{action}", SourceStatus, body)


def _period(starts: datetime, seconds: float) -> dict[str, Any]:
    """Begin and end of a silence as the API takes them."""
    try:
        begin = starts.astimezone(UTC)
        end = begin + timedelta(seconds=seconds)
    except OverflowError:
        raise typer.BadParameter(f"{starts} lies too far away.", param_hint="'--starts'") from None
    if end <= datetime.now(UTC):
        raise typer.BadParameter(
            f"such a silence was over at {time_of(end)}: start later, or make DURATION longer.", param_hint="'--starts'"
        )
    return {"starts_at": begin.isoformat(), "ends_at": end.isoformat()}
