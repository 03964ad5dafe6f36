"""Real pictures end to end: a sewage tank over RTSP, through worker, API and champion to an alarm with evidence."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from almenara.alarms import AlarmStore
from almenara.processes import answers, free_port
from almenara.registry import Registry
from almenara.training import Trainer
from almenara.vision.images import Sample
from tests.support.data import require_data
from tests.support.servers import api_server, running

pytestmark = pytest.mark.slow

BLOCK = 8


def frames(weather: str) -> list[Path]:
    """The tank's frames in the order they were taken."""
    folder = require_data("vision", "sludge_tank", weather)
    return sorted(folder.glob("*.jpg"), key=lambda path: int(path.stem.split("(")[1].rstrip(")")))


def closest_frame(picture: str, reel: Path) -> int:
    """Number of the reel's frame that a picture shows."""

    def small(path: str | Path) -> NDArray[np.float32]:
        pixels = np.asarray(cv2.imread(str(path)), dtype=np.uint8)
        return cv2.resize(pixels, (64, 48), interpolation=cv2.INTER_AREA).astype(np.float32)

    shown = small(picture)
    return int(np.argmin([np.abs(small(frame) - shown).mean() for frame in sorted(reel.glob("*.jpg"))]))


def test_rain_on_the_tank_raises_one_alarm_with_its_overlay(mlflow_address: str, tmp_path: Path) -> None:
    """Trained on daylight alone, the model takes the rainy frames for what they are to it: an anomaly that lasts."""
    daylight, rain = frames("daylight"), frames("rain")
    assert len(daylight) > 40
    assert len(rain) > 5
    held_out = daylight[-6:]
    samples = [
        Sample(file=file, label="good", mask=None, group=f"block-{index // BLOCK}")
        for index, file in enumerate(daylight[:-6])
    ]
    Trainer(Registry(mlflow_address), "tests").vision(samples, name="tank", false_alarm_rate=0.05)

    reel = tmp_path / "reel"
    reel.mkdir()
    for index, file in enumerate([*held_out, *rain[:12]]):
        shutil.copy(file, reel / f"{index:03d}.jpg")
    var, port = tmp_path / "var", free_port()
    camera_url = f"rtsp://127.0.0.1:{port}/cam"
    camera = [sys.executable, "-m", "camera_worker", "simulate", "--scene", f"folder:{reel}", "--port", str(port)]
    with api_server(tmp_path / "api", mlflow_address) as api:
        deadline = time.monotonic() + 60
        while not answers(f"{api}/health/ready"):
            assert time.monotonic() < deadline, "the API never became ready"
            time.sleep(0.5)
        camera_log = tmp_path / "camera.log"
        with running(camera, camera_log, ready=lambda: "ready" in camera_log.read_text()):
            worker = [
                *(sys.executable, "-m", "camera_worker", "--source", camera_url, "--name", "tank", "--model", "tank"),
                *("--api-url", api, "--threshold", "0.5", "--alerts", "--var-dir", str(var)),
            ]
            store_url = f"sqlite:///{var / 'alarms' / 'worker.db'}"
            with running(worker, tmp_path / "worker.log", ready=(var / "alarms" / "worker.db").exists):
                deadline = time.monotonic() + 90
                with AlarmStore(store_url) as store:
                    while not (alarms := store.alarms(limit=10)):
                        assert time.monotonic() < deadline, (tmp_path / "worker.log").read_text()[-3000:]
                        time.sleep(0.5)
    assert [alarm.source for alarm in alarms] == ["tank"]
    pictures = [file.uri for file in alarms[0].evidence if file.media_type.startswith("image/")]
    assert any("overlay" in path for path in pictures)
    assert all(cv2.imread(path) is not None for path in pictures)
    assert closest_frame(next(path for path in pictures if "overlay" not in path), reel) >= len(held_out)
