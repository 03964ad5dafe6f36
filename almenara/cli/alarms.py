"""`almenara alarms`: what stands, acknowledging, shelving, silences and KPIs, by way of the API."""

from __future__ import annotations

import getpass
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.markup import escape

from almenara.cli.alarms_api import AlarmsApi
from almenara.cli.alarms_tables import (
    alarm_facts,
    alarms_table,
    event_line,
    history_table,
    kpi_tables,
    plain,
    silences_table,
    time_of,
)
from almenara.configuration.values import parse_duration
from almenara.console import JsonOption, print_json, stderr, stdout
from almenara.errors import ConfigurationError, InputError
from almenara.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="List, acknowledge, shelve and silence alarms; watch them; KPIs.")

ApiOption = Annotated[
    str | None,
    typer.Option("--api-url", envvar="ALMENARA_API_URL", help="Address of the API.  [default: the settings']"),
]
UserOption = Annotated[str | None, typer.Option(help="Who does it.  [default: the login name]")]
CommentOption = Annotated[str, typer.Option(help="Why; it is kept.")]
IdsArgument = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids, or beginnings that fit only one alarm.")]
SourceArgument = Annotated[str, typer.Argument(help="Camera or asset.")]
DurationArgument = Annotated[str, typer.Argument(metavar="DURATION", help="Such as 30m, 2h or 1d.")]

_UUID_LENGTH = 36
_RECONNECT_SECONDS = 2.0


