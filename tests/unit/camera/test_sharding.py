"""Cameras shared out among workers: evenly, the same everywhere, and with little movement."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from camera_worker.sharding import Shard

CAMERAS = [f"line-{line}.camera-{camera}" for line in range(20) for camera in range(50)]


def owners(count: int) -> dict[str, int]:
    """The one worker of `count` that watches each camera."""
    return {camera: owner for camera in CAMERAS for owner in range(1, count + 1) if Shard(owner, count).owns(camera)}


def test_every_camera_has_exactly_one_worker() -> None:
    for camera in CAMERAS:
        assert sum(Shard(index, 5).owns(camera) for index in range(1, 6)) == 1


def test_a_single_worker_has_them_all() -> None:
    assert all(Shard.parse("1/1").owns(camera) for camera in CAMERAS)


def test_workers_have_about_as_many_cameras_each() -> None:
    shares = Counter(owners(4).values())
    assert all(200 <= share <= 300 for share in shares.values())  # 250 ± 3.6 standard deviations


def test_one_worker_more_takes_its_share_and_moves_nothing_else() -> None:
    before, after = owners(4), owners(5)
    moved = [camera for camera in CAMERAS if before[camera] != after[camera]]
    assert {after[camera] for camera in moved} == {5}
    assert 150 <= len(moved) <= 250  # a fifth of them, 200 ± 4 standard deviations


def test_another_process_shares_out_alike() -> None:
    script = "from camera_worker.sharding import Shard; print([Shard(2, 3).owns(f'camera-{n}') for n in range(12)])"
    answers = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert answers == {f"{[Shard(2, 3).owns(f'camera-{n}') for n in range(12)]}\n"}


def test_the_shares_of_a_version_stay_those_of_the_next() -> None:
    assert [index for name in "abcdef" for index in (1, 2, 3) if Shard(index, 3).owns(name)] == [3, 3, 1, 3, 3, 1]


@pytest.mark.parametrize(
    "text", ["", "1", "0/3", "4/3", "-1/3", "1/0", "a/b", "1/3/5", "1.5/3", "1/1001", "9" * 50 + "/1"]
)
def test_what_is_no_shard_is_refused_plainly(text: str) -> None:
    with pytest.raises(ValueError, match="is no shard: write i/n"):
        Shard.parse(text)


def test_a_shard_is_written_as_it_is_read() -> None:
    assert str(Shard.parse(" 2/3 ")) == "2/3"
