"""Assets under watch: a baseline's verdicts that last become one alarm with the window as evidence."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sqlalchemy import func, select, update
from sqlalchemy.exc import OperationalError

from almenara.alarms import AlarmRecord, Phase, tables
from almenara.alarms.office import AlarmOffice
from almenara.contracts import ModelRef, Novelty, VibrationVerdict
from almenara.errors import InputError
from almenara.settings import Settings
from almenara_api.assets import Answer, AssetWatch
from almenara_api.evidence import Window
from almenara_api.metrics import Metrics
from almenara_api.repeats import Claim, RepeatedError
from almenara_api.services import open_office
from almenara_api.signals import Posted, VibrationParameters
from almenara_api.trend import OvertakenError, Reading, Sensor
from tests.support.api import faulty_signal, wait_until
from tests.support.postgresql import postgresql_server

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


def written(verdicts: tuple[VibrationVerdict, ...]) -> str:
    return json.dumps([[each.rms, each.quality] for each in verdicts])


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(var_dir=tmp_path, vibration_on_delay_seconds=0)


class Watched:
    """An asset watch with its office."""

    def __init__(self, settings: Settings, office: AlarmOffice) -> None:
        self.office = office
        self.watch = AssetWatch(office, settings, Metrics())
        self.observe = self.watch.observe

    def alarms(self) -> list[AlarmRecord]:
        return self.office.store.alarms()

    def post(self, *anomalies: float | None, claim: Claim | None = None, **told: Any) -> Answer:
        """What the route does with the verdicts on a request's windows of one second."""
        parameters = VibrationParameters(**{"asset": "pump-1", **told})
        posted = Posted((WINDOW.signal,) * len(anomalies), len(anomalies) > 1, 12_000, parameters)
        verdicts = tuple(map(verdict, anomalies))
        return self.watch.keep(posted, verdicts, time.monotonic(), claim, written)

    def trend(self) -> list[Reading]:
        return self.watch.trend.readings("pump-1")

    def answers(self) -> int:
        with self.office.store.engine.begin() as connection:
            return int(connection.execute(select(func.count()).select_from(tables.asset_answers)).scalar_one())

    def phase(self) -> Phase:
        return self.office.store.phase("pump-1")


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


CLAIM = Claim("1" * 64, "2" * 64)


def test_every_verdict_joins_the_trend_also_without_a_baseline(watch: Watched) -> None:
    assert watch.post(None, record_id="r1").outcome == "kept"
    assert watch.post(0.9, channel="drive end").outcome == "kept"
    newest, oldest = watch.trend()
    assert (newest.channel, oldest.channel, oldest.record_id) == ("drive end", None, "r1")
    assert oldest.novelty is None
    assert newest.novelty is not None
    assert abs(newest.measured_at - newest.received_at) < timedelta(seconds=5)
    assert len(watch.alarms()) == 1


def test_a_repeat_gets_the_first_answer_and_moves_no_alarm(watch: Watched) -> None:
    first = watch.post(0.2, claim=CLAIM)
    again = watch.post(0.9, claim=CLAIM)
    assert (first.outcome, again.outcome) == ("kept", "replayed")
    assert again.content == first.content
    assert watch.alarms() == []
    assert len(watch.trend()) == 1


def test_a_repeat_of_a_list_moves_no_alarm_either(tmp_path: Path) -> None:
    at_once = Settings(
        var_dir=tmp_path,
        vibration_on_delay_seconds=0,
        vibration_off_delay_seconds=0,
        vibration_cooldown_seconds=0,
    )
    with watching(at_once) as watch:
        first = watch.post(0.9, 0.1, claim=CLAIM)
        assert watch.phase() is Phase.RETURNED_UNACKNOWLEDGED
        again = watch.post(0.9, 0.1, claim=CLAIM)
        assert (again.content, again.outcome) == (first.content, "replayed")
        assert watch.phase() is Phase.RETURNED_UNACKNOWLEDGED
        assert len(watch.trend()) == 2


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


def test_another_request_with_the_same_key_moves_no_alarm_either(watch: Watched) -> None:
    watch.post(0.2, claim=CLAIM)
    with pytest.raises(InputError) as refused:
        watch.post(0.9, claim=Claim(CLAIM.id, "3" * 64))
    assert refused.value.code == "idempotency-mismatch"
    assert watch.alarms() == []
    assert watch.office.unhealthy() is None, "the database has not failed"


def test_repeats_at_the_same_moment_raise_one_alarm_and_agree(watch: Watched) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = [future.result() for future in [pool.submit(watch.post, 0.9, claim=CLAIM) for _ in range(4)]]
    assert sorted(str(each.outcome) for each in answers) == ["kept", *["replayed"] * 3]
    assert len({each.content for each in answers}) == 1
    assert len(watch.alarms()) == len(watch.trend()) == 1


