"""Assets under watch: a baseline's verdicts that last become one alarm with the window as evidence."""

from __future__ import annotations

import io
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from almenara.alarms import Phase
from almenara.contracts import ModelRef
from almenara.errors import InputError
from almenara.settings import Settings
from almenara_api.signals import VibrationParameters
from tests.support.api import wait_until
from tests.support.watched import WINDOW, Watched, verdict, watching


def test_an_anomaly_that_lasts_raises_one_alarm(watch: Watched) -> None:
    for _ in range(3):
        watch.observe("pump-1", WINDOW, verdict(0.9))
    (alarm,) = watch.alarms()
    assert (alarm.source, alarm.kind, alarm.score, alarm.reason) == (
        "pump-1",
        "vibration",
        0.9,
        "envelope shows BPFI",
    )
    assert alarm.model == ModelRef(name="baseline", version="1")


def test_without_a_baseline_nothing_is_observed(watch: Watched) -> None:
    watch.observe("pump-1", WINDOW, verdict(None))
    assert watch.alarms() == []


def test_a_normal_window_raises_nothing(watch: Watched) -> None:
    watch.observe("pump-1", WINDOW, verdict(0.2))
    assert watch.alarms() == []


def test_the_on_delay_comes_from_the_settings(tmp_path: Path) -> None:
    with watching(Settings(var_dir=tmp_path, vibration_on_delay_seconds=60)) as watch:
        watch.observe("pump-1", WINDOW, verdict(0.9))
        watch.observe("pump-1", WINDOW, verdict(0.9))
        assert watch.alarms() == []


def test_an_asset_that_sends_no_window_for_too_long_is_unknown(tmp_path: Path) -> None:
    with watching(Settings(var_dir=tmp_path, vibration_stale_seconds=1)) as watch:
        watch.observe("pump-1", WINDOW, verdict(0.2))
        assert watch.office.store.phase("pump-1") is Phase.NORMAL
        wait_until(lambda: watch.office.store.phase("pump-1") is Phase.UNKNOWN, 30)


def test_windows_of_one_batch_satisfy_the_on_delay_by_their_own_length(tmp_path: Path) -> None:
    with watching(Settings(var_dir=tmp_path, vibration_on_delay_seconds=3)) as watch:
        arrived, at = time.monotonic(), datetime.now(UTC)
        for second in range(-9, 1):
            watch.observe("pump-1", WINDOW, verdict(0.9), ended=arrived + second)
        (alarm,) = watch.alarms()
        assert abs(alarm.raised_at - (at - timedelta(seconds=6))) < timedelta(seconds=1)


def test_the_window_its_spectrum_and_its_verdict_are_kept(watch: Watched) -> None:
    watch.observe("pump-1", WINDOW, verdict(0.9))
    window, written = (watch.office.evidence.read(file) for file in watch.alarms()[0].evidence)
    assert json.loads(written)["reason"] == "envelope shows BPFI"
    with np.load(io.BytesIO(window), allow_pickle=False) as kept:
        np.testing.assert_array_equal(kept["signal"], WINDOW.signal)
        assert kept["sampling_rate_hz"] == 12_000
        assert kept["posted_shaft_rpm"] == 1772
        peak_hz = kept["frequency_hz"][kept["amplitude"].argmax()]
    assert 2700 < peak_hz < 3300, "the ringing of the impacts"


@pytest.mark.parametrize("asset", ["../../etc", "a/b", "..", "pump 1; rm", "x" * 200])
def test_evidence_stays_below_its_folder_whatever_the_asset_is_called(
    watch: Watched, settings: Settings, asset: str
) -> None:
    watch.observe(asset, WINDOW, verdict(0.9))
    assert len(watch.alarms()[0].evidence) == 2
    for file in watch.alarms()[0].evidence:
        assert Path(file.uri).resolve().is_relative_to(settings.evidence_dir / "vibration")


def test_evidence_that_cannot_be_written_does_not_hold_the_alarm_back(watch: Watched, settings: Settings) -> None:
    settings.evidence_dir.parent.mkdir(parents=True, exist_ok=True)
    settings.evidence_dir.write_text("a file where the folder should be")
    watch.observe("pump-1", WINDOW, verdict(0.9))
    (alarm,) = watch.alarms()
    assert alarm.evidence == ()
    assert "no window" in alarm.note


def test_the_alarm_reaches_the_log_channel(watch: Watched, tmp_path: Path) -> None:
    watch.observe("pump-1", WINDOW, verdict(0.9))
    log = tmp_path / "alarms" / "alarms.log"
    wait_until(lambda: log.is_file() and log.read_text().endswith("\n"), 30)
    told = json.loads(log.read_text().splitlines()[0])
    assert (told["event"], told["alarm"]["source"]) == ("raised", "pump-1")


def test_every_verdict_joins_the_trend_also_without_a_baseline(watch: Watched) -> None:
    assert watch.post(None, record_id="r1").outcome == "kept"
    assert watch.post(0.9, channel="drive end").outcome == "kept"
    newest, oldest = watch.trend()
    assert (newest.channel, oldest.channel, oldest.record_id) == ("drive end", None, "r1")
    assert oldest.novelty is None
    assert newest.novelty is not None
    assert abs(newest.measured_at - newest.received_at) < timedelta(seconds=5)
    assert len(watch.alarms()) == 1


def test_a_new_channel_of_an_asset_that_has_too_many_moves_no_alarm(
    watch: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("almenara_api.trend._CHANNELS", 3)
    for channel in ("a", "b", "c"):
        watch.post(0.1, channel=channel)
    with pytest.raises(InputError) as refused:
        watch.post(0.9, 0.9, channel="d")
    assert refused.value.code == "channels-too-many"
    assert watch.alarms() == []
    assert watch.office.unhealthy() is None, "the database has not failed"
    assert watch.post(0.9, channel="c").outcome == "kept"
    assert watch.post(0.9, asset="pump-2", channel="d").outcome == "kept"
    [asset] = watch.watch.trend.assets(limit=1)
    assert [each.channel for each in asset.channels] == ["a", "b", "c"]


@pytest.mark.parametrize("told", [{"unit": "g\0"}, {"bearing": "6205\0"}, {"unit": "g\n"}])
def test_what_no_database_can_keep_is_refused(told: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="should match pattern"):
        VibrationParameters.model_validate(told)


def test_of_many_assets_at_once_so_many_readings_are_kept(tmp_path: Path) -> None:
    pumps = [f"pump-{number}" for number in range(25)]
    with watching(Settings(var_dir=tmp_path, trend_rows=2)) as watch:
        for pump in pumps:
            watch.post(None, None, None, asset=pump)
        watch.watch.prune(datetime.now(UTC))
        assert {len(watch.watch.trend.readings(pump)) for pump in pumps} == {2}
