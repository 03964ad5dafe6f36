"""Splits of a data set that keep every group on one side."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from almenara.calibration import groups_needed
from almenara.errors import InputError
from almenara.vision.images import Sample

LEAST_FIT = 8


@dataclass(frozen=True)
class Split:
    """Positions in the list of samples; no group is on two sides.

    Attributes:
        fit: normal pictures that the model is fitted on.
        calibration: normal pictures that the threshold comes from.
        test: normal pictures and defects that neither has seen.
    """

    fit: tuple[int, ...]
    calibration: tuple[int, ...]
    test: tuple[int, ...]


def check_groups(train: Sequence[Sample], test: Sequence[Sample]) -> None:
    """Refuse an evaluation in which training and test share a group.

    Raises:
        InputError: `split-leak`, naming the groups.
    """
    shared = sorted({sample.group for sample in train} & {sample.group for sample in test})
    if shared:
        named = ", ".join(shared[:5]) + (", …" if len(shared) > 5 else "")
        raise InputError(
            "split-leak",
            f"{len(shared)} groups are both in training and in the test: {named}.",
            "Keep each group on one side; pictures of one group resemble each other and flatter the result.",
        )


def training_split(samples: Sequence[Sample], false_alarm_rate: float, seed: int) -> Split:
    """Split for a model that goes into service: most groups to fit, enough to calibrate, the rest to test.

    Calibration gets as many groups as the promised rate needs when that leaves two fifths of them to fit on, else
    three tenths. Groups with defects go to the test first. Defects in fitted or calibrated groups are not used.

    Raises:
        InputError: fewer than two groups with normal pictures, or too few pictures to fit on.
    """
    order = _shuffled_groups(samples, seed)
    defective = {sample.group for sample in samples if not sample.normal}
    counts = Counter(sample.group for sample in samples if sample.normal)
    order = sorted((group for group in order if group in counts), key=lambda group: group in defective)
    total = len(order)
    if total < 2:
        raise _too_few_groups(total, 2)
    share, needed = max(1, round(0.3 * total)), groups_needed(false_alarm_rate)
    calibrating = max(share, needed) if needed <= 0.6 * total else share
    testing = min(total // 5, max(0, total - calibrating - math.ceil(0.4 * total)))
    fitting = total - calibrating - testing
    split = _assign(samples, set(order[:fitting]), set(order[fitting : fitting + calibrating]))
    if len(split.fit) < LEAST_FIT:
        raise InputError(
            "dataset-too-small",
            f"{len(split.fit)} normal pictures are left to fit on, and at least {LEAST_FIT} are needed.",
            "Record more normal pictures.",
        )
    return split


def folds(samples: Sequence[Sample], seed: int, count: int = 4) -> list[Split]:
    """Splits for an evaluation: each group is tested once, calibrates once, and is fitted on in the other folds.

    Args:
        samples: the data set.
        seed: of the assignment of groups to folds; folds get about as many normal pictures each.
        count: number of folds, at least 3; fewer when there are fewer groups.

    Raises:
        InputError: fewer than three groups, or a fold without normal pictures.
    """
    order = _shuffled_groups(samples, seed)
    count = min(count, len(order))
    if count < 3:
        raise _too_few_groups(len(order), 3)
    normals = Counter(sample.group for sample in samples if sample.normal)
    parts: list[set[str]] = [set() for _ in range(count)]
    sizes = [0] * count
    for group in sorted(order, key=lambda name: -normals[name]):
        smallest = sizes.index(min(sizes))
        parts[smallest].add(group)
        sizes[smallest] += normals[group] + 1
    splits = []
    for number in range(count):
        test, calibration = parts[number], parts[(number + 1) % count]
        splits.append(_assign(samples, set(order) - test - calibration, calibration))
    if any(not split.calibration or len(split.fit) < LEAST_FIT for split in splits):
        raise InputError(
            "dataset-too-small",
            f"{sum(normals.values())} normal pictures in {len(normals)} groups are too few for {count} folds.",
            "Record more normal groups.",
        )
    return splits


def _assign(samples: Sequence[Sample], fitting: set[str], calibrating: set[str]) -> Split:
    split = Split(
        fit=tuple(i for i, sample in enumerate(samples) if sample.normal and sample.group in fitting),
        calibration=tuple(i for i, sample in enumerate(samples) if sample.normal and sample.group in calibrating),
        test=tuple(i for i, sample in enumerate(samples) if sample.group not in fitting | calibrating),
    )
    check_groups([samples[i] for i in split.fit + split.calibration], [samples[i] for i in split.test])
    check_groups([samples[i] for i in split.fit], [samples[i] for i in split.calibration])
    return split


def _shuffled_groups(samples: Sequence[Sample], seed: int) -> list[str]:
    names = sorted({sample.group for sample in samples})
    return [names[place] for place in np.random.default_rng(seed).permutation(len(names))]


def _too_few_groups(there: int, needed: int) -> InputError:
    return InputError(
        "dataset-groups",
        f"The normal pictures are in {there} groups, and at least {needed} are needed.",
        "Name finer groups in manifest.csv (shifts, parts, light periods), or leave the column out.",
    )
