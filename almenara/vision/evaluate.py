"""Evaluate a method on a labelled data set: cross-validation in which a group is never on two sides; training only."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from almenara.calibration import conformal_threshold, groups_needed
from almenara.contracts import Card, Contract, ImageInput, Progress
from almenara.errors import InputError
from almenara.vision.export import INPUT, Extractor, to_onnx
from almenara.vision.features import check_method, extract, read_all
from almenara.vision.images import Sample, groups_given, prepare, read, read_mask
from almenara.vision.metrics import auroc, average_precision, per_region_overlap, resize_map, resize_mask
from almenara.vision.normality import Padim
from almenara.vision.splits import Split, check_groups, folds
from almenara.vision.verdict import score, smoothed

__all__ = ["VisionReport", "check_groups", "evaluate"]

_TIMED = 20


class VisionReport(Contract):
    """Figures of an evaluation; null where the data set has nothing to measure them on."""

    method: str
    backbone: str
    image_auroc: float = Field(description="mean over seeds")
    image_auroc_per_seed: tuple[float, ...]
    aupr: float = Field(description="average precision of pictures, mean over seeds")
    pixel_auroc: float | None = Field(description="mean over seeds; null without masks")
    pro: float | None = Field(description="per-region overlap up to a false-positive rate of .3; null without masks")
    per_defect: dict[str, float] = Field(description="image AUROC of each defect against all normals, mean over seeds")
    false_alarm_promised: float
    false_alarm_realised: float = Field(description="share of unseen normals above the calibrated threshold")
    latency_ms: float = Field(description="prepare, graph and score of one picture on one thread, median")
    notes: tuple[str, ...] = ()


def evaluate(
    samples: Sequence[Sample],
    *,
    method: str = "padim",
    backbone: str = "efficientnet-lite0",
    size: int = 256,
    false_alarm_rate: float = 0.05,
    seeds: Sequence[int] = (0, 1, 2),
    progress: Progress | None = None,
) -> VisionReport:
    """Cross-validate over groups, once a seed.

    In each fold one part of the groups is tested, one calibrates the threshold, the model is fitted on the normal
    pictures of the rest. Scores are divided by the fold's median calibration score and pooled over folds, so that
    every picture is judged once a seed by a model that saw none of its group.

    Args:
        samples: labelled pictures with at least one defect.
        method, backbone, size, false_alarm_rate: as in `almenara.vision.train.train`.
        seeds: of the assignment of groups to folds and of the selection of features.
        progress: told how far each stage is.

    Raises:
        InputError: no defects, too few groups, an unknown method or backbone.
    """
    check_method(method)
    if all(sample.normal for sample in samples):
        raise InputError("dataset-no-defects", "There is no picture of a defect.", "Add a folder with defects.")
    plans = [folds(samples, seed) for seed in seeds]
    pictures = read_all(samples, ImageInput(height=size, width=size), progress)
    extractor = Extractor(backbone, size)
    features = extract(extractor, pictures, progress)
    rounds = _cross_validate(samples, features, dict(zip(seeds, plans, strict=True)), false_alarm_rate, size, progress)
    located = [found for found in rounds if found.pixel_auroc is not None]
    return VisionReport(
        method=method,
        backbone=backbone,
        image_auroc=float(np.mean([found.image_auroc for found in rounds])),
        image_auroc_per_seed=tuple(found.image_auroc for found in rounds),
        aupr=float(np.mean([found.aupr for found in rounds])),
        pixel_auroc=float(np.mean([found.pixel_auroc for found in located])) if located else None,
        pro=float(np.mean([found.pro for found in located])) if located else None,
        per_defect={
            defect: float(np.mean([found.per_defect[defect] for found in rounds])) for defect in rounds[0].per_defect
        },
        false_alarm_promised=false_alarm_rate,
        false_alarm_realised=float(np.mean([found.false_alarms for found in rounds])),
        latency_ms=_latency_ms(extractor, Padim.fit(features[list(plans[0][0].fit)]), samples, size),
        notes=_notes(samples, plans[0], false_alarm_rate),
    )


@dataclass(frozen=True)
class _Outcome:
    """One fold: tested positions, their maps and scores in units of the median calibration score, and alarms."""

    tested: NDArray[np.intp]
    maps: NDArray[np.float64]
    scores: NDArray[np.float64]
    alarms: NDArray[np.bool_]


@dataclass(frozen=True)
class _Round:
    """Pooled figures of one seed."""

    image_auroc: float
    aupr: float
    pixel_auroc: float | None
    pro: float | None
    per_defect: dict[str, float]
    false_alarms: float


def _cross_validate(
    samples: Sequence[Sample],
    features: NDArray[np.float32],
    plans: Mapping[int, Sequence[Split]],
    rate: float,
    size: int,
    progress: Progress | None,
) -> list[_Round]:
    """Pooled figures of every seed's folds."""
    masks = _masks(samples, size // 2)
    rounds = []
    done, total = 0, sum(len(plan) for plan in plans.values())
    for seed, plan in plans.items():
        outcomes = []
        for split in plan:
            outcomes.append(_judge(samples, features, split, rate, size, seed))
            done += 1
            if progress is not None:
                progress("cross-validating", done, total)
        rounds.append(_pool(outcomes, samples, masks, size // 2))
    return rounds


def _judge(
    samples: Sequence[Sample], features: NDArray[np.float32], split: Split, rate: float, size: int, seed: int
) -> _Outcome:
    padim = Padim.fit(features[list(split.fit)], seed=seed)
    card = _bare_card(size)
    calibration = np.array([score(raw, card) for raw in padim.score_map(features[list(split.calibration)])])
    threshold = conformal_threshold(calibration, [samples[i].group for i in split.calibration], rate)
    maps = np.array([smoothed(raw, card) for raw in padim.score_map(features[list(split.test)])])
    scores = maps.max(axis=(1, 2))
    unit = float(np.median(calibration))
    return _Outcome(np.array(split.test, dtype=np.intp), maps / unit, scores / unit, scores > threshold.value)


def _pool(
    outcomes: Sequence[_Outcome],
    samples: Sequence[Sample],
    masks: dict[int, NDArray[np.bool_]],
    side: int,
) -> _Round:
    tested = np.concatenate([outcome.tested for outcome in outcomes])
    scores = np.concatenate([outcome.scores for outcome in outcomes])
    alarms = np.concatenate([outcome.alarms for outcome in outcomes])
    positive = np.array([not samples[i].normal for i in tested], dtype=bool)
    labels = np.array([samples[i].label for i in tested])
    pixel_auroc = pro = None
    if any(not samples[i].normal for i in masks):
        pairs = [
            (resize_map(raw, side), masks[i])
            for outcome in outcomes
            for i, raw in zip(outcome.tested, outcome.maps, strict=True)
            if i in masks
        ]
        maps, truth = [found for found, _ in pairs], [mask for _, mask in pairs]
        pixel_auroc = auroc(np.concatenate(maps, axis=None), np.concatenate(truth, axis=None))
        pro = per_region_overlap(maps, truth)
    return _Round(
        image_auroc=auroc(scores, positive),
        aupr=average_precision(scores, positive),
        pixel_auroc=pixel_auroc,
        pro=pro,
        per_defect={
            str(defect): auroc(scores[(labels == defect) | ~positive], positive[(labels == defect) | ~positive])
            for defect in np.unique(labels[positive])
        },
        false_alarms=float(np.mean(alarms[~positive])),
    )


def _masks(samples: Sequence[Sample], side: int) -> dict[int, NDArray[np.bool_]]:
    """Position -> ground truth on the evaluation grid; defects without a mask are left out, normals are empty."""
    found = {}
    for index, sample in enumerate(samples):
        if sample.mask is not None:
            found[index] = resize_mask(read_mask(sample.mask), side)
        elif sample.normal:
            found[index] = np.zeros((side, side), dtype=bool)
    return found


def _latency_ms(extractor: Extractor, padim: Padim, samples: Sequence[Sample], size: int) -> float:
    """Median time of one picture through the exported graph, on one thread as it is served."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(to_onnx(extractor, padim), options, providers=["CPUExecutionProvider"])
    spec, card = ImageInput(height=size, width=size), _bare_card(size)
    pictures = [read(samples[i % len(samples)].file) for i in range(_TIMED)]
    times = []
    for picture in [pictures[0], *pictures]:
        begun = time.perf_counter()
        score(session.run(["map"], {INPUT: prepare(picture, spec)[None]})[0][0], card)
        times.append(time.perf_counter() - begun)
    return float(np.median(times[1:]) * 1e3)


def _bare_card(size: int) -> Card:
    """A card without threshold: enough to smooth and reduce maps."""
    return Card(
        name="evaluation",
        task="vision",
        role="anomaly",
        method="padim",
        input=ImageInput(height=size, width=size),
        labels=("normal", "anomaly"),
        training_data={},
        created_at=datetime.now(UTC),
    )


def _notes(samples: Sequence[Sample], plan: Sequence[Split], rate: float) -> tuple[str, ...]:
    notes = [f"{len(plan)} folds by group; every picture is tested once a seed and no group is on two sides"]
    if not groups_given(samples):
        notes = [f"{len(plan)} folds; the data set names no groups, so related pictures may be on two sides"]
    fewest = min(len({samples[i].group for i in split.calibration}) for split in plan)
    if fewest < groups_needed(rate):
        notes.append(
            f"promise unverified: {fewest} calibration groups in a fold, {groups_needed(rate)} needed for {rate:.1%}"
        )
    if any(not sample.normal and sample.mask is None for sample in samples):
        notes.append("defects without a mask are left out of pixel AUROC and PRO")
    return tuple(notes)
