"""Training: from recordings to candidates for the registry, a fleet classifier and an asset's novelty baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from almenara import calibration
from almenara.contracts import Candidate, Card, Progress
from almenara.errors import InputError
from almenara.reporting import libraries, stage
from almenara.vibration import models, novelty, plots
from almenara.vibration.evaluate import (
    ABSTAIN_BELOW,
    HEALTHY,
    VibrationReport,
    check_labels,
    evaluate_table,
)
from almenara.vibration.recordings import Recording, fingerprint
from almenara.vibration.table import FIRST, LAST, Table, extractor_for, single_records, tabulate
from almenara.vibration.units import canonical

_PROBES = 128
_LEAST_PROBES = 64
_CROSS_VALIDATION_ROUNDS = 10
_LEAST_GROUPS_TO_TEST = 10
_LIBRARIES = ("almenara", "numpy", "scipy", "scikit-learn", "onnx", "skl2onnx")


def train_classifier(
    recordings: Sequence[Recording],
    *,
    name: str,
    method: str = "ensemble",
    window_seconds: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Candidate:
    """Train a classifier of bearing faults on all recordings, and judge the method by every protocol.

    Features do not depend on unit or gain, so one classifier serves a fleet. The card's metrics hold
    `leave-one-fault-size-out` when the faults share two severities, and `random-window (leaking)` beside it.

    Args:
        recordings: labelled, at least two labels.
        name: of the registered model.
        method: one of `models.METHODS`.
        window_seconds: length of a window; the hop is half of it.
        seed: of the models and random folds.
        progress: told of every recording and fold.

    Raises:
        InputError: recordings that cannot be used, naming the record.
    """
    check_labels(recordings)
    extractor = extractor_for(recordings, window_seconds)
    table = tabulate(recordings, extractor, progress=progress)
    reports = _judge(recordings, table, method, window_seconds, seed, progress)
    with stage(progress, f"fitting {method}"):
        model = models.build(method, seed).fit(table.features, table.labels)
    probes = _probes(table.features, seed)
    metrics = {title: report.metrics() for title, report in reports.items()}
    card = Card(
        name=name,
        task="vibration",
        role="classifier",
        method=method,
        input=extractor.to_input(),
        labels=tuple(str(label) for label in model.classes_),
        abstain_below=ABSTAIN_BELOW,
        training_data=_provenance(recordings, table) | _notes(reports),
        metrics=metrics,
        libraries=libraries(_LIBRARIES),
        created_at=datetime.now(UTC),
    )
    return Candidate(
        card=card,
        graph=models.to_onnx(model, table.features.shape[1]),
        probes=probes,
        reference={models.OUTPUT: models.reference_probabilities(model, probes)},
        scales={models.OUTPUT: 0.01},
        parameters={"method": method, "window_seconds": window_seconds, "seed": seed},
        figures=_classifier_figures(recordings, reports, metrics, card.labels),
    )


def train_novelty(
    recordings: Sequence[Recording],
    *,
    name: str,
    asset: str,
    false_alarm_rate: float = 0.05,
    strict: bool = False,
    window_seconds: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Candidate:
    """Commission an asset's baseline from healthy recordings: fit on a part, set the threshold on the rest.

    Levels are learned in the unit of the recordings, which the card keeps.

    Whole groups (records, or the snapshots of one) go to one part or the other. A single record is split by time
    with a gap, and then nothing can be promised.

    Args:
        recordings: healthy ones of that asset, all with the same sensor.
        name: of the registered model.
        asset: the machine.
        false_alarm_rate: promised rate of healthy windows above the threshold, in (0, 1).
        strict: refuse instead of marking the promise unverified.
        window_seconds: length of a window; the hop is half of it.
        seed: of the split.
        progress: told of every recording.

    Raises:
        InputError: a recording that is not healthy, `unit-mixed`, too little to fit on, or `strict` and too few groups.
    """
    _check_healthy(recordings)
    unit = _common_unit(recordings)
    extractor = extractor_for(recordings, window_seconds, level=True)
    split = single_records(recordings) if recordings and recordings[0].signal.ndim == 1 else frozenset()
    table = tabulate(recordings, extractor, time_split=split, progress=progress)
    fitted, held_out = _calibration_split(table, false_alarm_rate, seed)
    with stage(progress, f"fitting the baseline of {asset}"):
        baseline = novelty.fit(table.features[fitted])
        scores = baseline.score(table.features[held_out])
        threshold = calibration.conformal_threshold(
            scores, [str(group) for group in table.groups[held_out]], false_alarm_rate, strict=strict, seed=seed
        )
    probes = _probes(table.features, seed)
    card = Card(
        name=name,
        task="vibration",
        role="novelty",
        method="mahalanobis",
        asset=asset,
        input=extractor.to_input(unit),
        labels=("normal", "anomaly"),
        threshold=threshold,
        calibration_scores=tuple(float(score) for score in np.sort(scores)),
        training_data=_provenance(recordings, table),
        metrics=_baseline_metrics(table, scores, false_alarm_rate, seed),
        libraries=libraries(_LIBRARIES),
        created_at=datetime.now(UTC),
    )
    return Candidate(
        card=card,
        graph=baseline.to_onnx(),
        probes=probes,
        reference={novelty.OUTPUT: baseline.score(probes)},
        scales={novelty.OUTPUT: calibration.interquartile_range(scores)},
        parameters={"false_alarm_rate": false_alarm_rate, "window_seconds": window_seconds, "seed": seed},
        figures={"calibration.png": plots.calibration(card.calibration_scores, threshold.value)},
    )


def _judge(
    recordings: Sequence[Recording],
    table: Table,
    method: str,
    window_seconds: float,
    seed: int,
    progress: Progress | None,
) -> dict[str, VibrationReport]:
    """Reports by title; the honest one is left out when the data allow none."""
    reports: dict[str, VibrationReport] = {}
    split = single_records(recordings)
    apart = tabulate(recordings, extractor_for(recordings, window_seconds), time_split=split) if split else table
    told: dict[str, Any] = {"method": method, "window_seconds": window_seconds, "seed": seed, "progress": progress}
    try:
        honest = evaluate_table(apart, protocol="leave-one-fault-size-out", **told)
        reports[honest.protocol] = honest
    except InputError as error:
        if error.code != "protocol-impossible":
            raise
    reports["random-window (leaking)"] = evaluate_table(table, protocol="random-window", **told)
    return reports


def _calibration_split(table: Table, false_alarm_rate: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows to fit on and rows to set the threshold on: half of the groups each, or more to keep the promise."""
    groups = np.unique(table.groups)
    if groups.size == 1:
        return np.flatnonzero(table.blocks == FIRST), np.flatnonzero(table.blocks == LAST)
    wanted = max(groups.size // 2, min(calibration.groups_needed(false_alarm_rate), groups.size * 3 // 4))
    drawn = np.random.default_rng(seed).permutation(groups)[: max(1, wanted)]
    held_out = np.isin(table.groups, drawn)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _baseline_metrics(
    table: Table, scores: NDArray[np.float64], false_alarm_rate: float, seed: int
) -> dict[str, dict[str, float]]:
    metrics = {"held-out healthy": {"windows": float(scores.size), "median_score": float(np.median(scores))}}
    realised = _realised_false_alarms(table, false_alarm_rate, seed)
    if realised is not None:
        metrics["group cross-validation"] = {"false_alarm_rate": realised, "promised": false_alarm_rate}
    return metrics


def _realised_false_alarms(table: Table, false_alarm_rate: float, seed: int) -> float | None:
    """Share of healthy windows above the threshold, of groups that neither fit nor threshold saw, over ten draws."""
    groups = np.unique(table.groups)
    if groups.size < _LEAST_GROUPS_TO_TEST:
        return None
    random = np.random.default_rng([seed, 1])
    above: list[NDArray[np.bool_]] = []
    for turn in range(_CROSS_VALIDATION_ROUNDS):
        tested = np.isin(table.groups, random.permutation(groups)[: groups.size // 5])
        rest = table.only(~tested)
        fitted, held_out = _calibration_split(rest, false_alarm_rate, turn)
        baseline = novelty.fit(rest.features[fitted])
        names = [str(group) for group in rest.groups[held_out]]
        threshold = calibration.conformal_threshold(baseline.score(rest.features[held_out]), names, false_alarm_rate)
        above.append(baseline.score(table.features[tested]) > threshold.value)
    return float(np.concatenate(above).mean())


def _probes(features: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Distinct rows for the export gates; where there are too few, jittered ones within the range of the data."""
    random = np.random.default_rng([seed, 3])
    rows = random.permutation(np.unique(features, axis=0))[:_PROBES]
    if len(rows) >= _LEAST_PROBES:
        return np.asarray(rows, dtype=np.float32)
    drawn = features[random.integers(0, len(features), _LEAST_PROBES)]
    jitter = 0.1 * random.normal(size=drawn.shape) * np.maximum(features.std(axis=0), 1e-3)
    jittered = np.clip(drawn + jitter, features.min(axis=0), features.max(axis=0)) if len(rows) > 1 else drawn + jitter
    return np.concatenate([rows, jittered]).astype(np.float32)


def _check_healthy(recordings: Sequence[Recording]) -> None:
    faulty = next((item for item in recordings if item.fault not in ("", HEALTHY)), None)
    if faulty is not None:
        raise InputError(
            "baseline-not-healthy",
            f"The record {faulty.record} is labelled {faulty.fault}; a baseline is made of healthy operation.",
            f"Leave it out, or correct its label to {HEALTHY}.",
        )


def _common_unit(recordings: Sequence[Recording]) -> str | None:
    """The unit of all recordings, None when none of them says it."""
    records: dict[str | None, list[str]] = {}
    for item in recordings:
        records.setdefault(canonical(item.unit) if item.unit else None, []).append(item.record)
    if len(records) > 1:
        found = "; ".join(f"{', '.join(names[:5])} in {unit or 'no stated unit'}" for unit, names in records.items())
        raise InputError(
            "unit-mixed",
            f"The records are in {len(records)} units: {found}.",
            "A baseline learns levels: bring all records of the asset to one unit and state it in the manifest.",
        )
    return next(iter(records), None)


def _provenance(recordings: Sequence[Recording], table: Table) -> dict[str, Any]:
    return {
        "fingerprint": fingerprint(recordings),
        "records": len(recordings),
        "windows": len(table),
        "seconds": round(sum(item.seconds for item in recordings), 1),
        "assets": sorted({item.asset for item in recordings}),
        "labels": dict(sorted(Counter(str(label) for label in table.labels).items())),
        "sampling_rates_hz": sorted({item.sampling_rate_hz for item in recordings}),
    }


def _notes(reports: dict[str, VibrationReport]) -> dict[str, Any]:
    return {"notes": [f"{title}: {note}" for title, report in reports.items() for note in report.notes]}


def _classifier_figures(
    recordings: Sequence[Recording],
    reports: dict[str, VibrationReport],
    metrics: dict[str, dict[str, float]],
    labels: tuple[str, ...],
) -> dict[str, bytes]:
    title, report = next(iter(reports.items()))
    figures = {
        "confusion-matrix.png": plots.confusion_matrix(report.confusion, labels, title),
        "protocols.png": plots.protocols(metrics),
    }
    faulty = next((item for item in recordings if item.fault != HEALTHY and item.shaft_rpm and item.bearing), None)
    if faulty is not None and faulty.shaft_rpm and faulty.bearing:
        window = np.atleast_2d(faulty.signal)[0][: round(faulty.sampling_rate_hz)]
        figures[f"envelope-{faulty.fault}.png"] = plots.envelope(
            window, faulty.sampling_rate_hz, faulty.shaft_rpm, faulty.bearing
        )
    return figures
