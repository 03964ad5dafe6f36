"""Recordings and the folders that hold them: a `manifest.csv` beside the signal files."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from almenara.errors import InputError
from almenara.manifests import RECORDING_COLUMNS as COLUMNS
from almenara.manifests import open_manifest
from almenara.vibration.bearings import Bearing, bearing
from almenara.vibration.signals import agreed_rate, parse_signal, read_signal
from almenara.vibration.windowing import check_rate, windows

__all__ = ["COLUMNS", "MANIFEST", "Recording", "fingerprint", "load_folder", "parse_signal", "read_signal", "windows"]

MANIFEST = "manifest.csv"


@dataclass(frozen=True, eq=False)
class Recording:
    """One recording of one sensor, with what must be known to judge it.

    Attributes:
        signal: float32, shape (samples,), or (snapshots, samples) when taken at intervals.
        sampling_rate_hz: samples a second.
        shaft_rpm: revolutions a minute, when known.
        unit: of the samples (`g`, `m/s2`), when known.
        record: unique id; the unit that is never split between training and test.
        asset: the machine.
        bearing: when known.
        fault: `normal`, `inner_race`, `outer_race`, `ball` or a label of one's own; empty when unlabelled.
        severity: size of the fault (CWRU: thousandths of an inch), when known.
        position: of the fault in the load zone (CWRU: clock hour), or empty.
        load: operating point (CWRU: horsepower), or empty.
        file: where it came from.
    """

    signal: NDArray[np.float32]
    sampling_rate_hz: float
    shaft_rpm: float | None
    unit: str | None
    record: str
    asset: str
    bearing: Bearing | None
    fault: str
    severity: float | None = None
    position: str = ""
    load: str = ""
    file: str = ""

    @property
    def seconds(self) -> float:
        """Length, of all snapshots together."""
        return self.signal.size / self.sampling_rate_hz


def load_folder(folder: str | Path) -> list[Recording]:
    """Read every recording that a folder's manifest names.

    Raises:
        InputError: with the file and line that is wrong: no manifest or an empty one, a missing column, an empty or
            unreadable value, a signal file that is missing or broken, two records with one id.
    """
    manifest = Path(folder) / MANIFEST
    if not manifest.is_file():
        raise InputError(
            "manifest-missing",
            f"{folder} holds no {MANIFEST}.",
            f"Write one with the columns {', '.join(COLUMNS)}, or run `almenara data import`.",
        )
    recordings: list[Recording] = []
    lines: dict[str, int] = {}
    with open_manifest(manifest) as reader:
        missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
        if missing:
            raise InputError(
                "manifest-column",
                f"{manifest}, line 1: the column {', '.join(missing)} is missing.",
                f"The columns are {', '.join(COLUMNS)}; leave a cell empty where nothing is known.",
            )
        for row in reader:
            recording = _recording(row, f"{manifest}, line {reader.line_num}", manifest.parent)
            if recording.record in lines:
                raise InputError(
                    "record-duplicate",
                    f"{manifest}, line {reader.line_num}: the record {recording.record} is on line "
                    f"{lines[recording.record]} already.",
                    "Give each recording an id of its own: splits between training and test go by it.",
                )
            lines[recording.record] = reader.line_num
            recordings.append(recording)
    if not recordings:
        raise InputError("manifest-empty", f"{manifest} names no recording.", "Add a line for each signal file.")
    return recordings


def fingerprint(recordings: Sequence[Recording]) -> str:
    """SHA-256 over samples and labels, whatever the order and the file names."""
    digests = []
    for item in recordings:
        name = item.bearing.designation if item.bearing else ""
        facts = (item.record, item.asset, name, item.sampling_rate_hz, item.shaft_rpm, item.fault, item.severity)
        digest = hashlib.sha256(repr((facts, item.signal.shape)).encode())
        digest.update(np.ascontiguousarray(item.signal, dtype="<f4").tobytes())
        digests.append(digest.digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def _recording(row: dict[str, str], where: str, folder: Path) -> Recording:
    for column in ("file", "record"):
        if not row[column].strip():
            raise InputError("manifest-value", f"{where}: the column {column} is empty.")
    path = folder / row["file"].strip()
    if not path.is_file():
        raise InputError("recording-missing", f"{where}: there is no file {path}.")
    try:
        signal, own_rate = read_signal(path, row["channel"].strip() or None)
        rate = agreed_rate(_number(row, "sampling_rate_hz", where), own_rate, where)
        check_rate(rate)
        geometry = bearing(row["bearing"]) if row["bearing"].strip() else None
    except InputError as error:
        fact = error.fact if error.fact.startswith(where) else f"{where}: {error.fact}"
        raise InputError(error.code, fact, error.remedy) from error
    return Recording(
        signal=signal,
        sampling_rate_hz=rate,
        shaft_rpm=_number(row, "shaft_rpm", where),
        unit=row["unit"].strip() or None,
        record=row["record"].strip(),
        asset=row["asset"].strip() or "unknown",
        bearing=geometry,
        fault=row["fault"].strip(),
        severity=_number(row, "severity", where),
        position=row["position"].strip(),
        load=row["load"].strip(),
        file=row["file"].strip(),
    )


def _number(row: dict[str, str], column: str, where: str) -> float | None:
    text = row[column].strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError("manifest-value", f"{where}: {column} is {text!r}, not a number.")
    return value
