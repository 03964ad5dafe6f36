"""Assets under watch: windows count for when they were measured, and late ones change no alarm."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from almenara.alarms import Phase
from almenara.settings import Settings
from almenara_api.trend import Sensor
from tests.support.watched import Watched, ago, watching


def test_a_late_window_joins_the_trend_and_changes_no_newer_alarm(watch: Watched) -> None:
    watch.post(0.9, measured_at=ago(10), channel="drive end")
    for second in range(30, 20, -1):
        late = watch.post(0.1, measured_at=ago(second), channel="drive end")
        assert late.outcome == "late"
        assert "late" in late.content
    assert watch.phase() is Phase.UNACKNOWLEDGED
    assert [each.late for each in watch.trend()] == [False, *[True] * 10]


def test_a_window_of_another_channel_is_not_late_unless_it_is_much_older(watch: Watched) -> None:
    watch.post(0.1, measured_at=ago(5), channel="drive end")
    assert watch.post(0.1, measured_at=ago(100), channel="fan end").outcome == "late"
    assert watch.post(0.9, measured_at=ago(20), channel="fan end").outcome == "kept"
    (alarm,) = watch.alarms()
    assert abs(alarm.raised_at - ago(5)) < timedelta(seconds=5), "not before what was seen last of the asset"


def test_a_window_that_tells_of_no_present_changes_no_alarm(watch: Watched) -> None:
    assert watch.post(0.9, measured_at=ago(3601)).outcome == "late"
    assert watch.alarms() == []
    assert watch.post(0.9, measured_at=ago(3000)).outcome == "kept"
    assert len(watch.alarms()) == 1


def test_a_clock_that_is_ahead_does_not_silence_a_right_one(watch: Watched) -> None:
    watch.post(0.1, measured_at=ago(-200))
    assert watch.post(0.9, measured_at=ago(0)).outcome == "kept"
    assert len(watch.alarms()) == 1
    assert watch.trend()[0].measured_at > datetime.now(UTC)


def test_windows_of_a_list_end_one_after_the_other_at_the_time_they_were_measured(tmp_path: Path) -> None:
    with watching(Settings(var_dir=tmp_path, vibration_on_delay_seconds=3)) as watch:
        end = ago(60)
        watch.post(*[0.9] * 6, measured_at=end)
        (alarm,) = watch.alarms()
        assert abs(alarm.raised_at - (end - timedelta(seconds=2))) < timedelta(seconds=1)
        assert [round((end - each.measured_at).total_seconds()) for each in watch.trend()] == list(range(6))


def test_of_a_list_only_what_is_late_is_left_out(watch: Watched) -> None:
    newest = ago(60)
    watch.post(0.1, measured_at=newest)
    watch.post(0.9, 0.9, 0.9, 0.1, measured_at=newest + timedelta(seconds=0.5))
    assert watch.alarms() == [], "the abnormal ones ended before"
    assert [each.late for each in watch.trend()] == [False, False, True, True, True]


def test_a_window_that_another_process_overtakes_is_late(watch: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = watch.watch.trend.judged_until

    def overtaken(sensor: Sensor) -> tuple[datetime | None, datetime | None]:
        seen = looked(sensor)
        monkeypatch.undo()
        watch.post(0.1, measured_at=ago(10))
        return seen

    monkeypatch.setattr(watch.watch.trend, "judged_until", overtaken)
    assert watch.post(0.9, measured_at=ago(20)).outcome == "late"
    assert watch.alarms() == []
    assert len(watch.trend()) == 2


def test_times_of_the_request_are_evidence_too(watch: Watched) -> None:
    watch.post(0.9, measured_at=ago(1), channel="drive end", record_id="r1")
    window = watch.office.evidence.read(watch.alarms()[0].evidence[0])
    with np.load(io.BytesIO(window), allow_pickle=False) as kept:
        assert datetime.fromisoformat(str(kept["posted_measured_at"])) < datetime.now(UTC)
        assert (str(kept["posted_channel"]), str(kept["posted_record_id"])) == ("drive end", "r1")
