"""A camera under which nothing happens raises no alarm: a trained model, replayed frames, time that a test lets pass.

Ten minutes of pictures by default; ALMENARA_NORMAL_FRAMES=36000 replays two hours at 5 pictures a second.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from almenara import servable
from almenara.alarms import AlarmStore
from almenara.contracts import ModelRef, Observation
from almenara.vision.images import encode_jpeg, load_folder, read
from almenara.vision.scenes import Scene, render_dataset
from almenara.vision.train import train
from camera_worker.config import CameraConfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

FRAMES = int(os.environ.get("ALMENARA_NORMAL_FRAMES", "3000"))
FPS = 5
SEED, WIDTH, HEIGHT = 11, 320, 240
SHIFT_PIXELS, GAIN = 2.0, 0.05
LIGHT_STEP = 0.02
"""Standard deviation of the light's walk in a second; light is from 0 to 1."""
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def jittered(picture: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """The picture as a camera on a shaking mast gives it, its exposure a little off."""
    shift_x, shift_y = random.uniform(-SHIFT_PIXELS, SHIFT_PIXELS, 2)
    move = np.array([[1, 0, shift_x], [0, 1, shift_y]], np.float32)
    moved = cv2.warpAffine(picture, move, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
    return np.asarray(np.clip(moved * random.uniform(1 - GAIN, 1 + GAIN), 0, 255), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> servable.VisionModel:
    """Trained on pictures of the same camera, jittered alike: one that never saw it shake would take that for news."""
    folder, random = tmp_path_factory.mktemp("normal"), np.random.default_rng(1)
    render_dataset(folder, normals=288, anomalies=6, groups=96, seed=SEED, width=WIDTH, height=HEIGHT)
    for file in sorted((folder / "good").glob("*.jpg")):
        file.write_bytes(encode_jpeg(jittered(read(file), random)))
    candidate = train(load_folder(folder), name="sludge", size=128)
    return servable.VisionModel(servable.Package(candidate.card, candidate.graph), ModelRef(name="sludge", version="1"))


def test_normal_frames_jittered_in_light_and_position_raise_no_alarm(
    model: servable.VisionModel, tmp_path: Path
) -> None:
    scene, random = Scene(SEED, WIDTH, HEIGHT), np.random.default_rng(2)
    rule = CameraConfig.model_validate({"name": "outflow", "source": "rtsp://cam/1", "fps": FPS}).rule()
    light, above = 0.5, 0
    now = 0.0
    with AlarmStore(f"sqlite:///{tmp_path / 'alarms.db'}", wall_clock=lambda: NOON + timedelta(seconds=now)) as store:
        for frame in range(FRAMES):
            now = frame / FPS
            light = float(np.clip(light + random.normal(0, LIGHT_STEP / FPS**0.5), 0, 1))
            verdict = model.predict(jittered(scene.frame(40_000 + now, light=light), random)).verdict
            above += verdict.anomaly >= rule.threshold
            at = NOON + timedelta(seconds=now)
            seen = Observation(
                source="outflow", kind="vision", anomaly=verdict.anomaly, reason=verdict.label, observed_at=at
            )
            store.observe(seen, rule, now=now)
            store.tick(now)
        assert store.alarms() == []
    share = above / FRAMES
    assert 0 < share < 0.1, f"{share:.1%} of the frames were above the threshold: too easy, or no normal frames"
