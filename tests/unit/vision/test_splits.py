"""Splits that keep a group on one side, whatever the data set looks like."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from almenara.errors import InputError
from almenara.vision.images import Sample
from almenara.vision.splits import check_groups, folds, training_split


def make(groups: list[tuple[int, int]]) -> list[Sample]:
    """Samples of groups given as (normals, defects)."""
    return [
        Sample(Path(f"{number}-{index}.png"), "good" if index < normals else "crack", None, f"g{number}")
        for number, (normals, defects) in enumerate(groups)
        for index in range(normals + defects)
    ]


def groups_of(samples: list[Sample], positions: tuple[int, ...]) -> set[str]:
    return {samples[i].group for i in positions}


def test_a_group_on_two_sides_is_refused() -> None:
    samples = make([(3, 0), (3, 1)])
    with pytest.raises(InputError, match="g1") as raised:
        check_groups(samples[:4], samples[4:])
    assert raised.value.code == "split-leak"
    check_groups(samples[:3], samples[3:])


@given(
    groups=st.lists(st.tuples(st.integers(4, 9), st.integers(0, 3)), min_size=6, max_size=60),
    seed=st.integers(0, 5),
)
def test_no_split_leaks_and_only_normals_are_learnt_from(groups: list[tuple[int, int]], seed: int) -> None:
    samples = make(groups)
    for split in [training_split(samples, 0.05, seed), *folds(samples, seed)]:
        sides = [groups_of(samples, side) for side in (split.fit, split.calibration, split.test)]
        assert len(set.union(*sides)) == sum(len(side) for side in sides)
        assert all(samples[i].normal for i in split.fit + split.calibration)
        assert split.fit
        assert split.calibration


def test_folds_test_every_picture_once() -> None:
    samples = make([(5, 2)] * 9 + [(0, 4)])
    tested = sorted(i for split in folds(samples, 0) for i in split.test)
    assert tested == list(range(len(samples)))


def test_calibration_gets_the_groups_that_the_promise_needs() -> None:
    samples = make([(4, 0)] * 40)
    split = training_split(samples, 0.05, 0)
    assert len(groups_of(samples, split.calibration)) == 19


def test_few_groups_leave_enough_to_fit_on() -> None:
    samples = make([(6, 0)] * 10)
    split = training_split(samples, 0.01, 0)
    assert [len(groups_of(samples, side)) for side in (split.fit, split.calibration, split.test)] == [5, 3, 2]


def test_groups_with_defects_are_kept_for_the_test() -> None:
    samples = make([(4, 0)] * 40 + [(4, 2)] * 10)
    split = training_split(samples, 0.05, 3)
    assert sum(not samples[i].normal for i in split.test) == 20


@pytest.mark.parametrize("groups", [[(40, 3)], [(2, 0), (2, 0), (0, 5)]])
def test_too_little_data_is_said(groups: list[tuple[int, int]]) -> None:
    with pytest.raises(InputError, match=r"(at least 2 are needed|left to fit on)"):
        training_split(make(groups), 0.05, 0)


def test_two_groups_cannot_be_cross_validated() -> None:
    with pytest.raises(InputError, match="at least 3"):
        folds(make([(9, 1), (9, 1)]), 0)
