"""Evaluation: splits that keep records apart, and figures worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from almenara.errors import InputError
from almenara.vibration.evaluate import (
    Fold,
    SplitError,
    check_split,
    evaluate,
    evaluate_table,
    random_folds,
    size_folds,
)
from almenara.vibration.features import BearingFeatures
from almenara.vibration.recordings import Recording
from almenara.vibration.simulate import demo_recordings
from almenara.vibration.table import FIRST, GAP_SHARE, LAST, WHOLE, Table, single_records, tabulate, time_blocks

FAULTS = ("ball", "inner_race")


def table(*, healthy_records: int = 3, sizes: tuple[float, ...] = (7, 14, 21), windows: int = 4) -> Table:
    """Two columns that separate healthy and two faults, several records each."""
    random = np.random.default_rng(0)
    entries: list[tuple[str, str, float, int]] = []
    if healthy_records == 1:
        entries += [("normal", "n0", 0.0, block) for block in (FIRST, LAST)]
    else:
        entries += [("normal", f"n{index}", 0.0, WHOLE) for index in range(healthy_records)]
    entries += [(fault, f"{fault}{size:g}", size, WHOLE) for fault in FAULTS for size in sizes]
    entries += [("ball", "ball28", 28.0, WHOLE)]
    centre = {"normal": (0, 0), "ball": (9, 0), "inner_race": (0, 9)}
    repeated = [entry for entry in entries for _ in range(windows)]
    records = np.array([entry[1] for entry in repeated])
    features = np.array([centre[entry[0]] for entry in repeated]) + random.normal(size=(len(repeated), 2))
    return Table(
        features=features.astype(np.float32),
        labels=np.array([entry[0] for entry in repeated]),
        records=records,
        groups=records,
        severities=np.array([entry[2] for entry in repeated]),
        blocks=np.array([entry[3] for entry in repeated]),
    )


def test_folds_are_the_sizes_that_every_fault_has() -> None:
    assert [fold.name for fold in size_folds(table())] == ["7", "14", "21"]


def test_a_size_that_not_every_fault_has_always_trains() -> None:
    rows = table()
    only = np.flatnonzero(rows.records == "ball28")
    assert all(np.isin(only, fold.train).all() for fold in size_folds(rows))


def test_every_fold_holds_out_its_size_and_one_turn_of_the_healthy_records() -> None:
    rows = table()
    tested = [set(rows.records[fold.test].tolist()) for fold in size_folds(rows)]
    assert tested == [
        {"ball7", "inner_race7", "n0"},
        {"ball14", "inner_race14", "n1"},
        {"ball21", "inner_race21", "n2"},
    ]


def test_no_record_is_on_two_sides() -> None:
    rows = table(healthy_records=5)
    for fold in size_folds(rows):
        assert not set(rows.records[fold.train].tolist()) & set(rows.records[fold.test].tolist())
        assert fold.train.size + fold.test.size == len(rows)


def test_a_record_on_two_sides_is_refused() -> None:
    rows = table()
    everything = np.arange(len(rows))
    with pytest.raises(SplitError, match="the record ball14 is in training and in test"):
        check_split(rows, Fold("x", everything[:-1], np.flatnonzero(rows.records == "ball14")[:1]))


def test_the_random_split_would_be_refused() -> None:
    rows = table()
    with pytest.raises(SplitError):
        check_split(rows, random_folds(rows, 0)[0])


def test_the_single_healthy_record_trains_with_its_first_block_and_tests_with_its_last() -> None:
    rows = table(healthy_records=1)
    for fold in size_folds(rows):
        healthy = rows.labels == "normal"
        assert set(rows.blocks[fold.train][healthy[fold.train]].tolist()) == {FIRST}
        assert set(rows.blocks[fold.test][healthy[fold.test]].tolist()) == {LAST}


def test_time_blocks_of_the_wrong_way_round_are_refused() -> None:
    rows = table(healthy_records=1)
    first = np.flatnonzero(rows.blocks == FIRST)
    with pytest.raises(SplitError):
        check_split(rows, Fold("x", np.setdiff1d(np.arange(len(rows)), first), first))


@pytest.mark.parametrize("shape", [(1000,), (20, 50)])
def test_time_blocks_leave_a_gap(shape: tuple[int, ...]) -> None:
    signal = np.arange(1000, dtype=np.float32).reshape(shape)
    recording = Recording(signal, 10.0, None, None, "one", "pump", None, "normal")
    (_, first), (_, last) = time_blocks(recording)
    assert last.signal.min() - first.signal.max() >= GAP_SHARE * 1000 - 1
    assert first.signal.ndim == len(shape)


def test_sizes_that_faults_do_not_share_are_refused() -> None:
    rows = table()
    with pytest.raises(InputError) as caught:
        size_folds(replace(rows, severities=np.where(rows.labels == "ball", 99, rows.severities)))
    assert caught.value.code == "protocol-impossible"


def test_separable_data_score_one_and_say_what_was_split() -> None:
    report = evaluate_table(
        table(healthy_records=1), protocol="leave-one-fault-size-out", method="logistic-regression", window_seconds=1
    )
    assert (report.macro_f1, report.record_macro_f1, report.false_alarm_rate) == (1, 1, 0)
    assert report.notes == ("healthy: one record, time-split",)
    assert report.windows == 3 * (2 * 4 + 4)
    assert report.records == 3 * 2 + 3


def test_scores_are_those_of_the_confusion_matrix() -> None:
    rows = table()
    swapped = np.where(rows.records == "ball7", "inner_race", rows.labels)
    report = evaluate_table(
        replace(rows, labels=swapped), protocol="random-window", method="logistic-regression", window_seconds=1
    )
    confusion = np.array(report.confusion)
    scores = []
    for index, label in enumerate(sorted(set(swapped.tolist()))):
        hits = confusion[index, index]
        scores.append(2 * hits / (confusion[index].sum() + confusion[:, index].sum()))
        assert report.per_class[label].f1 == pytest.approx(scores[-1])
        assert report.per_class[label].windows == np.sum(swapped == label)
    assert confusion.sum() == len(rows)
    assert report.macro_f1 == pytest.approx(np.mean(scores))
    assert 0.3 < report.macro_f1 < 1


def test_the_random_split_says_that_it_leaks() -> None:
    report = evaluate_table(table(), protocol="random-window", method="logistic-regression", window_seconds=1)
    assert any("leaking" in note for note in report.notes)


def test_recordings_without_a_label_or_with_one_label_are_refused() -> None:
    fleet = demo_recordings(records=1, seconds=0.2)
    for broken, code in (
        ([replace(fleet[0], fault=""), *fleet[1:]], "label-missing"),
        ([item for item in fleet if item.fault == "normal"], "labels-too-few"),
    ):
        with pytest.raises(InputError) as caught:
            evaluate(broken, protocol="random-window")
        assert caught.value.code == code


def test_a_bad_window_names_its_record() -> None:
    fleet = demo_recordings(records=1, seconds=0.2)
    fleet[2] = replace(fleet[2], signal=np.zeros(2400, np.float32))
    with pytest.raises(InputError, match=f"Record {fleet[2].record}: Window 0"):
        evaluate(fleet, protocol="random-window")


def test_snapshots_are_groups_of_their_own() -> None:
    recording = replace(demo_recordings(records=1, seconds=1.2)[0], record="r")
    stacked = replace(recording, signal=recording.signal.reshape(3, -1))
    rows = tabulate([stacked], BearingFeatures(window_seconds=0.2, hop_seconds=0.1))
    names, counts = np.unique(rows.groups, return_counts=True)
    assert names.tolist() == ["r#0", "r#1", "r#2"]
    assert all(one == other for one, other in pairwise(counts))


@pytest.fixture
def told() -> tuple[list[tuple[str, int, int]], Callable[[str, int, int], None]]:
    seen: list[tuple[str, int, int]] = []
    return seen, lambda stage, done, total: seen.append((stage, done, total))


def test_evaluation_of_the_simulated_fleet_reports_its_progress(
    told: tuple[list[tuple[str, int, int]], Callable[[str, int, int], None]],
) -> None:
    seen, progress = told
    fleet = demo_recordings(records=2, seconds=1.5)
    report = evaluate(fleet, protocol="leave-one-fault-size-out", method="logistic-regression", progress=progress)
    assert report.macro_f1 > 0.5
    assert ("features", len(fleet), len(fleet)) in seen
    assert seen[-1] == ("folds", 3, 3)
    assert single_records(fleet) == frozenset()