@app.command("list")
def list_alarms(
    source: Annotated[str | None, typer.Option(help="Glob, such as 'line-2/*'.")] = None,
    kind: Annotated[str | None, typer.Option(help="vision, vibration or system.")] = None,
    phase: Annotated[list[str] | None, typer.Option(help="Such as unacknowledged; may be repeated.")] = None,
    priority: Annotated[str | None, typer.Option(help="low, medium, high or critical.")] = None,
    standing: Annotated[bool | None, typer.Option("--standing/--over", help="Only those still open, or over.")] = None,
    since: Annotated[str | None, typer.Option(metavar="DURATION", help="Raised in the last 8h, 2d …")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    api_url: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """List alarms, newest first.

    Example: `almenara alarms list --standing --source 'line-2/*'`
    """
    from almenara.alarms.records import AlarmRecord

    chosen = {"source": source, "kind": kind, "priority": priority, "limit": limit}
    query: list[tuple[str, object]] = [(name, value) for name, value in chosen.items() if value is not None]
    query += [("phase", each) for each in phase or []]
    if standing is not None:
        query.append(("standing", str(standing).lower()))
    if since is not None:
        query.append(("since", (datetime.now(UTC) - timedelta(seconds=_seconds(since))).isoformat()))
    alarms = _api(api_url).get("", list[AlarmRecord], query)
    if alarms:
        alarms_table("Alarms", alarms)
    else:
        stdout.print("No alarm fits.")
    if len(alarms) == limit:
        stdout.print(f"Only the newest {limit} are shown: see --limit, --since and --source.")
    if as_json:
        print_json({"alarms": [alarm.model_dump(mode="json") for alarm in alarms]})


@app.command()
def show(
    alarm_id: Annotated[str, typer.Argument(metavar="ID", help="Id, or a beginning that fits only one alarm.")],
    api_url: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one alarm and what happened to it.

    Example: `almenara alarms show 5f0c4d7c`
    """
    from almenara.alarms.records import AlarmRecord, Transition

    api = _api(api_url)
    path = f"/{_full_id(api, alarm_id)}"
    alarm = api.get(path, AlarmRecord)
    history = api.get(f"{path}/history", list[Transition])
    alarm_facts(alarm)
    history_table(history)
    if as_json:
        print_json(
            {"alarm": alarm.model_dump(mode="json"), "history": [each.model_dump(mode="json") for each in history]}
        )


@app.command()
def ack(
    ids: IdsArgument,
    true_alarm: Annotated[
        bool | None, typer.Option("--true-alarm/--false-alarm", help="What you found when looking into it.")
    ] = None,
    comment: CommentOption = "",
    user: UserOption = None,
    api_url: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """Acknowledge alarms; a false alarm's frame or window is kept as normal, for recalibration.

    Example: `almenara alarms ack 5f0c4d7c --false-alarm --comment "a bird"`
    """
    verdict = None if true_alarm is None else "true_alarm" if true_alarm else "false_alarm"
    body = {"user": _user(user), "comment": comment, "verdict": verdict}
    _act_on_alarms(_api(api_url), ids, "acknowledge", body, as_json=as_json)


@app.command()
def reset(
    ids: IdsArgument,
    comment: CommentOption = "",
    user: UserOption = None,
    api_url: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reset latched alarms.

    Example: `almenara alarms reset 5f0c4d7c`
    """
    _act_on_alarms(_api(api_url), ids, "reset", {"user": _user(user), "comment": comment}, as_json=as_json)


@app.command()
def shelve(
    source: SourceArgument,
    duration: DurationArgument,
    comment: CommentOption = "",
    user: UserOption = None,
    api_url: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell nobody about a source for a time (1m to 7d); what still stands then is told.

    Example: `almenara alarms shelve line-2/outflow 2h --comment "cleaning"`
    """
    body = {"source": source, "user": _user(user), "comment": comment, "seconds": _seconds(duration)}
    answer = _api(api_url).post("/shelve", dict[str, Any], body)
    stdout.print(f"{plain(source)} is shelved for {duration}.")
    if as_json:
        print_json(answer)


@app.command()
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
    body = {"source": source, "user": _user(user), "comment": comment}
    answer = _api(api_url).post("/unshelve", dict[str, Any], body)
    stdout.print(f"{plain(source)} is not shelved any more: {answer.get('phase')}.")
    if as_json:
        print_json(answer)


@app.command()
def silence(
    sources: Annotated[str, typer.Argument(help="Glob, such as 'line-2/*' or '*'.")],
    duration: DurationArgument,
    starts: Annotated[datetime | None, typer.Option(help="Local time.  [default: now]")] = None,
    comment: CommentOption = "",
    user: UserOption = None,
    api_url: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """Plan a time in which nobody is told about some sources; what still stands afterwards is told then.

    Example: `almenara alarms silence 'line-2/*' 4h --starts "2026-03-02 06:00:00" --comment "maintenance"`
    """
    from almenara.alarms.records import Silence

    seconds = _seconds(duration)
    when: dict[str, Any] = {"seconds": seconds}
    if starts is not None:
        begin = starts.astimezone(UTC)
        when = {"starts_at": begin.isoformat(), "ends_at": (begin + timedelta(seconds=seconds)).isoformat()}
    body = {"sources": sources, "user": _user(user), "comment": comment, **when}
    planned = _api(api_url).post("/silences", Silence, body)
    stdout.print(f"{plain(planned.sources)} is silent from {time_of(planned.starts_at)} to {time_of(planned.ends_at)}.")
    if as_json:
        print_json(planned.model_dump(mode="json"))


@app.command()
def silences(
    end: Annotated[str | None, typer.Option(metavar="ID", help="End this one before its time.")] = None,
    user: UserOption = None,
    api_url: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the silences in force now or later, or end one.

    Example: `almenara alarms silences --end 7b1e22aa`
    """
    from almenara.alarms.records import Silence

    api = _api(api_url)
    found = api.get("/silences", list[Silence])
    if end is not None:
        ended = _only([each.id for each in found], end, "silence", "almenara alarms silences")
        api.delete(f"/silences/{quote(ended, safe='')}", Silence, [("user", _user(user))])
        found = [each for each in found if each.id != ended]
    if found:
        silences_table(found)
    else:
        stdout.print("No silence is in force or planned.")
    if as_json:
        print_json({"silences": [each.model_dump(mode="json") for each in found]})


@app.command()
def kpi(
    hours: Annotated[float, typer.Option(help="Length of the period that ends now.")] = 24.0,
    operators: Annotated[int, typer.Option(min=1, help="How many people share the alarms.")] = 1,
    api_url: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how much the alarms ask of people, beside the targets of ISA-18.2 and EEMUA 191.

    Example: `almenara alarms kpi --hours 168 --operators 2`
    """
    from almenara.alarms.kpi import Kpi

    figures = _api(api_url).get("/kpi", Kpi, [("hours", hours), ("operators", operators)])
    kpi_tables(figures)
    if as_json:
        print_json(figures.model_dump(mode="json"))


@app.command()
def watch(api_url: ApiOption = None, as_json: JsonOption = False) -> None:
    """Print what happens to alarms as it happens, until Ctrl-C; with --json one object a line.

    Example: `almenara alarms watch`
    """
    from almenara.alarms.records import AlarmRecord, Report

    api = _api(api_url)
    standing = api.get("", list[AlarmRecord], [("standing", "true")])
    if standing and not as_json:
        alarms_table("Standing alarms", standing)
    last: str | None = None
    try:
        while True:
            try:
                for number, data in api.events(last):
                    last = number
                    typer.echo(data if as_json else event_line(Report.model_validate_json(data)))
            except ConfigurationError as error:
                stderr.print(f"{escape(error.fact)} Trying again.")
            time.sleep(_RECONNECT_SECONDS)
    except KeyboardInterrupt:
        return


def _api(url: str | None) -> AlarmsApi:
    settings = load_settings()
    key = settings.api_key
    own = f"http://{settings.api_host}:{settings.api_port}"
    return AlarmsApi(url or own, None if key is None else key.get_secret_value())


def _act_on_alarms(api: AlarmsApi, ids: list[str], action: str, body: dict[str, Any], *, as_json: bool) -> None:
    from almenara.alarms.records import AlarmRecord

    full = [_full_id(api, each) for each in ids]
    alarms = [api.post(f"/{each}/{action}", AlarmRecord, body) for each in full]
    alarms_table("Alarms", alarms)
    if as_json:
        print_json({"alarms": [alarm.model_dump(mode="json") for alarm in alarms]})


def _full_id(api: AlarmsApi, beginning: str) -> str:
    """The id of the one alarm that it fits, quoted for a path."""
    from almenara.alarms.records import AlarmRecord

    if len(beginning) == _UUID_LENGTH:
        return quote(beginning, safe="")
    alarms = api.get("", list[AlarmRecord], [("limit", 1000)])
    return quote(_only([alarm.id for alarm in alarms], beginning, "alarm", "almenara alarms list"), safe="")


def _only(ids: list[str], beginning: str, what: str, command: str) -> str:
    found = [each for each in ids if each.startswith(beginning)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(f"{what}-unknown", f"No {what} begins with {beginning!r}.", f"List them: {command}")
    shown = ", ".join(found[:5])
    raise InputError(f"{what}-ambiguous", f"{len(found)} begin with {beginning!r}: {shown}.", "Give more of it.")


def _seconds(duration: str) -> float:
    try:
        return parse_duration(duration)
    except ValueError as error:
        raise InputError("duration", f"{error}.") from None


def _user(given: str | None) -> str:
    try:
        return given or getpass.getuser()
    except (KeyError, OSError):
        raise InputError("user-missing", "This account has no login name.", "Give one with --user.") from None
