"""Trends and answers in the alarm database: what is kept, in what order it is read, and what is forgotten."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from almenara.alarms.database import open_database
from almenara.contracts import ModelRef, Novelty, Peak, Reading, VibrationVerdict
from almenara.errors import InputError
from almenara_api.repeats import Answers, Claim, RepeatedError
from almenara_api.trend import Entry, OvertakenError, Sensor, Trend
from tests.support.postgresql import postgresql_server

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
_number = itertools.count()


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if request.param == "postgresql":
        with postgresql_server() as url:
            opened = open_database(url)
            yield opened
            opened.dispose()
    else:
        opened = open_database(f"sqlite:///{tmp_path_factory.mktemp('trend') / 'api.db'}")
        yield opened
        opened.dispose()


@pytest.fixture
def trend(engine: Engine) -> Trend:
    return Trend(engine, keep_days=30, keep_rows=10_000)


@pytest.fixture
def pump() -> Sensor:
    return Sensor(f"pump {next(_number):03}", "drive end")


def verdict(anomaly: float | None = None, label: str = "inner_race", unit: str | None = "g") -> VibrationVerdict:
    peaks = [
        Peak(
            band="0.5-2 kHz", name="BPFI", harmonic=n, order=5.4 * n, frequency_hz=160 * n, snr_db=12 - n, matched=True
        )
        for n in (1, 2)
    ]
    novelty = None
    if anomaly is not None:
        novelty = Novelty(
            model=ModelRef(name="baseline", version="3"),
            label="anomaly" if anomaly >= 0.5 else "normal",
            score=anomaly * 10,
            anomaly=anomaly,
            p_value=0.01,
            threshold=5,
        )
    return VibrationVerdict(
        model=ModelRef(name="bearing", version="7", alias="champion"),
        label=label,
        probabilities={"inner_race": 0.9, "normal": 0.1},
        abstained=False,
        novelty=novelty,
        evidence=tuple(peaks),
        quality=("low_resolution",),
        windows=2,
        rms=0.25,
        unit=unit,
        reason="envelope shows BPFI",
    )


def add(
    engine: Engine,
    trend: Trend,
    sensor: Sensor,
    *seconds: float,
    anomaly: float | None = None,
    late: bool = False,
    in_turn: bool = True,
    received_at: datetime | None = None,
) -> None:
    """Keep a verdict measured so many seconds after noon, each in a transaction of its own."""
    for second in seconds:
        at = NOON + timedelta(seconds=second)
        with engine.execution_options(writes=True).begin() as connection:
            trend.add(
                connection,
                sensor,
                [Entry(verdict(anomaly), at, late)],
                received_at=received_at or at + timedelta(seconds=1),
                record_id=f"record {second:g}",
                in_turn=in_turn,
            )


def seconds_of(readings: Sequence[Reading]) -> list[float]:
    return [(each.measured_at - NOON).total_seconds() for each in readings]


def test_a_reading_keeps_what_the_verdict_says_of_the_condition(engine: Engine, trend: Trend, pump: Sensor) -> None:
    add(engine, trend, pump, 0.25, anomaly=0.7)
    [reading] = trend.readings(pump.asset)
    said = verdict(0.7)
    assert (reading.asset, reading.channel, reading.record_id) == (pump.asset, "drive end", "record 0.25")
    assert reading.measured_at == NOON + timedelta(seconds=0.25)
    assert reading.received_at == NOON + timedelta(seconds=1.25)
    assert (reading.model, reading.novelty, reading.quality) == (said.model, said.novelty, said.quality)
    assert (reading.label, reading.probability, reading.rms, reading.unit) == ("inner_race", 0.9, 0.25, "g")
    assert reading.snr_db == {"BPFI": 11.0}, "of the fundamental"
    assert not reading.late


def test_readings_come_newest_first_and_their_pages_hold_each_once(engine: Engine, trend: Trend, pump: Sensor) -> None:
    times = [0, 5, 5, 5, 3, 9, 1, 5]
    add(engine, trend, pump, *times, in_turn=False)
    pages, before = [], None
    while page := trend.readings(pump.asset, limit=3, before=before):
        pages += page
        before = page[-1].measured_at, page[-1].id
    assert seconds_of(pages) == sorted(times, reverse=True)
    assert len({each.id for each in pages}) == len(times)


def test_readings_are_chosen_by_channel_and_time(engine: Engine, trend: Trend, pump: Sensor) -> None:
    unnamed = Sensor(pump.asset, "")
    add(engine, trend, pump, 1, 2, 3)
    add(engine, trend, unnamed, 4)
    since, until = NOON + timedelta(seconds=2), NOON + timedelta(seconds=3)
    assert seconds_of(trend.readings(pump.asset, since=since, until=until)) == [2]
    assert seconds_of(trend.readings(pump.asset, channel="drive end")) == [3, 2, 1]
    [reading] = trend.readings(pump.asset, channel="")
    assert reading.channel is None
    assert trend.readings("an asset that is not known") == []


def test_what_is_older_than_its_channels_newest_is_refused_in_turn(engine: Engine, trend: Trend, pump: Sensor) -> None:
    add(engine, trend, pump, 10)
    add(engine, trend, pump, 10)
    with pytest.raises(OvertakenError):
        add(engine, trend, pump, 9)
    add(engine, trend, Sensor(pump.asset, "fan end"), 9)
    add(engine, trend, pump, 8, late=True)
    add(engine, trend, pump, 7, in_turn=False)
    assert seconds_of(trend.readings(pump.asset)) == [10, 10, 9, 8, 7]
    fan, newest = trend.judged_until(Sensor(pump.asset, "fan end"))
    assert (fan, newest) == (NOON + timedelta(seconds=9), NOON + timedelta(seconds=10))


def test_a_clock_that_is_ahead_does_not_make_others_late(engine: Engine, trend: Trend, pump: Sensor) -> None:
    add(engine, trend, pump, 200, received_at=NOON)
    assert trend.judged_until(pump) == (NOON, NOON)
    assert trend.judged_until(Sensor("nothing known", "")) == (None, None)


def test_assets_tell_their_channels_and_their_newest_anomaly(engine: Engine, trend: Trend, pump: Sensor) -> None:
    fan = Sensor(pump.asset, "fan end")
    add(engine, trend, fan, 20, anomaly=0.4)
    add(engine, trend, pump, 10, anomaly=0.9)
    add(engine, trend, fan, 15, anomaly=0.8, late=True, received_at=NOON + timedelta(seconds=30))
    listed = trend.assets(after=pump.asset[:-1])
    asset = next(each for each in listed if each.asset == pump.asset)
    assert (asset.anomaly, asset.seen_at) == (0.4, NOON + timedelta(seconds=30))
    assert [(each.channel, each.anomaly) for each in asset.channels] == [("drive end", 0.9), ("fan end", 0.4)]
    names = [each.asset for each in listed]
    assert names == sorted(names)
    assert all(each.asset > pump.asset for each in trend.assets(after=pump.asset))
    assert len(trend.assets(limit=1)) == 1


def prune(engine: Engine, trend: Trend | Answers, now: datetime) -> int:
    """The number of steps that it takes."""
    for step in itertools.count(1):
        with engine.execution_options(writes=True).begin() as connection:
            if not trend.prune(connection, now):
                return step
    raise AssertionError


def trim(engine: Engine, trend: Trend, sensor: Sensor) -> bool:
    with engine.execution_options(writes=True).begin() as connection:
        return trend.trim(connection, sensor.asset)


def test_old_readings_are_forgotten(engine: Engine, trend: Trend, pump: Sensor) -> None:
    day, gone = 86_400, Sensor(f"{pump.asset} gone", "")
    add(engine, trend, gone, -31 * day)
    add(engine, trend, pump, -31 * day, -29 * day, 0)
    prune(engine, trend, NOON)
    assert seconds_of(trend.readings(pump.asset)) == [0, -29 * day]
    names = {each.asset for each in trend.assets(limit=1000)}
    assert pump.asset in names
    assert gone.asset not in names


def test_of_an_asset_so_many_readings_are_kept(engine: Engine, pump: Sensor) -> None:
    trend, other = Trend(engine, keep_days=3650, keep_rows=5), Sensor(f"{pump.asset} b", "")
    add(engine, trend, other, *range(5))
    add(engine, trend, pump, *range(4), *([6] * 4), in_turn=False)
    assert trend.overfull().count(pump.asset) == 1
    assert other.asset not in trend.overfull()
    assert [trim(engine, trend, pump), trim(engine, trend, other)] == [False, False]
    assert seconds_of(trend.readings(pump.asset)) == [6, 6, 6, 6, 3]
    assert len(trend.readings(other.asset)) == 5


def test_much_is_forgotten_in_small_steps(
    engine: Engine, trend: Trend, pump: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("almenara_api.trend._PRUNED", 4)
    add(engine, trend, pump, *(-40 * 86_400 + second for second in range(10)))
    assert prune(engine, trend, NOON) == 3
    assert trend.readings(pump.asset) == []
    add(engine, trend, pump, *range(10))
    short = Trend(engine, keep_days=30, keep_rows=1)
    assert [trim(engine, short, pump) for _ in range(3)] == [True, True, False]
    assert seconds_of(trend.readings(pump.asset)) == [9]


def test_a_label_is_kept_however_long_it_is(engine: Engine, trend: Trend, pump: Sensor) -> None:
    label = "inner race " * 40
    with engine.execution_options(writes=True).begin() as connection:
        entry = Entry(verdict(label=label), NOON, False)
        trend.add(connection, pump, [entry], received_at=NOON, record_id=None, in_turn=True)
    assert [each.label for each in trend.readings(pump.asset)] == [label]


def test_an_asset_has_room_for_so_many_channels(engine: Engine, trend: Trend, pump: Sensor) -> None:
    sensors = [Sensor(pump.asset, f"channel {number}") for number in range(65)]
    for sensor in sensors[:64]:
        trend.judged_until(sensor)
        add(engine, trend, sensor, 1)
    with pytest.raises(InputError) as refused:
        trend.judged_until(sensors[64])
    assert refused.value.code == "channels-too-many"
    assert trend.judged_until(sensors[63]) == (NOON + timedelta(seconds=1),) * 2


@pytest.fixture
def answers(engine: Engine) -> Answers:
    return Answers(engine, keep_seconds=3600)


def claim(name: str, body: bytes = b"samples", **query: str) -> Claim:
    return Claim.of(["line-2", "bearing", "key", name], list(query.items()), "application/octet-stream", body)


def give(engine: Engine, answers: Answers, claimed: Claim, answer: str, now: datetime = NOON) -> None:
    with engine.execution_options(writes=True).begin() as connection:
        answers.add(connection, claimed, answer, now)


def test_an_answer_is_found_again_until_its_time_is_over(engine: Engine, answers: Answers) -> None:
    first = claim("k1", asset="pump-1", unit="g")
    assert answers.find(first, NOON) is None
    give(engine, answers, first, '{"label":"normal"}')
    again = claim("k1", unit="g", asset="pump-1")
    assert answers.find(again, NOON + timedelta(seconds=3600)) == '{"label":"normal"}'
    with pytest.raises(RepeatedError):
        give(engine, answers, again, "another", NOON + timedelta(seconds=3600))
    later = NOON + timedelta(seconds=3601)
    assert answers.find(again, later) is None
    give(engine, answers, again, "new", later)
    assert answers.find(again, later) == "new"


@pytest.mark.parametrize("other", [claim("k2", b"others"), claim("k2", unit="g")])
def test_a_key_with_another_request_is_refused(engine: Engine, answers: Answers, other: Claim) -> None:
    if answers.find(claim("k2"), NOON) is None:
        give(engine, answers, claim("k2"), "first")
    with pytest.raises(InputError) as refused:
        answers.find(other, NOON)
    assert refused.value.code == "idempotency-mismatch"


def test_keys_of_different_callers_and_models_do_not_meet() -> None:
    identities = (["a", "b", "key", "k"], ["a", "c", "key", "k"], ["d", "b", "key", "k"], ["a", "b", "record", "k"])
    assert len({Claim.of(each, [], "", b"").id for each in identities}) == 4
    assert Claim.of(["ab", "c"], [], "", b"").id != Claim.of(["a", "bc"], [], "", b"").id


def test_of_many_at_once_one_is_first(engine: Engine, answers: Answers) -> None:
    begin, outcomes = threading.Barrier(4), []

    def run(name: str) -> None:
        begin.wait()
        try:
            give(engine, answers, claim("k3"), name)
        except RepeatedError:
            outcomes.append("repeated")
        else:
            outcomes.append(name)

    threads = [threading.Thread(target=run, args=(f"answer {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("repeated") == 3
    assert answers.find(claim("k3"), NOON) in outcomes


def test_old_answers_are_forgotten(engine: Engine, answers: Answers) -> None:
    give(engine, answers, claim("k4"), "old", NOON - timedelta(seconds=3601))
    give(engine, answers, claim("k5"), "new")
    prune(engine, answers, NOON)
    longer = Answers(engine, keep_seconds=86_400)
    assert longer.find(claim("k4"), NOON) is None
    assert longer.find(claim("k5"), NOON) == "new"
