"""Lists of alarms and sources on a terminal of 80 columns."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from types import ModuleType

import pytest
from rich.console import Console

from almenara import console
from almenara.alarms.kpi import kpi
from almenara.alarms.records import SourceStatus
from almenara.alarms.vocabulary import Phase
from almenara.cli import alarms_tables
from tests.support.bus_messages import alarm

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
REASON = "anomaly at 58%, 50% of the picture, as rare as 1 in 8000 normal pictures"


def narrow(monkeypatch: pytest.MonkeyPatch, module: ModuleType = alarms_tables) -> io.StringIO:
    """What is printed on a terminal of 80 columns."""
    shown = io.StringIO()
    monkeypatch.setattr(module, "stdout", Console(file=shown, width=80))
    return shown


@pytest.mark.parametrize("source", ["line-2/outflow-1", "line-2/hall-3/gearbox-1"])
def test_source_and_phase_are_whole_and_the_reason_is_cut_to_one_line(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = narrow(monkeypatch)
    record = alarm(source, reason=REASON, phase=Phase.RETURNED_UNACKNOWLEDGED)
    alarms_tables.alarms_table("Alarms", [record])
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    whole = (record.id[:8], "2026-03-01", source, "high", "returned", "0.86", "anoma")
    assert all(word in lines[3] for word in whole)
    assert "unacknowledged" in lines[4]
    assert "picture" not in shown.getvalue()


def test_sources_are_whole_and_their_times_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = narrow(monkeypatch)
    worker = SourceStatus(
        source="line-2/hall-3/gearbox-1",
        origin="worker-1",
        phase=Phase.SHELVED,
        since=NOON,
        shelved_until=NOON + timedelta(days=2),
        alarm_id="5f0c4d7c-0000-4000-8000-000000000000",
    )
    own = SourceStatus(source="pump[1]", phase=Phase.UNKNOWN, since=None)
    alarms_tables.sources_table([worker, own])
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    words = ("line-2/hall-3/gearbox-1", "worker-1", "shelved until", "2026-03-01", "5f0c4d7c")
    assert all(word in lines[3] for word in words)
    assert "2026-03-03" in lines[4]
    own_line = next(line for line in lines if "pump" in line)
    assert all(word in own_line for word in ("pump[1]", "the API", "unknown"))


def test_figures_say_when_the_record_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = narrow(monkeypatch, console)
    begins = NOON - timedelta(hours=1)
    alarms_tables.kpi_tables(kpi([], [], NOON - timedelta(hours=24), NOON, begins=begins))
    assert f"Alarms since {begins.astimezone():%Y-%m-%d %H:%M:%S}, when the record begins" in shown.getvalue()
