"""What a card says of reduced decoding and of the worker's encoding, and what a model then does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from almenara import servable
from almenara.contracts import Candidate, Card, ImageInput, ModelRef, Shortcut
from almenara.vision import images
from almenara.vision.shortcuts import compare, measure
from tests.support.packages import vision_candidate

SPEC = ImageInput(height=64, width=64)
BEFORE = np.linspace(0.5, 1.5, 101)
LIMIT = 10_000_000


def darkness(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.asarray(255 - pictures.mean(axis=(1, 2, 3)), dtype=np.float64)


def grain(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What is left when neighbours are averaged: the first thing that any shortcut changes."""
    values = pictures.astype(np.float64)
    return np.asarray(np.abs(values[:, :, 1:] - values[:, :, :-1]).mean(axis=(1, 2, 3)))


def noisy_files(folder: Path, count: int, side: int, suffix: str = ".jpg") -> list[Path]:
    rng = np.random.default_rng(5)
    encode = images.encode_jpeg if suffix == ".jpg" else images.encode_png
    for number in range(count):
        picture = rng.normal(120 + number, 40, (side, side, 3))
        (folder / f"{number:02d}{suffix}").write_bytes(encode(np.clip(picture, 0, 255).astype(np.uint8)))
    return sorted(folder.glob(f"*{suffix}"))


def whole_scores(files: list[Path], score: object = darkness) -> NDArray[np.float64]:
    pictures = np.stack([images.prepare(images.read(file), SPEC) for file in files])
    return score(pictures)  # type: ignore[operator, no-any-return]


class TestCompare:
    def test_small_changes_are_allowed(self) -> None:
        found = compare(BEFORE, BEFORE + 0.01, threshold=1.2501)
        assert (found.allowed, found.pictures, found.flips) == (True, 101, 0)
        assert found.p50 == pytest.approx(0.01 / 1.2501)
        assert found.p99 == pytest.approx(0.01 / 1.2501)

    def test_labels_may_change_near_the_threshold_alone(self) -> None:
        after = BEFORE.copy()
        near, far = np.searchsorted(BEFORE, 1.01), np.searchsorted(BEFORE, 1.1)
        after[near] = 0.99
        assert compare(BEFORE, after, threshold=1.0).allowed
        after[far] = 0.99
        found = compare(BEFORE, after, threshold=1.0)
        assert (found.allowed, found.flips) == (False, 1)
        assert "1 of 101 labels change" in found.reason

    def test_two_in_a_hundred_that_move_far_are_too_many(self) -> None:
        after = BEFORE.copy()
        after[:2] += 0.05
        found = compare(BEFORE, after, threshold=1.005)
        assert not found.allowed
        assert "moves by 5.0% of the threshold" in found.reason

    def test_a_threshold_below_zero_counts_by_its_size(self) -> None:
        assert compare(-BEFORE, -BEFORE - 0.01, threshold=-1.2501).p99 == pytest.approx(0.01 / 1.2501)

    def test_too_few_say_nothing(self) -> None:
        found = compare(BEFORE[:19], BEFORE[:19], threshold=1.0)
        assert not found.allowed
        assert "Only 19 JPEGs" in found.reason

    def test_none_at_all(self) -> None:
        found = compare(np.empty(0), np.empty(0), 1.0, none="Nothing there.")
        assert found == Shortcut(allowed=False, pictures=0, reason="Nothing there.")


class TestMeasure:
    def test_a_score_of_large_structures_allows_both(self, tmp_path: Path) -> None:
        files = noisy_files(tmp_path, 24, 300)
        found = measure(files, whole_scores(files), SPEC, 90.0, darkness)
        assert found.reduced_decoding is not None
        assert found.reencoding is not None
        assert (found.reduced_decoding.allowed, found.reduced_decoding.pictures) == (True, 24)
        assert (found.reencoding.allowed, found.reencoding.pictures) == (True, 24)
        assert (found.height, found.width) == (SPEC.height, SPEC.width)

    def test_a_score_of_fine_grain_allows_none(self, tmp_path: Path) -> None:
        files = noisy_files(tmp_path, 24, 300)
        scores = whole_scores(files, grain)
        found = measure(files, scores, SPEC, float(scores.mean()), grain)
        assert found.reduced_decoding is not None
        assert not found.reduced_decoding.allowed
        assert found.reduced_decoding.p99 is not None
        assert found.reduced_decoding.p99 > 0.02

    def test_small_pictures_are_never_reduced(self, tmp_path: Path) -> None:
        files = noisy_files(tmp_path, 24, 254)
        found = measure(files, whole_scores(files), SPEC, 90.0, darkness)
        assert found.reduced_decoding is not None
        assert found.reencoding is not None
        assert (found.reduced_decoding.allowed, found.reduced_decoding.pictures) == (False, 0)
        assert "255 pixels a side" in found.reduced_decoding.reason
        assert found.reencoding.allowed

    def test_it_tells_by_how_much_enough_files_were_reduced(self, tmp_path: Path) -> None:
        files = noisy_files(tmp_path, 21, 300)
        found = measure(files, whole_scores(files), SPEC, 100.0, darkness).reduced_decoding
        assert found is not None
        assert (found.allowed, found.divisor) == (True, 2)

    def test_the_contents_decide_what_is_a_jpeg(self, tmp_path: Path) -> None:
        files = [file.rename(file.with_suffix(".jpg")) for file in noisy_files(tmp_path, 3, 300, ".png")]
        found = measure(files, whole_scores(files), SPEC, 90.0, darkness)
        assert found.reencoding is not None
        assert (found.reencoding.allowed, found.reencoding.pictures) == (False, 0)


def candidate(reduced: bool | None, reencoding: bool | None) -> Candidate:
    made = vision_candidate()
    allowed = {"reduced_decoding": reduced, "reencoding": reencoding}
    told = {
        key: Shortcut(allowed=each, pictures=30, divisor=4, reason="drawn")
        for key, each in allowed.items()
        if each is not None
    }
    spec = made.card.input.model_copy(update=told)
    return Candidate(made.card.model_copy(update={"input": spec}), made.graph, made.probes, made.reference, made.scales)


def model(made: Candidate) -> servable.VisionModel:
    return servable.VisionModel(servable.Package(made.card, made.graph), ModelRef(name="darkness", version="1"))


class TestModel:
    @pytest.mark.parametrize(("allowed", "side"), [(True, 150), (False, 600), (None, 600)])
    def test_it_reduces_only_when_and_as_far_as_the_card_allows(self, allowed: bool | None, side: int) -> None:
        body = images.encode_jpeg(np.full((600, 600, 3), 90, np.uint8))
        assert model(candidate(allowed, None)).decode(body, max_pixels=LIMIT).shape == (side, side, 3)

    @pytest.mark.parametrize(("allowed", "quality"), [(True, 95), (False, 100), (None, 100)])
    def test_it_wants_the_best_pictures_unless_less_was_found_to_do(self, allowed: bool | None, quality: int) -> None:
        assert model(candidate(None, allowed)).jpeg_quality == quality

    def test_a_card_from_before_loads(self, tmp_path: Path) -> None:
        servable.write(vision_candidate(), tmp_path)
        file = tmp_path / servable.CARD_FILE
        card = Card.model_validate_json(file.read_bytes())
        file.write_text(card.model_dump_json(exclude={"input": {"reduced_decoding", "reencoding"}}))
        assert "reencoding" not in file.read_text()
        package = servable.load(tmp_path)
        assert package.card == card
        assert servable.VisionModel(package, ModelRef(name="darkness", version="1")).enough is None
