"""`almenara alarms`: what stands, acknowledging, shelving, silences and KPIs, by way of the API."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.markup import escape

from almenara.alarms.records import AlarmRecord, Report, Transition
from almenara.alarms.vocabulary import Phase, Priority
from almenara.cli import alarms_sources
from almenara.cli.alarms_api import AlarmsApi
from almenara.cli.alarms_options import (
    ApiOption,
    CommentOption,
    GlobOption,
    UserOption,
    api_at,
    between,
    only,
    user_name,
)
from almenara.cli.alarms_tables import alarm_facts, alarms_table, event_line, history_table, kpi_tables
from almenara.configuration.values import parse_duration
from almenara.console import JsonOption, print_json, stderr, stdout
from almenara.contracts import AlarmKind
from almenara.errors import ConfigurationError

app = typer.Typer(no_args_is_help=True, help="List, acknowledge, shelve and silence alarms; watch them; KPIs.")

IdsArgument = Annotated[list[str], typer.Argument(metavar="ID", help="Ids, or beginnings that fit only one alarm.")]

_UUID_LENGTH = 36
_RECONNECT_SECONDS = 2.0


@app.command("list")
def list_alarms(
    source: GlobOption = None,
    kind: Annotated[AlarmKind | None, typer.Option(metavar="KIND", help="vision, vibration or system.")] = None,
    phase: Annotated[
        list[Phase] | None, typer.Option(metavar="PHASE", help="Such as unacknowledged; may be repeated.")
    ] = None,
    priority: Annotated[
        Priority | None, typer.Option(metavar="PRIORITY", help="low, medium, high or critical.")
    ] = None,
    standing: Annotated[bool | None, typer.Option("--standing/--over", help="Only those still open, or over.")] = None,
    since: Annotated[
        str | None,
        typer.Option(parser=between("0s", "36500d"), metavar="DURATION", help="Raised in the last 8h, 2d …"),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    api_url: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """List alarms, newest first.

    Example: `almenara alarms list --standing --source 'line-2/*'`
    """
    chosen = {"source": source, "kind": kind, "priority": priority, "limit": limit}
    query: list[tuple[str, object]] = [(name, value) for name, value in chosen.items() if value is not None]
    query += [("phase", each) for each in phase or []]
    if standing is not None:
        query.append(("standing", str(standing).lower()))
    if since is not None:
        query.append(("since", (datetime.now(UTC) - timedelta(seconds=parse_duration(since))).isoformat()))
    alarms = api_at(api_url).get("", list[AlarmRecord], query)
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
    api = api_at(api_url)
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
    body = {"user": user_name(user), "comment": comment, "verdict": verdict}
    _act_on_alarms(api_at(api_url), ids, "acknowledge", body, as_json=as_json)


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
    _act_on_alarms(api_at(api_url), ids, "reset", {"user": user_name(user), "comment": comment}, as_json=as_json)


@app.command()
def kpi(
    hours: Annotated[float, typer.Option(min=0.1, max=744, help="Length of the period that ends now.")] = 24.0,
    operators: Annotated[int, typer.Option(min=1, max=1000, help="How many people share the alarms.")] = 1,
    api_url: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how much the alarms ask of people, beside the targets of ISA-18.2 and EEMUA 191.

    Example: `almenara alarms kpi --hours 168 --operators 2`
    """
    from almenara.alarms.kpi import Kpi

    figures = api_at(api_url).get("/kpi", Kpi, [("hours", hours), ("operators", operators)])
    kpi_tables(figures)
    if as_json:
        print_json(figures.model_dump(mode="json"))


@app.command()
def watch(api_url: ApiOption = None, as_json: JsonOption = False) -> None:
    """Print what happens to alarms as it happens, until Ctrl-C; with --json one object a line.

    Example: `almenara alarms watch`
    """
    api = api_at(api_url)
    standing = api.get("", list[AlarmRecord], [("standing", "true")])
    if standing and not as_json:
        alarms_table("Standing alarms", standing)
    away = False

    def answers() -> None:
        nonlocal away
        if away:
            stderr.print("The API answers again.")
        away = False

    last: str | None = None
    try:
        while True:
            try:
                for number, data in api.events(last, answers):
                    last = number
                    typer.echo(data if as_json else event_line(Report.model_validate_json(data)))
            except ConfigurationError as error:
                if not away:
                    stderr.print(f"{escape(error.fact)} Trying again until it answers.")
                away = True
            time.sleep(_RECONNECT_SECONDS)
    except KeyboardInterrupt:
        return


app.command()(alarms_sources.sources)
app.command()(alarms_sources.shelve)
app.command()(alarms_sources.unshelve)
app.command()(alarms_sources.out_of_service)
app.command()(alarms_sources.in_service)
app.command()(alarms_sources.silence)
app.command()(alarms_sources.silences)


def _act_on_alarms(api: AlarmsApi, ids: list[str], action: str, body: dict[str, Any], *, as_json: bool) -> None:
    full = [_full_id(api, each) for each in ids]
    alarms = [api.post(f"/{each}/{action}", AlarmRecord, body) for each in full]
    alarms_table("Alarms", alarms)
    if as_json:
        print_json({"alarms": [alarm.model_dump(mode="json") for alarm in alarms]})


def _full_id(api: AlarmsApi, beginning: str) -> str:
    """The id of the one alarm that it fits, quoted for a path."""
    if len(beginning) == _UUID_LENGTH:
        return quote(beginning, safe="")
    alarms = api.get("", list[AlarmRecord], [("limit", 1000)])
    return quote(only([alarm.id for alarm in alarms], beginning, "alarm", "almenara alarms list"), safe="")
