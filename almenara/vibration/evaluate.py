"""Honest evaluation of bearing classifiers, and the random split that lies, for comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from almenara.contracts import Contract, Progress
from almenara.errors import InputError
from almenara.vibration.models import build
from almenara.vibration.recordings import Recording
from almenara.vibration.table import FIRST, LAST, WHOLE, Table, extractor_for, single_records, tabulate
from almenara.vibration.verdict import pool

Protocol = Literal["leave-one-fault-size-out", "random-window"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

HEALTHY = "normal"
ABSTAIN_BELOW = 0.5
"""A classifier names no fault that has not the majority."""

_RANDOM_FOLDS = 5
_BINS = 10


class SplitError(InputError):
    """Data of one record stand on both sides of a split."""


class ClassScore(Contract):
    """How well one label is found, over windows."""

    precision: float = Field(ge=0, le=1)
    recall: float = Field(ge=0, le=1)
    f1: float = Field(ge=0, le=1)
    windows: int = Field(ge=0)


class VibrationReport(Contract):
    """Scores of one protocol, pooled over its folds."""

    protocol: Protocol
    model: str = Field(description="method")
    window_seconds: float
    macro_f1: float = Field(description="over windows, every label weighs the same")
    macro_f1_faults: float = Field(description="over the faults alone")
    record_macro_f1: float = Field(description="over records, each pooled over its windows")
    ece: float = Field(description="expected calibration error of the top probability, 10 bins")
    false_alarm_rate: float | None = Field(description="share of healthy windows that get a fault's label")
    abstention_rate: float = Field(description="share of windows whose top probability is below the majority")
    answered_accuracy: float | None = Field(description="share of the other windows that get the right label")
    per_class: dict[str, ClassScore]
    confusion: tuple[tuple[int, ...], ...] = Field(description="windows; rows are true labels, columns found ones")
    windows: int
    records: int
    notes: tuple[str, ...] = ()

    def metrics(self) -> dict[str, float]:
        """The figures that go into a card."""
        figures = {
            "macro_f1": self.macro_f1,
            "macro_f1_faults": self.macro_f1_faults,
            "record_macro_f1": self.record_macro_f1,
            "ece": self.ece,
            "abstention_rate": self.abstention_rate,
            "windows": float(self.windows),
        }
        optional = {"false_alarm_rate": self.false_alarm_rate, "answered_accuracy": self.answered_accuracy}
        return figures | {name: value for name, value in optional.items() if value is not None}


def evaluate(
    recordings: Sequence[Recording],
    *,
    protocol: Protocol,
    method: str = "ensemble",
    window_seconds: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> VibrationReport:
    """Train and test by a protocol.

    `leave-one-fault-size-out`: each fold tests one severity that every fault has, and trains on all the others. The
    records of a label without severities (healthy) take turns; a label with a single record is split by time, with a
    gap, and the notes say so. `random-window`: five random folds over windows, so neighbours that overlap stand on
    both sides: it leaks, and is worth printing only beside the other.

    Args:
        recordings: labelled.
        protocol: which.
        method: one of `models.METHODS`.
        window_seconds: length of a window; the hop is half of it.
        seed: of the models and of the random folds.
        progress: told of every recording and fold.

    Raises:
        InputError: a recording without a label, fewer than two labels, or data that the protocol cannot split.
    """
    check_labels(recordings)
    if protocol not in PROTOCOLS:
        raise InputError("unknown-protocol", f"There is no protocol {protocol!r}.", f"Known: {', '.join(PROTOCOLS)}.")
    honest = protocol == "leave-one-fault-size-out"
    split = single_records(recordings) if honest else frozenset()
    table = tabulate(recordings, extractor_for(recordings, window_seconds), time_split=split, progress=progress)
    return evaluate_table(
        table, protocol=protocol, method=method, window_seconds=window_seconds, seed=seed, progress=progress
    )


def evaluate_table(
    table: Table,
    *,
    protocol: Protocol,
    method: str,
    window_seconds: float,
    seed: int = 0,
    progress: Progress | None = None,
) -> VibrationReport:
    """`evaluate` on rows that were described already."""
    leaks = protocol == "random-window"
    folds = random_folds(table, seed) if leaks else size_folds(table)
    notes = (_LEAKS,) if leaks else _time_split_notes(table)
    predictions = [_predict(table, fold, method, seed) for fold in _told(folds, progress)]
    return _report(predictions, protocol, method, window_seconds, notes)


@dataclass(frozen=True)
class Fold:
    """Row numbers of one fold."""

    name: str
    train: NDArray[np.intp]
    test: NDArray[np.intp]


def size_folds(table: Table) -> list[Fold]:
    """Folds of leave-one-fault-size-out; see `evaluate`.

    Raises:
        InputError: `protocol-impossible`, the faults share fewer than two severities.
        SplitError: a record would stand on both sides.
    """
    faults = [str(label) for label in np.unique(table.labels) if label != HEALTHY]
    sizes = [set(table.severities[table.labels == fault].tolist()) for fault in faults]
    shared = sorted(size for size in set.intersection(*sizes) if not np.isnan(size)) if sizes else []
    if len(shared) < 2:
        raise InputError(
            "protocol-impossible",
            f"Leave-one-fault-size-out needs two severities that every fault has; {', '.join(faults) or 'no fault'} "
            f"share {len(shared)}.",
            "Fill in the column severity, or add recordings of other sizes.",
        )
    healthy = table.labels == HEALTHY
    turn = {record: index % len(shared) for index, record in enumerate(np.unique(table.records[healthy]))}
    turns = np.array([turn.get(record, -1) for record in table.records])
    folds: list[Fold] = []
    for index, size in enumerate(shared):
        tested = np.where(healthy, turns == index, table.severities == size)
        tested = np.where(table.blocks == WHOLE, tested, table.blocks == LAST)
        fold = Fold(f"{size:g}", np.flatnonzero(~tested), np.flatnonzero(tested))
        check_split(table, fold)
        folds.append(fold)
    return folds


def random_folds(table: Table, seed: int) -> list[Fold]:
    """Five stratified random folds over windows."""
    from sklearn.model_selection import StratifiedKFold

    fewest = int(np.unique(table.labels, return_counts=True)[1].min())
    if fewest < 2:
        raise InputError("protocol-impossible", "A label has a single window, which cannot be split.", "Record longer.")
    folds = StratifiedKFold(min(_RANDOM_FOLDS, fewest), shuffle=True, random_state=seed)
    return [
        Fold(str(index), train, test) for index, (train, test) in enumerate(folds.split(table.features, table.labels))
    ]


def check_split(table: Table, fold: Fold) -> None:
    """Refuse a fold with one record on both sides, unless its time blocks are apart.

    Raises:
        SplitError: `split-leaks`, naming the records.
    """
    for record in np.intersect1d(table.records[fold.train], table.records[fold.test]):
        train = set(table.blocks[fold.train][table.records[fold.train] == record].tolist())
        test = set(table.blocks[fold.test][table.records[fold.test] == record].tolist())
        if train != {FIRST} or test != {LAST}:
            raise SplitError(
                "split-leaks",
                f"Fold {fold.name}: the record {record} is in training and in test.",
                "Keep every record on one side; otherwise the score says nothing of new recordings.",
            )


def check_labels(recordings: Sequence[Recording]) -> None:
    """Refuse recordings that no classifier can learn from.

    Raises:
        InputError: `label-missing` or `labels-too-few`.
    """
    unlabelled = [item.record for item in recordings if not item.fault]
    if unlabelled:
        raise InputError(
            "label-missing", f"The record {unlabelled[0]} has no label.", "Fill in the column fault of the manifest."
        )
    labels = sorted({item.fault for item in recordings})
    if len(labels) < 2:
        raise InputError(
            "labels-too-few",
            f"A classifier needs two labels and there {'is ' + labels[0] if labels else 'are none'}.",
            "Add recordings of faults, or commission a novelty baseline from healthy ones.",
        )


@dataclass(frozen=True)
class _Predictions:
    labels: NDArray[np.str_]
    truth: NDArray[np.str_]
    records: NDArray[np.str_]
    probabilities: NDArray[np.float64]


_LEAKS = "leaking: windows of one record are in training and in test"


def _time_split_notes(table: Table) -> tuple[str, ...]:
    split = np.unique(table.labels[table.blocks != WHOLE])
    return tuple(f"{'healthy' if label == HEALTHY else label}: one record, time-split" for label in split)


def _told(folds: Sequence[Fold], progress: Progress | None) -> Iterator[Fold]:
    for index, fold in enumerate(folds):
        yield fold
        if progress:
            progress("folds", index + 1, len(folds))


def _predict(table: Table, fold: Fold, method: str, seed: int) -> _Predictions:
    model = build(method, seed).fit(table.features[fold.train], table.labels[fold.train])
    labels = np.unique(table.labels)
    probabilities = np.zeros((fold.test.size, labels.size))
    probabilities[:, np.searchsorted(labels, model.classes_)] = model.predict_proba(table.features[fold.test])
    # A time-split record is tested in every fold, by another model each time.
    repeated = table.blocks[fold.test] == LAST
    records = np.char.add(table.records[fold.test], np.where(repeated, f" in fold {fold.name}", ""))
    return _Predictions(labels, table.labels[fold.test], records, probabilities)


def _report(
    parts: Sequence[_Predictions], protocol: Protocol, method: str, window_seconds: float, notes: tuple[str, ...]
) -> VibrationReport:
    labels = parts[0].labels
    truth = np.searchsorted(labels, np.concatenate([part.truth for part in parts]))
    records = np.concatenate([part.records for part in parts])
    probabilities = np.concatenate([part.probabilities for part in parts])
    confusion = _confusion(truth, probabilities.argmax(axis=1), labels.size)
    per_class = {str(label): _class_score(confusion, index) for index, label in enumerate(labels)}
    names, first = np.unique(records, return_index=True)
    pooled = np.stack([pool(probabilities[records == name]) for name in names]).argmax(axis=1)
    record_confusion = _confusion(truth[first], pooled, labels.size)
    healthy = np.flatnonzero(labels == HEALTHY)
    false_alarms = 1 - per_class[HEALTHY].recall if healthy.size and per_class[HEALTHY].windows else None
    top, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    answered = top >= ABSTAIN_BELOW
    return VibrationReport(
        protocol=protocol,
        model=method,
        window_seconds=window_seconds,
        macro_f1=_macro_f1(confusion, range(labels.size)),
        macro_f1_faults=_macro_f1(confusion, [index for index in range(labels.size) if index not in healthy]),
        record_macro_f1=_macro_f1(record_confusion, range(labels.size)),
        ece=_calibration_error(top, right),
        false_alarm_rate=false_alarms,
        abstention_rate=float(1 - answered.mean()),
        answered_accuracy=float(right[answered].mean()) if answered.any() else None,
        per_class=per_class,
        confusion=tuple(tuple(int(cell) for cell in row) for row in confusion),
        windows=int(truth.size),
        records=int(names.size),
        notes=notes,
    )


def _confusion(truth: NDArray[np.intp], found: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    return np.bincount(truth * size + found, minlength=size * size).reshape(size, size)


def _class_score(confusion: NDArray[np.intp], index: int) -> ClassScore:
    hits, true, found = confusion[index, index], confusion[index].sum(), confusion[:, index].sum()
    return ClassScore(
        precision=float(hits / found) if found else 0.0,
        recall=float(hits / true) if true else 0.0,
        f1=float(2 * hits / (true + found)) if true + found else 0.0,
        windows=int(true),
    )


def _macro_f1(confusion: NDArray[np.intp], classes: Sequence[int]) -> float:
    """Mean F1 over those classes that occur in the test data."""
    present = [index for index in classes if confusion[index].sum()]
    return float(np.mean([_class_score(confusion, index).f1 for index in present])) if present else 0.0


def _calibration_error(top: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Guo et al., "On calibration of modern neural networks", ICML 2017."""
    bins = np.minimum((top * _BINS).astype(np.intp), _BINS - 1)
    gaps = [
        abs(float(top[bins == index].mean() - right[bins == index].mean())) * float((bins == index).mean())
        for index in np.unique(bins)
    ]
    return float(np.sum(gaps))
