"""Train a vision model: fit on normal pictures, calibrate on others, export, and hand over what the gates need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from almenara.calibration import conformal_threshold, interquartile_range
from almenara.contracts import Candidate, Card, ImageInput, Progress
from almenara.reporting import libraries, stage
from almenara.vision.export import EMBEDDING, MAP, Extractor, embed, to_onnx
from almenara.vision.features import check_method, extract, read_all
from almenara.vision.images import Sample, fingerprint, groups_given
from almenara.vision.metrics import auroc, average_precision
from almenara.vision.normality import Padim
from almenara.vision.plots import contact_sheet, score_histogram
from almenara.vision.shortcuts import measure
from almenara.vision.splits import Split, training_split
from almenara.vision.verdict import display_range, overlay, score

PROBES = 64
_LIBRARIES = ("keras", "numpy", "opencv-python-headless", "tensorflow-cpu", "tensorflow", "tf2onnx")
_SHEET = 18


def train(
    samples: Sequence[Sample],
    *,
    name: str,
    method: str = "padim",
    backbone: str = "efficientnet-lite0",
    size: int = 256,
    false_alarm_rate: float = 0.05,
    strict: bool = False,
    region_of_interest: Sequence[tuple[float, float]] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Candidate:
    """Train, calibrate and export a model of what normal looks like under a camera.

    Normal pictures are split by group into those to fit on, those to calibrate on and, with enough groups, those to
    test on; defects are only ever tested on.

    Args:
        samples: labelled pictures, see `almenara.vision.images.load_folder`.
        name: registered model name.
        method: `padim`.
        backbone: a key of `almenara.vision.backbones.BACKBONES`.
        size: height and width of the graph's input in pixels, a multiple of 32.
        false_alarm_rate: promised rate per picture of a new group; the card says whether the promise holds.
        strict: refuse when there are too few calibration groups for the promise.
        region_of_interest: polygon in relative coordinates; outside it nothing counts.
        seed: of the split and of the selection of features.
        progress: told how far each stage is.

    Raises:
        InputError: unusable pictures, too few groups or pictures, an unknown method or backbone.
    """
    check_method(method)
    split = training_split(samples, false_alarm_rate, seed)
    pictures = read_all(samples, ImageInput(height=size, width=size), progress)
    extractor = Extractor(backbone, size)
    features = extract(extractor, pictures, progress)
    with stage(progress, "fitting"):
        padim = Padim.fit(features[list(split.fit)], seed=seed)
    with stage(progress, "calibrating"):
        maps = padim.score_map(features)
        card = _card(samples, split, maps, name, method, size, false_alarm_rate, strict, region_of_interest, seed)
        scores = np.array([score(raw, card) for raw in maps])
    with stage(progress, "comparing decoders"):
        card = _with_shortcuts(card, samples, split, scores, extractor, padim)
    with stage(progress, "exporting"):
        graph = to_onnx(extractor, padim)
        chosen, probes = _probes(samples, split, pictures, seed)
        extra = extract(extractor, probes[len(chosen) :]) if len(chosen) < len(probes) else features[:0]
        reference = np.concatenate([features[chosen], extra])
    return Candidate(
        card=card,
        graph=graph,
        probes=probes,
        reference={MAP: padim.score_map(reference), EMBEDDING: embed(reference)},
        scales={
            MAP: interquartile_range(card.calibration_scores),
            EMBEDDING: interquartile_range(embed(features[list(split.calibration)])),
        },
        parameters={
            "method": method,
            "backbone": backbone,
            "size": size,
            "dimensions": padim.dimensions.size,
            "false_alarm_rate": false_alarm_rate,
            "seed": seed,
        },
        figures={
            "scores.png": _histogram(samples, split, scores, card),
            "overlays.png": _overlays(samples, split, pictures, maps, scores, card),
        },
    )


def _card(
    samples: Sequence[Sample],
    split: Split,
    maps: NDArray[np.float64],
    name: str,
    method: str,
    size: int,
    false_alarm_rate: float,
    strict: bool,
    region_of_interest: Sequence[tuple[float, float]] | None,
    seed: int,
) -> Card:
    draft = Card(
        name=name,
        task="vision",
        role="anomaly",
        method=method,
        input=ImageInput(height=size, width=size),
        labels=("normal", "anomaly"),
        region_of_interest=None if region_of_interest is None else tuple(region_of_interest),
        training_data=_training_data(samples, split),
        libraries=libraries(_LIBRARIES),
        created_at=datetime.now(UTC),
    )
    scores = np.array([score(raw, draft) for raw in maps])
    calibration = np.sort(scores[list(split.calibration)])
    threshold = conformal_threshold(
        scores[list(split.calibration)],
        [samples[i].group for i in split.calibration],
        false_alarm_rate,
        strict=strict,
        seed=seed,
    )
    return draft.model_copy(
        update={
            "threshold": threshold,
            "calibration_scores": tuple(calibration.tolist()),
            "display_range": display_range(threshold.value, calibration),
            "metrics": _metrics(samples, split, scores, threshold.value),
        }
    )


def _with_shortcuts(
    card: Card,
    samples: Sequence[Sample],
    split: Split,
    scores: NDArray[np.float64],
    extractor: Extractor,
    padim: Padim,
) -> Card:
    """The card with what cheaper decoding does to the scores of pictures that were not fitted on."""
    assert isinstance(card.input, ImageInput)  # noqa: S101  it was drafted here
    assert card.threshold is not None  # noqa: S101

    def scored(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        return np.array([score(raw, card) for raw in padim.score_map(extract(extractor, pictures))])

    unknown = sorted(set(range(len(samples))) - set(split.fit))
    files = [samples[i].file for i in unknown]
    return card.model_copy(update={"input": measure(files, scores[unknown], card.input, card.threshold.value, scored)})


def _training_data(samples: Sequence[Sample], split: Split) -> dict[str, object]:
    labels = Counter("good" if sample.normal else sample.label for sample in samples)
    return {
        "fingerprint": fingerprint(samples),
        "groups_given": groups_given(samples),
        "groups": len({sample.group for sample in samples}),
        "labels": dict(sorted(labels.items())),
        "fit": len(split.fit),
        "calibration": len(split.calibration),
        "test": len(split.test),
    }


def _metrics(
    samples: Sequence[Sample], split: Split, scores: NDArray[np.float64], threshold: float
) -> dict[str, dict[str, float]]:
    """Figures on groups that were neither fitted nor calibrated on; empty when none are left."""
    tested = np.array(split.test, dtype=int)
    anomalous = np.array([not samples[i].normal for i in tested], dtype=bool)
    found: dict[str, float] = {}
    if (~anomalous).any():
        found["false_alarm_rate"] = float(np.mean(scores[tested][~anomalous] > threshold))
    if anomalous.any():
        found["detection_rate"] = float(np.mean(scores[tested][anomalous] > threshold))
    if anomalous.any() and not anomalous.all():
        found["image_auroc"] = auroc(scores[tested], anomalous)
        found["aupr"] = average_precision(scores[tested], anomalous)
    return {"held-out-groups": found} if found else {}


def _probes(
    samples: Sequence[Sample], split: Split, pictures: NDArray[np.uint8], seed: int
) -> tuple[list[int], NDArray[np.uint8]]:
    """Graph inputs for the gates: calibration pictures, then defects, then noisy copies until there are enough.

    Returns:
        The positions of the real pictures, and all probes with those first.
    """
    defects = [i for i, sample in enumerate(samples) if not sample.normal][: PROBES // 2]
    chosen = [*split.calibration[: PROBES - len(defects)], *defects]
    real = pictures[chosen]
    missing = max(0, PROBES - len(chosen))
    rng = np.random.default_rng(seed)
    copies = real[np.arange(missing) % len(real)].astype(np.float64)
    jittered = copies * rng.uniform(0.6, 1.3, (missing, 1, 1, 1)) + rng.normal(0, 12, copies.shape)
    return chosen, np.concatenate([real, np.clip(jittered, 0, 255).astype(np.uint8)])


def _histogram(samples: Sequence[Sample], split: Split, scores: NDArray[np.float64], card: Card) -> bytes:
    kinds = {"calibration": scores[list(split.calibration)]}
    kinds["test, normal"] = scores[[i for i in split.test if samples[i].normal]]
    for label in sorted({sample.label for sample in samples if not sample.normal}):
        kinds[label] = scores[[i for i, sample in enumerate(samples) if sample.label == label]]
    return score_histogram(kinds, card.threshold.value if card.threshold else 0.0, card.name)


def _overlays(
    samples: Sequence[Sample],
    split: Split,
    pictures: NDArray[np.uint8],
    maps: NDArray[np.float64],
    scores: NDArray[np.float64],
    card: Card,
) -> bytes:
    """Contact sheet: the held-out normals that score highest, and defects at even steps."""
    normals = sorted(split.calibration, key=lambda i: -scores[i])
    defects = [i for i, sample in enumerate(samples) if not sample.normal]
    step = max(1, -(-len(defects) // (2 * _SHEET // 3)))
    shown = [*normals[: _SHEET // 3 if defects else _SHEET], *defects[::step]]
    return contact_sheet(
        [overlay(pictures[i], maps[i], card) for i in shown],
        [f"{samples[i].label} {scores[i]:.3g}" for i in shown],
    )
