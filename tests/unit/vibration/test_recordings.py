"""Folders of recordings with a manifest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from almenara.errors import InputError
from almenara.vibration.recordings import COLUMNS, fingerprint, load_folder

ROW = "a.npy,,one,pump,6205-2RS,12000,1797,g,inner_race,7,,0"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "a.npy", np.arange(100, dtype=np.float32))
    np.save(tmp_path / "b.npy", np.ones((4, 30)))
    wavfile.write(tmp_path / "c.wav", 48_000, np.arange(100, dtype=np.float32))
    return tmp_path


def write(folder: Path, *rows: str, columns: tuple[str, ...] = COLUMNS) -> Path:
    (folder / "manifest.csv").write_text("\n".join([",".join(columns), *rows]) + "\n")
    return folder


def failure(folder: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        load_folder(folder)
    return caught.value


def test_a_manifest_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    header = ",".join(COLUMNS)
    (tmp_path / "manifest.csv").write_bytes(f"{header}\nx.npy,,1,pompe n°1,,12000,,,normal,,,\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"manifest\.csv, after line \d: not a CSV file in UTF-8"):
        load_folder(tmp_path)


def test_recordings_carry_what_the_manifest_says(folder: Path) -> None:
    one, two = load_folder(write(folder, ROW, "b.npy,,two,fan,,25600,,,,,,"))
    assert (one.record, one.asset, one.fault, one.severity, one.unit) == ("one", "pump", "inner_race", 7.0, "g")
    assert (one.sampling_rate_hz, one.shaft_rpm, one.load) == (12_000, 1797, "0")
    assert one.bearing is not None
    assert one.bearing.designation == "6205-2RS"
    assert (two.shaft_rpm, two.bearing, two.severity, two.unit) == (None, None, None, None)
    assert two.signal.shape == (4, 30)
    assert two.seconds == pytest.approx(120 / 25_600)


def test_rate_may_come_from_the_file(folder: Path) -> None:
    (recording,) = load_folder(write(folder, "c.wav,,one,pump,,,,,,,,"))
    assert recording.sampling_rate_hz == 48_000


def test_rate_that_contradicts_the_file_is_refused(folder: Path) -> None:
    error = failure(write(folder, "c.wav,,one,pump,,12000,,,,,,"))
    assert error.code == "sampling-rate-conflict"
    assert "line 2" in error.fact


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ("a.npy,,one,pump,6205-2RS,,1797,g,normal,0,,0", "sampling-rate-missing"),
        ("a.npy,,one,pump,6205-2RS,-1,1797,g,normal,0,,0", "sampling-rate-invalid"),
        ("a.npy,,one,pump,6205-2RS,12000,fast,g,normal,0,,0", "manifest-value"),
        ("a.npy,,one,pump,6205-2RS,12000,1797,g,normal,nan,,0", "manifest-value"),
        ("a.npy,,,pump,6205-2RS,12000,1797,g,normal,0,,0", "manifest-value"),
        ("none.npy,,one,pump,6205-2RS,12000,1797,g,normal,0,,0", "recording-missing"),
        ("a.npy,,one,pump,9999,12000,1797,g,normal,0,,0", "unknown-bearing"),
        (ROW, "record-duplicate"),
    ],
)
def test_error_names_file_and_line(folder: Path, row: str, code: str) -> None:
    error = failure(write(folder, ROW, row.replace(",one,", ",two,") if row != ROW else row))
    assert error.code == code
    assert "manifest.csv, line 3" in error.fact


def test_missing_column_is_named(folder: Path) -> None:
    error = failure(write(folder, columns=tuple(name for name in COLUMNS if name != "shaft_rpm")))
    assert error.code == "manifest-column"
    assert "shaft_rpm" in error.fact


def test_folder_without_manifest_or_rows_is_refused(tmp_path: Path) -> None:
    assert failure(tmp_path).code == "manifest-missing"
    assert failure(write(tmp_path)).code == "manifest-empty"


def test_fingerprint_follows_the_samples_and_labels_and_not_the_order(folder: Path) -> None:
    one, two = load_folder(write(folder, ROW, "b.npy,,two,fan,,25600,,,,,,"))
    assert fingerprint([one, two]) == fingerprint([two, one])
    assert fingerprint([replace(one, fault="ball"), two]) != fingerprint([one, two])
    assert fingerprint([replace(one, signal=one.signal + 1), two]) != fingerprint([one, two])
    assert fingerprint([replace(one, file="elsewhere.npy"), two]) == fingerprint([one, two])
