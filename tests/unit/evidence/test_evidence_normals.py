"""Confirmed normals: frames and windows of false alarms, as data sets that training reads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from almenara.errors import InputError
from almenara.evidence import LocalEvidence, keep_normal
from almenara.vibration import recordings
from almenara.vision import images
from tests.support.evidence import frame, window


def test_frames_become_a_data_set_of_normal_pictures(store: LocalEvidence, folder: Path) -> None:
    kept = [keep_normal(frame(store, grey), store, folder, "outflow", "vision") for grey in (40, 80)]
    samples = images.load_folder(folder / "vision" / "outflow")
    assert {sample.file for sample in samples} == set(kept)
    assert all(sample.normal for sample in samples)
    assert {int(images.read(sample.file).mean()) for sample in samples} == {40, 80}


def test_windows_become_a_data_set_of_normal_recordings(store: LocalEvidence, folder: Path) -> None:
    for seed in (1, 2):
        path = keep_normal(window(store, seed), store, folder, "line-2/pump-1", "vibration")
    assert path is not None
    first, second = recordings.load_folder(path.parent)
    assert (first.fault, first.asset, first.sampling_rate_hz, first.shaft_rpm, first.unit) == (
        "normal",
        "line-2/pump-1",
        12_000,
        1772,
        "g",
    )
    assert first.bearing is not None
    assert first.bearing.designation == "6205-2RS"
    assert first.record != second.record
    np.testing.assert_array_equal(first.signal, np.random.default_rng(1).normal(size=12_000).astype(np.float32))


def test_the_manifest_has_the_columns_of_training(store: LocalEvidence, folder: Path) -> None:
    path = keep_normal(window(store, 1), store, folder, "pump-1", "vibration")
    assert path is not None
    header = (path.parent / "manifest.csv").read_text().splitlines()[0]
    assert header == ",".join(recordings.COLUMNS)


def test_a_window_of_which_nothing_was_told_is_kept_too(store: LocalEvidence, folder: Path) -> None:
    path = keep_normal(window(store, 1, {}), store, folder, "pump-1", "vibration")
    assert path is not None
    (recording,) = recordings.load_folder(path.parent)
    assert (recording.bearing, recording.shaft_rpm, recording.unit) == (None, None, None)


def test_keeping_it_again_changes_nothing(store: LocalEvidence, folder: Path) -> None:
    picture, recording = frame(store, 40), window(store, 1)
    for _ in range(2):
        keep_normal(picture, store, folder, "outflow", "vision")
        keep_normal(recording, store, folder, "pump-1", "vibration")
    assert len(images.load_folder(folder / "vision" / "outflow")) == 1
    assert len(recordings.load_folder(folder / "vibration" / "pump-1")) == 1


def test_what_people_wrote_into_the_manifest_stays(store: LocalEvidence, folder: Path) -> None:
    first = keep_normal(window(store, 1), store, folder, "pump-1", "vibration")
    assert first is not None
    manifest = first.parent / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",normal,", ",inner_race,").rstrip())
    for seed in (1, 2):
        keep_normal(window(store, seed), store, folder, "pump-1", "vibration")
    assert sorted(each.fault for each in recordings.load_folder(first.parent)) == ["inner_race", "normal"]


def test_windows_that_are_kept_at_once_all_get_their_line(store: LocalEvidence, folder: Path) -> None:
    windows = [window(store, seed) for seed in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda files: keep_normal(files, store, folder, "pump-1", "vibration"), windows))
    assert len(recordings.load_folder(folder / "vibration" / "pump-1")) == 12


def test_sources_whose_names_look_alike_are_kept_apart(store: LocalEvidence, folder: Path) -> None:
    one = keep_normal(window(store, 1), store, folder, "line/pump", "vibration")
    other = keep_normal(window(store, 2), store, folder, "line_pump", "vibration")
    assert one is not None
    assert other is not None
    assert one.parent != other.parent


def test_an_alarm_that_shows_neither_frame_nor_window_leaves_nothing(store: LocalEvidence, folder: Path) -> None:
    files = store.save("detection", {"verdict.json": b"{}"})
    assert keep_normal(files, store, folder, "detection", "system") is None
    assert keep_normal(files, store, folder, "outflow", "vision") is None
    assert keep_normal((), store, folder, "pump-1", "vibration") is None
    assert not folder.exists()


def test_evidence_that_is_gone_is_an_oserror(store: LocalEvidence, folder: Path) -> None:
    files = frame(store, 40)
    store.delete(store.stored()[0])
    with pytest.raises(FileNotFoundError):
        keep_normal(files, store, folder, "outflow", "vision")
    assert not folder.exists()


def test_a_window_that_is_none_is_refused(store: LocalEvidence, folder: Path) -> None:
    files = store.save("pump-1", {"window.npz": b"no archive"})
    with pytest.raises(InputError, match="cannot be read"):
        keep_normal(files, store, folder, "pump-1", "vibration")
    assert not folder.exists()
