"""A verdict decides what is kept as normal, and the last verdict counts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from almenara.alarms import Rule
from almenara.alarms.vocabulary import Verdict
from almenara.contracts import Observation
from almenara.settings import Settings
from almenara_api.alarm_bodies import Acknowledgement
from almenara_api.metrics import Metrics
from almenara_api.routes import alarms
from almenara_api.services import Services
from tests.support.api import NOWHERE


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
