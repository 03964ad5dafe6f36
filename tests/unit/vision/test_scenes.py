"""The rendered outflow: deterministic, moving, lit, and with a ground truth that is where the picture changed."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from almenara.vision import images
from almenara.vision.scenes import ANOMALIES, Anomaly, Scene, render_dataset


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(7)


def test_seed_and_time_decide_the_picture(scene: Scene) -> None:
    frame = scene.frame(12.34)
    assert frame.shape == (480, 640, 3)
    assert frame.dtype == np.uint8
    assert np.array_equal(Scene(7).frame(12.34), frame)
    assert not np.array_equal(Scene(8).frame(12.34), frame)


def test_sludge_moves_and_walls_do_not(scene: Scene) -> None:
    change = np.abs(scene.frame(10, light=0.5).astype(int) - scene.frame(11, light=0.5)).mean(axis=2)
    assert change[180:400, 200:440].mean() > 3 * change[:120].mean()


def test_light_brightens_everything(scene: Scene) -> None:
    dusk, noon = scene.frame(3, light=0).astype(int), scene.frame(3, light=1).astype(int)
    assert noon[:120].mean() > 1.3 * dusk[:120].mean()


def test_light_changes_slowly(scene: Scene) -> None:
    levels = [scene.frame(float(t))[:120].mean() for t in range(0, 240, 20)]
    assert max(levels) - min(levels) > 15
    assert abs(scene.frame(50.0)[:120].mean() - scene.frame(50.5)[:120].mean()) < 1


@pytest.mark.parametrize("anomaly", ANOMALIES)
@pytest.mark.parametrize("t", [3.0, 29.0, 431.0])
def test_the_mask_is_where_the_anomaly_is(scene: Scene, anomaly: Anomaly, t: float) -> None:
    rendering = scene.render(t, anomaly)
    assert 300 < rendering.mask.sum() < 0.1 * rendering.mask.size
    change = np.abs(rendering.image.astype(int) - scene.frame(t)).max(axis=2)
    near = cv2.dilate(rendering.mask.astype(np.uint8), np.ones((61, 61), np.uint8)) > 0
    assert np.mean(change[rendering.mask] > 12) > 0.5
    assert change[~near].max() <= 2  # the tail of its shadow


def test_a_normal_frame_has_an_empty_mask(scene: Scene) -> None:
    assert not scene.render(3.0).mask.any()


def test_other_sizes(scene: Scene) -> None:
    assert Scene(1, width=320, height=200).frame(1.0, "clump").shape == (200, 320, 3)


def test_it_renders_fifteen_frames_a_second(scene: Scene) -> None:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    times = []
    for index in range(15):
        begun = time.process_time()
        scene.frame(index / 15, "clump")
        times.append(time.process_time() - begun)
    cv2.setNumThreads(threads)
    assert min(times) < 1 / 15


def test_a_data_set_has_groups_masks_and_every_kind(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    render_dataset(
        tmp_path, normals=12, anomalies=6, groups=4, width=160, height=120, progress=lambda *told: seen.append(told)
    )
    samples = images.load_folder(tmp_path)
    assert {sample.label for sample in samples} == {"good", *ANOMALIES}
    assert sum(sample.normal for sample in samples) == 12
    assert len({sample.group for sample in samples}) == 4
    assert all((sample.mask is None) == sample.normal for sample in samples)
    assert all(images.read_mask(sample.mask).any() for sample in samples if sample.mask)
    assert seen[-1] == ("rendering", 18, 18)
    again = tmp_path / "again"
    render_dataset(again, normals=12, anomalies=6, groups=4, width=160, height=120)
    assert images.fingerprint(images.load_folder(again)) == images.fingerprint(samples)
