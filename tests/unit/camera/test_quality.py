"""Black, frozen and blurred pictures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from camera_worker.quality import Condition, QualityJudge
from camera_worker.simulator.scenes import AnomalySchedule, sludge
from tests.support.camera import Scene


def test_black_picture_is_black_at_once() -> None:
    noise = np.random.default_rng(0).integers(0, 24, (240, 320, 3), dtype=np.uint8)
    assert QualityJudge().judge(noise, 0.0) is Condition.BLACK


def test_dark_picture_with_a_lamp_is_not_black() -> None:
    image = np.full((240, 320, 3), 10, np.uint8)
    image[:40, :40] = 180
    assert QualityJudge().judge(image, 0.0) is Condition.GOOD


def test_same_picture_is_frozen_only_after_its_time() -> None:
    judge, image = QualityJudge(frozen_after=8.0), Scene()(0)
    conditions = {t: judge.judge(image, t) for t in (0.0, 4.0, 7.9, 8.0, 20.0)}
    assert [t for t, condition in conditions.items() if condition is Condition.FROZEN] == [8.0, 20.0]


def test_frozen_ends_with_the_first_picture_that_differs() -> None:
    judge, scene = QualityJudge(frozen_after=2.0), Scene()
    image = scene(0)
    judge.judge(image, 0.0)
    assert judge.judge(image, 3.0) is Condition.FROZEN
    assert judge.judge(scene(3), 3.5) is Condition.GOOD


def test_frozen_check_can_be_switched_off() -> None:
    judge, image = QualityJudge(frozen_after=None), Scene()(0)
    assert {judge.judge(image, t) for t in range(0, 100, 5)} == {Condition.GOOD}


def test_still_scene_under_a_noisy_sensor_is_never_frozen() -> None:
    judge, scene = QualityJudge(), Scene(noise=1.0)
    assert {judge.judge(scene(0), t / 2) for t in range(80)} == {Condition.GOOD}


def test_rendered_sludge_is_good_throughout() -> None:
    pictures = sludge(seed=3, width=320, height=240, schedule=AnomalySchedule(20, 10))
    judge = QualityJudge()
    assert {judge.judge(pictures(t / 2), t / 2) for t in range(60)} == {Condition.GOOD}


def test_blur_that_lasts_is_told_against_the_usual_sharpness() -> None:
    judge, scene = QualityJudge(blurred_after=4.0), Scene()
    for t in range(30):
        assert judge.judge(scene(t), t) is Condition.GOOD
    blurred = [judge.judge(cv2.GaussianBlur(scene(t), (0, 0), 9).astype(np.uint8), t) for t in range(30, 40)]
    assert blurred[:4] == [Condition.GOOD] * 4
    assert set(blurred[4:]) == {Condition.BLURRED}
    assert judge.judge(scene(41), 41) is Condition.GOOD


def test_size_may_change() -> None:
    judge = QualityJudge()
    assert judge.judge(Scene(320, 240)(0), 0.0) is Condition.GOOD
    assert judge.judge(Scene(640, 480)(0), 1.0) is Condition.GOOD


@pytest.mark.parametrize(
    ("condition", "scorable"), [("good", True), ("blurred", True), ("black", False), ("frozen", False)]
)
def test_only_pictures_that_show_something_are_scored(condition: str, scorable: bool) -> None:
    assert Condition(condition).scorable is scorable
