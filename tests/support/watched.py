"""An asset watch with its office, given verdicts instead of windows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from almenara.alarms import AlarmRecord, Phase, tables
from almenara.alarms.office import AlarmOffice
from almenara.contracts import ModelRef, Novelty, Reading, VibrationVerdict
from almenara.settings import Settings
from almenara_api.assets import Answer, AssetWatch
from almenara_api.evidence import Window
from almenara_api.metrics import Metrics
from almenara_api.repeats import Claim
from almenara_api.services import open_office
from almenara_api.signals import Posted, VibrationParameters
from tests.support.api import faulty_signal

WINDOW = Window(faulty_signal(0), 12_000, {"shaft_rpm": 1772.0, "unit": "g"})
CLAIM = Claim("1" * 64, "2" * 64)


def verdict(anomaly: float | None) -> VibrationVerdict:
    """One whose baseline gave this anomaly, out of 1; without a baseline if None."""
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
    """An answer as the route would write it."""
    return json.dumps([[each.rms, each.quality] for each in verdicts])


def ago(seconds: float) -> datetime:
    """The time so many seconds before now."""
    return datetime.now(UTC) - timedelta(seconds=seconds)


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
