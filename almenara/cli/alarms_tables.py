"""How alarms look on a terminal: tables in local time, and one line an event."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from almenara.console import stdout, table

if TYPE_CHECKING:
    from almenara.alarms.kpi import Kpi
    from almenara.alarms.records import AlarmRecord, Report, Silence, SourceStatus, Transition

_SHORT = 8  # characters of an id: enough to tell a thousand apart


def alarms_table(title: str, alarms: Sequence[AlarmRecord]) -> None:
    """Print alarms, one a row; where the terminal is narrow, times fold and the reason is cut."""
    drawn = _frameless(title)
    for name in ("id", "raised", "source", "priority", "phase", "score"):
        drawn.add_column(name, no_wrap=name != "raised", min_width=10 if name == "raised" else None)
    drawn.add_column("reason")
    for alarm in alarms:
        drawn.add_row(
            alarm.id[:_SHORT],
            time_of(alarm.raised_at),
            plain(alarm.source),
            alarm.priority,
            alarm.phase.replace("_", "\n"),
            f"{alarm.score:.2f}",
            Text(_printable(alarm.reason), no_wrap=True, overflow="ellipsis"),
        )
    stdout.print(drawn)


def alarm_facts(alarm: AlarmRecord) -> None:
    """Print all that is known of one alarm."""
    acknowledged = ""
    if alarm.acknowledged_at is not None:
        acknowledged = f"{time_of(alarm.acknowledged_at)} by {alarm.acknowledged_by}"
    facts = {
        "source": alarm.source,
        "judged by": alarm.origin or "the API",
        "kind": alarm.kind,
        "priority": alarm.priority,
        "phase": alarm.phase,
        "anomaly": f"{alarm.score:.2f}, at most {alarm.peak:.2f}",
        "reason": alarm.reason,
        "model": "" if alarm.model is None else f"{alarm.model.name} version {alarm.model.version}",
        "raised": time_of(alarm.raised_at),
        "returned": "" if alarm.cleared_at is None else time_of(alarm.cleared_at),
        "acknowledged": acknowledged,
        "comment": alarm.comment,
        "verdict": (alarm.verdict or "").replace("_", " "),
        "evidence": ", ".join(file.name for file in alarm.evidence) or alarm.note,
    }
    table(f"Alarm {alarm.id}", ["", ""], [[name, plain(value)] for name, value in facts.items() if value])


def history_table(history: Sequence[Transition]) -> None:
    """Print what happened to an alarm."""
    rows = [[time_of(each.at), each.change, each.phase, plain(each.user or ""), plain(each.reason)] for each in history]
    table("What happened", ["at", "change", "phase", "user", "reason"], rows)


def sources_table(sources: Sequence[SourceStatus]) -> None:
    """Print where sources stand, one a row; where the terminal is narrow, times and names of workers fold."""
    drawn = _frameless("Sources")
    widths = {"source": None, "judged by": None, "phase": 14, "since": 10, "alarm": None}
    for name, width in widths.items():
        drawn.add_column(name, no_wrap=name in ("source", "alarm"), min_width=width, overflow="fold")
    for status in sources:
        until = ""
        if status.phase == "shelved" and status.shelved_until is not None:
            until = f" until {time_of(status.shelved_until)}"
        drawn.add_row(
            plain(status.source),
            plain(status.origin) or "the API",
            f"{status.phase.replace('_', ' ')}{until}",
            "" if status.since is None else time_of(status.since),
            (status.alarm_id or "")[:_SHORT],
        )
    stdout.print(drawn)


def silences_table(silences: Sequence[Silence]) -> None:
    """Print silences, one a row."""
    rows = [
        [
            silence.id[:_SHORT],
            plain(silence.sources),
            time_of(silence.starts_at),
            time_of(silence.ends_at),
            plain(silence.user),
            plain(silence.comment),
        ]
        for silence in silences
    ]
    table("Silences", ["id", "sources", "from", "to", "user", "comment"], rows)


def kpi_tables(figures: Kpi) -> None:
    """Print the figures of a period beside their targets, and its worst sources."""
    shares = ", ".join(f"{priority} {share:.0%}" for priority, share in figures.priorities.items() if share)
    false = "none judged" if figures.false_alarm_share is None else f"{figures.false_alarm_share:.0%}"
    rows = [
        ["raises", str(figures.raises), ""],
        ["alarms an operator and hour", f"{figures.alarms_per_operator_hour:.1f}", "about 6, at most 12"],
        ["most in 10 minutes", str(figures.peak_in_10_minutes), f"at most {10 * figures.operators}"],
        ["floods", str(figures.floods), "none"],
        ["time in flood", f"{figures.time_in_flood:.1%}", "under 1 %"],
        ["chattering sources", plain(", ".join(figures.chattering_sources)) or "none", "none"],
        ["standing for over 24 h", str(len(figures.stale_alarms)), "fewer than 5"],
        ["priorities", shares, "low 80%, medium 15%, high 5%"],
        ["median time to acknowledgement", _duration(figures.median_seconds_to_acknowledgement), ""],
        ["95 % acknowledged within", _duration(figures.p95_seconds_to_acknowledgement), ""],
        ["unacknowledged now", str(figures.unacknowledged), ""],
        [f"false alarms of {figures.judged} judged", false, ""],
    ]
    since = time_of(figures.since)
    if figures.known_since is not None:
        since = f"{time_of(figures.known_since)}, when the record begins"
    table(f"Alarms since {since}", ["figure", "value", "target"], rows)
    if figures.top_sources:
        rows = [[plain(top.source), str(top.raises), f"{top.share:.0%}"] for top in figures.top_sources]
        table("Sources with most alarms", ["source", "raises", "share"], rows)


def event_line(report: Report) -> str:
    """One transition as a line of text."""
    transition = report.transition
    by = f" by {transition.user}" if transition.user else ""
    alarm = f" [{transition.alarm_id[:_SHORT]}]" if transition.alarm_id else ""
    reason = f": {transition.reason}" if transition.reason else ""
    change = transition.change.replace("_", " ")
    return _printable(f"{time_of(transition.at)} {transition.source} {change}{by}{alarm}{reason}")


def time_of(moment: datetime) -> str:
    """A moment in local time."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def plain(text: str) -> str:
    """Text of others as it may stand in a table: without markup and control characters."""
    return escape(_printable(text))


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "none acknowledged"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _frameless(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=0, show_edge=False)
