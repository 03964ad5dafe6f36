"""The list of alarms on a terminal of 80 columns."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from almenara.alarms.vocabulary import Phase
from almenara.cli import alarms_tables
from tests.support.bus_messages import alarm

REASON = "anomaly at 58%, 50% of the picture, as rare as 1 in 8000 normal pictures"


@pytest.mark.parametrize("source", ["line-2/outflow-1", "line-2/hall-3/gearbox-1"])
def test_source_and_phase_are_whole_and_the_reason_is_cut_to_one_line(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(alarms_tables, "stdout", Console(file=shown, width=80))
    record = alarm(source, reason=REASON, phase=Phase.RETURNED_UNACKNOWLEDGED)
    alarms_tables.alarms_table("Alarms", [record])
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    whole = (record.id[:8], "2026-03-01", source, "high", "returned", "0.86", "anoma")
    assert all(word in lines[3] for word in whole)
    assert "unacknowledged" in lines[4]
    assert "picture" not in shown.getvalue()
