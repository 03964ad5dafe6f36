"""Black, frozen and blurred pictures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from camera_worker.picture import Preparer
from camera_worker.quality import Condition, QualityJudge
from camera_worker.simulator.encoder import H264Encoder
from camera_worker.simulator.scenes import AnomalySchedule, sludge
from camera_worker.slot import Frame
from camera_worker.view import View
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


def test_black_does_not_flap_around_its_limit() -> None:
    judge = QualityJudge()

    def lit(share: float) -> Condition:
        image = np.full((100, 200, 3), 10, np.uint8)
        image.reshape(-1, 3)[: round(share * 20_000)] = 200
        return judge.judge(image, 0.0)

    assert [lit(share) for share in (0.02, 0.006, 0.004)] == [Condition.GOOD, Condition.GOOD, Condition.BLACK]
    assert [lit(share) for share in (0.006, 0.009, 0.011)] == [Condition.BLACK, Condition.BLACK, Condition.GOOD]


def test_a_dim_scene_at_night_is_not_black() -> None:
    dim = np.clip(
        Scene(noise=0.0)(0).astype(float) * 0.25 + np.random.default_rng(0).normal(0, 3, (240, 320, 1)), 0, 255
    )
    assert QualityJudge().judge(dim.astype(np.uint8), 0.0) is Condition.GOOD


def test_light_switched_off_and_on_changes_the_state_once_each() -> None:
    judge, scene = QualityJudge(), Scene()
    changes = [scene(t) if not 40 <= t < 60 else (scene(t) // 20) for t in range(100)]
    conditions = [judge.judge(image, t) for t, image in enumerate(changes)]
    assert conditions == [Condition.BLACK if 40 <= t < 60 else Condition.GOOD for t in range(100)]


@pytest.mark.parametrize(
    "change",
    [
        lambda image, t: np.roll(image, 12 * (t - 40), axis=1),  # it turns
        lambda image, t: 255 - image[::-1],  # it is cut to another scene
        lambda image, t: np.repeat(image[:, :, :1] // 2 + 60, 3, axis=2),  # infra-red light at dusk
    ],
)
def test_a_camera_that_turns_or_changes_its_light_stays_good(
    change: Callable[[NDArray[np.uint8], int], NDArray[np.uint8]],
) -> None:
    judge, scene = QualityJudge(), Scene()
    conditions = [judge.judge(change(scene(t), t) if t >= 40 else scene(t), t) for t in range(80)]
    assert set(conditions) == {Condition.GOOD}


@pytest.mark.parametrize("fps", [1.0, 5.0, 15.0])
def test_a_frozen_and_encoded_picture_is_flagged_within_ten_seconds(fps: float) -> None:
    judge = preparer()
    judged = list(encoded(lambda _: STATIC, fps=15, bit_rate=800_000, pictures=11 * 15, every=round(15 / fps)))
    conditions = [judge.prepare(frame) for frame in judged]
    assert Condition.FROZEN in {
        prepared.condition for frame, prepared in zip(judged, conditions, strict=True) if frame.monotonic <= 10
    }


@pytest.mark.parametrize("since_key_frame", [0.1, 0.7, 1.3, 1.9])
def test_a_freeze_between_key_frames_is_flagged_well_within_ten_seconds(since_key_frame: float) -> None:
    freeze, random = 4 + since_key_frame, np.random.default_rng(0)
    noisy = [STATIC + random.normal(0, 2, (*STATIC.shape[:2], 1)) for _ in range(15)]
    pictures = [np.asarray(np.clip(picture, 0, 255), dtype=np.uint8) for picture in noisy]

    def scene(t: float) -> NDArray[np.uint8]:
        return pictures[round(min(t, freeze) * 15) % 15]

    frames = list(encoded(scene, fps=15, bit_rate=800_000, pictures=15 * 16))
    for first in range(8):  # of the pictures, two a second of which are judged
        judge = preparer()
        flagged = [f.monotonic for f in frames[first::8] if judge.prepare(f).condition is Condition.FROZEN]
        assert 7.9 <= flagged[0] - freeze <= 9.6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise", "bit_rate", "keyframes", "light"),
    [
        (1.0, 40_000, 4, 1.0),
        (1.0, 4_000, 16, 1.0),  # .03 bits a pixel: the encoder starves
        (4.0, 40_000, 16, 1.0),
        (3.0, 40_000, 4, 0.25),  # at night
    ],
)
def test_an_hour_of_a_static_noisy_scene_raises_no_false_flag(
    noise: float, bit_rate: int, keyframes: int, light: float
) -> None:
    random = np.random.default_rng(0)
    noises = random.normal(0, noise, (16, *STATIC.shape[:2], 1)).astype(np.float32)

    def picture(t: float) -> NDArray[np.uint8]:
        shift = (int(random.integers(STATIC.shape[0])), int(random.integers(STATIC.shape[1])))
        drift = 10 * light * math.sin(2 * math.pi * t / 3600)
        noisy = (
            STATIC * np.float32(light) + np.float32(drift + 15 * light) + np.roll(random.choice(noises), shift, (0, 1))
        )
        return np.asarray(np.clip(noisy, 0, 255), dtype=np.uint8)

    judge = preparer()
    flags = Counter(
        judge.prepare(frame).condition
        for frame in encoded(picture, fps=2, bit_rate=bit_rate, pictures=7200, keyframes=keyframes)
    )
    assert flags == {Condition.GOOD: 7200}


@pytest.mark.parametrize(("frozen_after", "expected"), [(8.0, {"good", "frozen"}), (None, {"good"})])
def test_a_static_scene_without_noise_is_frozen_at_most_and_that_can_be_switched_off(
    frozen_after: float | None, expected: set[str]
) -> None:
    judge = preparer(frozen_after)
    frames = encoded(lambda _: STATIC, fps=2, bit_rate=40_000, pictures=240)
    assert {str(judge.prepare(frame).condition) for frame in frames} == expected


@pytest.mark.parametrize(
    ("condition", "scorable"), [("good", True), ("blurred", True), ("black", False), ("frozen", False)]
)
def test_only_pictures_that_show_something_are_scored(condition: str, scorable: bool) -> None:
    assert Condition(condition).scorable is scorable


def textured(width: int, height: int) -> NDArray[np.uint8]:
    """A scene with coarse and fine structure."""
    random = np.random.default_rng(5)
    image = np.full((height, width, 3), 110.0, np.float32)
    for size in (4, 16, 64):
        patches = random.normal(0, 18, (height // size + 2, width // size + 2, 3)).astype(np.float32)
        image += cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image, 0, 255).astype(np.uint8)


STATIC = textured(320, 176)


def preparer(frozen_after: float | None = 8.0) -> Preparer:
    return Preparer(View(), frozen_after=frozen_after)


def encoded(
    picture: Callable[[float], NDArray[np.uint8]],
    *,
    fps: int,
    bit_rate: int,
    pictures: int,
    keyframes: int = 30,
    every: int = 1,
) -> Iterator[Frame]:
    """Every so many pictures of a scene, as H.264 leaves them; `keyframes` apart are key frames."""
    height, width = picture(0.0).shape[:2]
    encoder = H264Encoder(width, height, fps, keyframe_interval=keyframes, bit_rate=bit_rate)
    decoder = av.VideoCodecContext.create("h264", "r")
    decoder.thread_count = 1
    for index in range(pictures):
        units = encoder.encode(picture(index / fps))
        for decoded in decoder.decode(av.Packet(b"".join(b"\0\0\0\1" + unit for unit in units))):
            if index % every == 0:
                yield Frame(decoded, index / fps, datetime.now(UTC), 1, index + 1)
