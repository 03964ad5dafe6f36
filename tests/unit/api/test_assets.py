"""Assets under watch: a baseline's verdicts that last become one alarm with the window as evidence."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from almenara.alarms import AlarmRecord, Phase
from almenara.alarms.office import AlarmOffice
from almenara.contracts import ModelRef, Novelty, VibrationVerdict
from almenara.settings import Settings
from almenara_api.assets import AssetWatch
from almenara_api.evidence import Window
from almenara_api.metrics import Metrics
from almenara_api.services import open_office
from tests.support.api import faulty_signal, wait_until

WINDOW = Window(faulty_signal(0), 12_000, {"shaft_rpm": 1772.0, "unit": "g"})


def verdict(anomaly: float | None) -> VibrationVerdict:
    novelty = None
    if anomaly is not None:
        novelty = Novelty(
            model=ModelRef(name="baseline", version="1"),
            label="anomaly" if anomaly >= 0.5 else "normal",
            score=anomaly,
            anomaly=anomaly,
            p_value=0.01,
            threshold=0.5,
        )
    return VibrationVerdict(
        model=ModelRef(name="bearing", version="1"),
        label="inner_race",
        probabilities={"inner_race": 1},
        abstained=False,
        novelty=novelty,
        windows=1,
        rms=0.1,
        reason="envelope shows BPFI",
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(var_dir=tmp_path, vibration_on_delay_seconds=0)


class Watched:
    """An asset watch with its office."""

    def __init__(self, settings: Settings, office: AlarmOffice) -> None:
        self.office = office
        self.observe = AssetWatch(office, settings, Metrics()).observe

    def alarms(self) -> list[AlarmRecord]:
        return self.office.store.alarms()


@contextmanager
def watching(settings: Settings) -> Iterator[Watched]:
    with open_office(settings) as office:
        yield Watched(settings, office)


@pytest.fixture
def watch(settings: Settings) -> Iterator[Watched]:
    with watching(settings) as watched:
        yield watched


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
        wait_until(lambda: watch.office.store.phase("pump-1") is Phase.UNKNOWN, 5)


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
    wait_until(lambda: log.is_file() and log.read_text().endswith("\n"), 5)
    told = json.loads(log.read_text().splitlines()[0])
    assert (told["event"], told["alarm"]["source"]) == ("raised", "pump-1")
