"""A verdict decides what is kept as normal, and the last verdict counts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from almenara.alarms import AlarmStore, Rule
from almenara.alarms.vocabulary import Verdict
from almenara.contracts import Observation
from almenara.settings import Settings
from almenara_api import judging
from almenara_api.alarm_bodies import Acknowledgement
from almenara_api.metrics import Metrics
from almenara_api.routes import alarms
from almenara_api.services import Services
from tests.support.api import NOWHERE, reported


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    started = Services.start(Settings(var_dir=tmp_path, mlflow_tracking_uri=NOWHERE), Metrics())
    yield started
    started.close()


def test_a_picture_of_a_corrected_verdict_is_no_normal_any_more(services: Services) -> None:
    office = services.office
    observation = Observation(
        source="outflow", kind="vision", anomaly=0.9, reason="a scratch", observed_at=datetime.now(UTC)
    )
    now = datetime.now(UTC).timestamp()
    save = lambda: office.evidence.save("outflow/1", {"frame.jpg": b"picture"})  # noqa: E731
    office.store.observe(observation, Rule(on_delay_seconds=0), now=now, evidence=save)
    [alarm] = office.store.alarms()

    def kept_after(verdict: Verdict) -> list[bytes]:
        asyncio.run(alarms.acknowledge(services, alarm.id, Acknowledgement(user="eva", verdict=verdict)))
        return [path.read_bytes() for path in services.normals.rglob("*.jpg")]

    assert kept_after("false_alarm") == [b"picture"]
    assert kept_after("true_alarm") == []
    assert kept_after("false_alarm") == [b"picture"]


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AlarmStore]:
    with AlarmStore(f"sqlite:///{tmp_path / 'alarms.db'}", wall_clock=lambda: NOON) as store:
        yield store


def test_figures_count_from_the_first_that_the_record_knows(store: AlarmStore) -> None:
    begins = NOON - timedelta(hours=2)
    store.merge([reported("outflow", NOON - timedelta(hours=1))])
    store.merge([reported("inflow", begins)])
    day = judging.figures(store, NOON - timedelta(hours=24), NOON, 1)
    assert (day.known_since, day.alarms_per_operator_hour) == (begins, 1)
    hour = judging.figures(store, NOON - timedelta(hours=1), NOON, 1)
    assert (hour.known_since, hour.alarms_per_operator_hour) == (None, 1)


def test_record_whose_beginning_was_forgotten_is_older_than_every_period(store: AlarmStore) -> None:
    long_ago = NOON - timedelta(days=100)
    for number, anomaly in enumerate((0.9, 0.1)):  # pending, cancelled: of no alarm
        seen = Observation(source="outflow", kind="vision", anomaly=anomaly, reason="", observed_at=long_ago)
        store.observe(seen, Rule(on_delay_seconds=5), now=float(number))
    store.merge([reported("outflow", NOON - timedelta(hours=1))])
    store.prune(NOON + timedelta(days=1))
    assert store.changes_after(0)[0][0] > 1
    figures = judging.figures(store, NOON - timedelta(hours=24), NOON, 1)
    assert (figures.known_since, figures.alarms_per_operator_hour) == (None, 1 / 24)


def test_figures_of_a_record_that_knows_nothing_are_of_the_whole_period(store: AlarmStore) -> None:
    assert judging.figures(store, NOON - timedelta(hours=24), NOON, 1).known_since is None
