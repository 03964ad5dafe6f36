"""`almenara doctor`: what is wrong with this installation, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from almenara.cli.alarms_options import ApiOption
from almenara.console import JsonOption, print_json, stderr, stdout, table
from almenara.errors import ConfigurationError
from almenara.settings import load_settings

if TYPE_CHECKING:
    from almenara.doctor import Finding

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "bold red", "skipped": "dim"}


def doctor(
    api_url: ApiOption = None,
    worker_url: Annotated[
        str | None,
        typer.Option(
            envvar="ALMENARA_WORKER_URL", help="Address of a camera worker's status.  [default: one here, if any]"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check every connection, version, migration, bucket, clock and disk seen from here; exit code 1 for a problem.

    Example: `docker compose exec api almenara doctor`
    """
    found = _found(api_url, worker_url)
    rows = [[f"[{_COLOURS[each.state]}]{each.state}[/]", escape(each.subject), _told(each)] for each in found]
    table("What the doctor found", ["state", "of", "what, and what to do"], rows)
    counts = {state: sum(each.state == state for each in found) for state in _COLOURS}
    stdout.print(", ".join(f"{count} {state}" for state, count in counts.items() if count))
    if as_json:
        print_json({"findings": [asdict(each) for each in found], **counts})
    if counts["problem"]:
        raise typer.Exit(1)


def _found(api_url: str | None, worker_url: str | None) -> Sequence[Finding]:
    from almenara.doctor import Finding, Place, diagnose

    try:
        settings = load_settings()
    except ConfigurationError as error:
        return [Finding("settings", "problem", error.fact, error.remedy)]
    with stderr.status("Looking at every connection, for five seconds at most"):
        return diagnose(Place(settings, api_url=api_url, worker_url=worker_url))


def _told(finding: Finding) -> str:
    remedy = f"\n[cyan]→ {escape(finding.remedy)}[/]" if finding.remedy else ""
    return escape(finding.fact) + remedy