def test_nothing_is_kept_of_a_request_whose_alarm_cannot_be_written(
    watch: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("INSERT", {}, Exception("disk I/O error"))

    with monkeypatch.context() as broken:
        broken.setattr(watch.watch.answers, "add", fail)
        with pytest.raises(OperationalError):
            watch.post(0.9, claim=CLAIM)
    assert watch.alarms() == []
    assert watch.trend() == []
    assert "disk I/O error" in str(watch.office.unhealthy())
    assert watch.post(0.9, claim=CLAIM).outcome == "kept"
    assert len(watch.alarms()) == 1
    assert watch.office.unhealthy() is None


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


@pytest.mark.parametrize("refusal", [RepeatedError, OvertakenError])
def test_a_refused_window_leaves_no_trace_of_an_alarm(watch: Watched, refusal: type[Exception]) -> None:
    def refuse(_: object) -> None:
        raise refusal

    with pytest.raises(refusal):
        watch.observe("pump-1", WINDOW, verdict(0.9), also=refuse)
    assert watch.alarms() == []
    assert watch.office.store.pending_deliveries() == []


@pytest.mark.slow
def test_two_services_on_one_postgresql_keep_each_request_once(tmp_path: Path) -> None:
    requests, assets = 200, 6

    def post(watch: Watched, number: int) -> Answer:
        told: dict[str, Any] = {"asset": f"pump-{number % assets}", "channel": f"sensor {number % 4}"}
        if number > requests / 2:
            told["measured_at"] = ago(0)
        anomaly = 0.9 if number < assets else None if number % 5 == 0 else 0.1
        return watch.post(anomaly, claim=Claim(f"{number:064}", "2"), **told)

    with ExitStack() as stack:
        url = stack.enter_context(postgresql_server())
        folders = (tmp_path / "a", tmp_path / "b")
        settings = [Settings(var_dir=folder, alarms_url=url, vibration_on_delay_seconds=0) for folder in folders]
        watches = [stack.enter_context(watching(each)) for each in settings]
        pool = stack.enter_context(ThreadPoolExecutor(8))
        futures = [[pool.submit(post, watch, number) for watch in watches] for number in range(requests)]
        answers = [[future.result() for future in pair] for pair in futures]
        kept = [len(watches[0].watch.trend.readings(f"pump-{number}")) for number in range(assets)]
        alarms = watches[1].alarms()
    for pair in answers:
        assert [each.outcome for each in pair].count("replayed") == 1
        assert pair[0].content == pair[1].content
    assert sum(kept) == requests
    assert len(alarms) == assets


def test_times_of_the_request_are_evidence_too(watch: Watched) -> None:
    watch.post(0.9, measured_at=ago(1), channel="drive end", record_id="r1")
    window = watch.office.evidence.read(watch.alarms()[0].evidence[0])
    with np.load(io.BytesIO(window), allow_pickle=False) as kept:
        assert datetime.fromisoformat(str(kept["posted_measured_at"])) < datetime.now(UTC)
        assert (str(kept["posted_channel"]), str(kept["posted_record_id"])) == ("drive end", "r1")


def test_what_is_old_is_forgotten_in_the_background(tmp_path: Path) -> None:
    with watching(Settings(var_dir=tmp_path, trend_rows=2, repeat_seconds=60)) as watch:
        for number in range(4):
            watch.post(None, claim=Claim(str(number), "2"))
        with watch.office.store.engine.begin() as connection:
            connection.execute(update(tables.asset_answers).values(at=ago(120)))
        watch.watch.start()
        wait_until(lambda: len(watch.trend()) == 2 and not watch.answers(), 30)
        watch.watch.close()


def test_what_is_old_is_forgotten_though_the_rest_cannot_be_counted(
    watch: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> list[str]:
        raise OperationalError("SELECT", {}, Exception("canceling statement due to statement timeout"))

    watch.post(None, claim=CLAIM)
    monkeypatch.setattr(watch.watch.trend, "overfull", fail)
    with pytest.raises(OperationalError):
        watch.watch.prune(datetime.now(UTC) + timedelta(days=10_000))
    assert watch.trend() == []
    assert watch.answers() == 0


def test_of_many_assets_at_once_so_many_readings_are_kept(tmp_path: Path) -> None:
    pumps = [f"pump-{number}" for number in range(25)]
    with watching(Settings(var_dir=tmp_path, trend_rows=2)) as watch:
        for pump in pumps:
            watch.post(None, None, None, asset=pump)
        watch.watch.prune(datetime.now(UTC))
        assert {len(watch.watch.trend.readings(pump)) for pump in pumps} == {2}
