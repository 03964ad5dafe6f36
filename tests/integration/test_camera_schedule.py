"""A camera with hours: connected inside them, paused outside, never called blind for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from almenara.alarms import Change, Phase
from camera_worker.alarming import AlarmDesk
from camera_worker.camera import Camera, CameraState
from camera_worker.client import VisionClient
from camera_worker.config import parse_config
from tests.support.camera import wait_for
from tests.support.worker import Rig, worker_rig

pytestmark = pytest.mark.slow

HOURS = 'schedule: {time_zone: Europe/Madrid, active: ["mon-fri 06:00-22:00"]}'
OPENS = datetime(2026, 7, 6, 4, 0, tzinfo=UTC)  # a Monday, 06:00 in Madrid


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with worker_rig(tmp_path) as made:
        yield made


class Clock:
    """Goes on from where it is set."""

    def __init__(self, moment: datetime) -> None:
        self.set(moment)

    def set(self, moment: datetime) -> None:
        self._offset = moment - datetime.now(UTC)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self._offset


async def until(condition: Callable[[], bool], seconds: float) -> float:
    """Seconds until it held."""
    start = time.monotonic()
    await asyncio.to_thread(wait_for, condition, seconds)
    return time.monotonic() - start


def test_a_camera_is_paused_outside_its_hours_and_not_connected(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock(OPENS - timedelta(seconds=1.5))

    async def watch(desk: AlarmDesk) -> None:
        config = parse_config(rig.text(HOURS), name="test").cameras[0]
        async with VisionClient(rig.api.url) as client:
            camera = Camera(config, client, alarms=desk.sink(config), clock=clock)
            task = asyncio.create_task(camera.run())
            await until(lambda: camera.state is CameraState.PAUSED, 1)
            await asyncio.sleep(0.5)
            assert camera.reason == "outside its schedule"
            assert not camera.capture.alive
            assert camera.sighting(time.monotonic()) is None
            assert await until(lambda: camera.state is CameraState.LIVE, 4) < 1 + 2.5
            await until(lambda: camera.counters.scored > 0, 2)
            capture = camera.capture
            clock.set(OPENS + timedelta(hours=16, seconds=-0.5))
            assert await until(lambda: camera.state is CameraState.PAUSED, 3) < 0.5 + 1
            await until(lambda: not capture.alive, 2)
            assert camera.retired == [capture]
            await asyncio.sleep(1.2)
            assert camera.blindness is None
            assert camera.sighting(time.monotonic()) is None
            clock.set(OPENS + timedelta(days=1))
            scored = camera.counters.scored
            await until(lambda: camera.counters.scored > scored, 4)
            camera.stop()
            await task

    with caplog.at_level(logging.INFO), AlarmDesk(rig.var) as desk:
        rig.loop.run(watch(desk))
        lost = [each for each in desk.store.transitions("outflow") if each.change is Change.LOST]
    assert [each.reason for each in lost] == ["outside its schedule"]
    assert "is paused: outside its schedule" in caplog.text
    assert "nothing can be scored" not in caplog.text


def test_a_paused_worker_raises_nothing_and_ends_at_once(rig: Rig) -> None:
    later = (datetime.now(UTC) + timedelta(hours=3)).strftime("%a %H:00").lower()
    day, opens = later.split()
    closes = f"{int(opens[:2]) + 1:02}:00"
    hours = f'schedule: {{active: ["{day} {opens}-{closes}"]}}'
    rig.run(rig.text(hours, head="blind_after: 1s"))
    wait_for(rig.is_in(CameraState.PAUSED), 2)
    time.sleep(2.5)
    assert rig.store.phase("outflow") is Phase.UNKNOWN
    assert rig.alarms == []
    started = time.monotonic()
    assert rig.stop() == 0
    assert time.monotonic() - started < 2
