"""The heartbeat of a whole worker: it beats while its camera is scored, and not while it is blind."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.brokers import Receiver
from tests.support.camera import wait_for
from tests.support.worker import worker_rig

pytestmark = pytest.mark.slow


def test_a_worker_whose_camera_is_blind_does_not_beat(tmp_path: Path) -> None:
    alarms = tmp_path / "alarms.yaml"
    with Receiver() as watcher, worker_rig(tmp_path) as rig:
        alarms.write_text(f"heartbeat: {{url: '{watcher.url}/beat', every: 1s}}")
        rig.run(rig.text(head=f"alarms_file: {alarms}"))
        wait_for(lambda: len(watcher.requests) >= 2, 20, "two beats")
        rig.camera.stop()
        wait_for(lambda: rig.worker.blindness, 10, "a blind camera")
        time.sleep(1)  # a beat may be on its way
        beats = len(watcher.requests)
        time.sleep(2.5)
        assert len(watcher.requests) == beats
        rig.camera.start()
        wait_for(lambda: len(watcher.requests) > beats, 20, "a beat")
        assert rig.stop() == 0
