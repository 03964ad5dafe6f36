"""Retention: by age and by size, the oldest first, never what a standing alarm needs."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from almenara.evidence import LocalEvidence, Retention, Stored
from almenara.evidence.retention import YOUNG_SECONDS, superfluous

DAY = 86_400.0
NOW = 1_800_000_000.0


@st.composite
def libraries(draw: st.DrawFn) -> list[Stored]:
    names = draw(st.lists(st.from_regex(r"[ab]/[a-z0-9]{1,3}", fullmatch=True), max_size=20, unique=True))
    ages = st.floats(0, 200 * DAY)
    return [Stored(name, ("frame.jpg",), draw(st.integers(0, 1000)), NOW - draw(ages)) for name in names]


@given(
    libraries(),
    st.data(),
    st.one_of(st.none(), st.floats(3600, 200 * DAY)),
    st.integers(0, 8000),
    st.sampled_from(["/var/evidence", "var/evidence", "s3://bucket/prefix", "/moved/elsewhere"]),
)
def test_retention_keeps_what_is_needed_and_no_more_than_it_may(
    stored: list[Stored], data: st.DataObject, keep: float | None, most: int, root: str
) -> None:
    standing = data.draw(st.sets(st.sampled_from(stored))) if stored else set()
    needed = {f"{root}/{each.name}/frame.jpg" for each in standing}
    going = superfluous(stored, needed, now=NOW, keep_seconds=keep, at_most_bytes=most)
    staying = [each for each in stored if each not in going]
    held = {each for each in stored if each in standing or NOW - each.saved_at < YOUNG_SECONDS}
    assert held <= set(staying)
    free = [each for each in staying if each not in held]
    if keep is not None:
        assert all(NOW - each.saved_at <= keep for each in free)
    assert not free or sum(each.size for each in staying) <= most
    for gone in going:
        too_old = keep is not None and NOW - gone.saved_at > keep
        older = [each for each in free if each.saved_at < gone.saved_at]
        assert too_old or not older, "the oldest goes first"
    spared = sum(each.size for each in staying) + (going[-1].size if going else 0)
    assert not going or (keep is not None and NOW - going[-1].saved_at > keep) or spared > most, "no more than it must"


def test_evidence_of_another_alarm_with_the_same_file_names_is_not_taken_for_needed() -> None:
    stored = [Stored(f"worker-1/{alarm}/frame", ("frame.jpg",), 10, NOW - 100 * DAY) for alarm in ("one", "two")]
    needed = {"/var/evidence/worker-1/one/frame/frame.jpg"}
    going = superfluous(stored, needed, now=NOW, keep_seconds=DAY, at_most_bytes=1000)
    assert [each.name for each in going] == ["worker-1/two/frame"]


def test_a_sweep_removes_what_is_too_old_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = LocalEvidence(tmp_path, leave_free=0)
    for name, age in (("old", 100 * DAY), ("standing", 100 * DAY), ("new", DAY)):
        _save(store, name, 2_000_000, age)
    needed = {str(tmp_path / "standing" / "frame.jpg")}
    retention = Retention(store, keep_seconds=90 * DAY, at_most_bytes=10**9, needed=lambda: needed)
    with caplog.at_level(logging.INFO):
        retention.sweep(time.time())
    assert {each.name for each in store.stored()} == {"standing", "new"}
    assert (retention.removed, retention.removed_bytes) == (1, 2_000_000)
    assert "Removed the evidence of 1 old alarms, 2.0 MB." in caplog.text


def test_standing_alarms_that_take_more_than_there_may_be_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = LocalEvidence(tmp_path, leave_free=0)
    _save(store, "standing", 2_000_000, DAY)
    needed = {str(tmp_path / "standing" / "frame.jpg")}
    Retention(store, keep_seconds=None, at_most_bytes=10**6, needed=lambda: needed).sweep(time.time())
    assert [each.name for each in store.stored()] == ["standing"]
    assert "Evidence takes 2.0 MB, more than the 1.0 MB it may" in caplog.text


def test_without_knowing_what_is_needed_nothing_is_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = LocalEvidence(tmp_path, leave_free=0)
    _save(store, "old", 10, 100 * DAY)
    stop = threading.Event()

    def needed() -> set[str]:
        stop.set()
        raise RuntimeError("the database is away")

    Retention(store, keep_seconds=DAY, at_most_bytes=0, needed=needed).run(stop)
    assert [each.name for each in store.stored()] == ["old"]
    assert "Old evidence could not be removed: the database is away" in caplog.text


def _save(store: LocalEvidence, name: str, size: int, age: float) -> None:
    (file,) = store.save(name, {"frame.jpg": bytes(size)})
    saved_at = time.time() - age
    os.utime(file.uri, (saved_at, saved_at))
