"""Import of the Case Western Reserve University bearing records, in the form in which people download them.

The table of records is from the Bearing Data Center's pages. The healthy records 97 to 100 were sampled at 48 kHz,
though most copies lay them among 12 kHz fault records; here each record has the rate it was taken at.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from almenara.contracts import Progress
from almenara.errors import InputError
from almenara.vibration.recordings import COLUMNS, MANIFEST

BEARING = "6205-2RS"
ASSET = "cwru_drive_end"


@dataclass(frozen=True)
class CwruRecord:
    """What is known of a record by its number.

    Attributes:
        number: of the record, 97 to 3008.
        fault: normal, inner_race, outer_race or ball.
        severity: diameter of the fault in thousandths of an inch, 0 for healthy.
        position: clock hour of an outer-race fault against the load zone at 6, or empty.
        load: horsepower, 0 to 3.
        sampling_rate_hz: 12 or 48 kHz.
    """

    number: int
    fault: str
    severity: int
    position: str
    load: int
    sampling_rate_hz: int

    @property
    def file(self) -> str:
        """Path inside the imported folder."""
        if self.fault == "normal":
            return f"normal/{self.number}_Normal_{self.load}.mat"
        at = f"@{self.position}" if self.position else ""
        return f"{self.sampling_rate_hz // 1000}k_drive_end/{self.number}{at}_{self.load}.mat"


@dataclass(frozen=True)
class ImportReport:
    """Which records were written and which files were left out, each with its reason."""

    records: tuple[str, ...]
    skipped: tuple[str, ...]

    @property
    def imported(self) -> int:
        """How many records were written."""
        return len(self.records)


def import_cwru(src: str | Path, dst: str | Path, progress: Progress | None = None) -> ImportReport:
    """Turn a folder of downloaded `.mat` files into a folder with a manifest; the drive-end channel alone is kept.

    Files are recognised by their number (`105.mat`, `130@6_0.mat`, `97_Normal_0.mat`, `12k_Drive_End_IR007_0_105.mat`)
    or else by the variables inside (`IR007_0.mat` holds `X105_DE_time`). Running it again writes the same.

    Args:
        src: searched with its subfolders.
        dst: made if need be.
        progress: told of every file.

    Raises:
        InputError: `import-source`, no such folder or not one known record in it.
    """
    source, target = Path(src), Path(dst)
    if not source.is_dir():
        raise InputError(
            "import-source", f"There is no folder {source}.", "Name the folder with the downloaded .mat files."
        )
    files = sorted(path for path in source.rglob("*") if path.is_file())
    rows: dict[int, dict[str, str]] = {}
    skipped: list[str] = []
    for index, file in enumerate(files):
        try:
            known, signal, rpm = _read(file)
            if known.number in rows:
                skipped.append(f"{file}: record {known.number} was imported already")
            else:
                rows[known.number] = _write(known, signal, rpm, target)
        except InputError as error:
            skipped.append(error.fact)
        if progress:
            progress("import", index + 1, len(files))
    if not rows:
        raise InputError(
            "import-source",
            f"{source} holds no known CWRU record ({len(files)} files were looked at).",
            "Download .mat files of the 12k or 48k drive-end data and the normal baseline.",
        )
    ordered = sorted(rows, key=lambda number: (_RECORDS[number].fault != "normal", number))
    _write_manifest([rows[number] for number in ordered], target)
    return ImportReport(tuple(str(number) for number in ordered), tuple(skipped))


_RPM_BY_LOAD = (1797.0, 1772.0, 1750.0, 1730.0)
"""Approximate speeds from the data's own page, for files that hold no RPM variable."""

_28_MIL_VARIABLES = {56 + load: 3001 + load for load in range(4)} | {48 + load: 3005 + load for load in range(4)}
"""The 28 mil records are numbered 3001 to 3008 and name their variables X056 to X059 and X048 to X051."""


def _table() -> Iterator[CwruRecord]:
    for load in range(4):
        yield CwruRecord(97 + load, "normal", 0, "", load, 48_000)
    for rate, fault, severity, position, numbers in _SERIES:
        for load, number in enumerate(numbers):
            yield CwruRecord(number, fault, severity, position, load, rate)


def _four(first: int) -> tuple[int, ...]:
    return tuple(range(first, first + 4))


_SERIES: tuple[tuple[int, str, int, str, tuple[int, ...]], ...] = (
    (12_000, "inner_race", 7, "", _four(105)),
    (12_000, "ball", 7, "", _four(118)),
    (12_000, "outer_race", 7, "6", _four(130)),
    (12_000, "outer_race", 7, "3", _four(144)),
    (12_000, "outer_race", 7, "12", (156, 158, 159, 160)),
    (12_000, "inner_race", 14, "", _four(169)),
    (12_000, "ball", 14, "", _four(185)),
    (12_000, "outer_race", 14, "6", _four(197)),
    (12_000, "inner_race", 21, "", _four(209)),
    (12_000, "ball", 21, "", _four(222)),
    (12_000, "outer_race", 21, "6", _four(234)),
    (12_000, "outer_race", 21, "3", _four(246)),
    (12_000, "outer_race", 21, "12", _four(258)),
    (12_000, "inner_race", 28, "", _four(3001)),
    (12_000, "ball", 28, "", _four(3005)),
    (48_000, "inner_race", 7, "", _four(109)),
    (48_000, "ball", 7, "", _four(122)),
    (48_000, "outer_race", 7, "6", _four(135)),
    (48_000, "outer_race", 7, "3", _four(148)),
    (48_000, "outer_race", 7, "12", _four(161)),
    (48_000, "inner_race", 14, "", _four(174)),
    (48_000, "ball", 14, "", _four(189)),
    (48_000, "outer_race", 14, "6", _four(201)),
    (48_000, "inner_race", 21, "", (213, 214, 215, 217)),
    (48_000, "ball", 21, "", _four(226)),
    (48_000, "outer_race", 21, "6", _four(238)),
    (48_000, "outer_race", 21, "3", _four(250)),
    (48_000, "outer_race", 21, "12", _four(262)),
)

_RECORDS = {record.number: record for record in _table()}


def _read(file: Path) -> tuple[CwruRecord, NDArray[np.float32], float]:
    """Record, drive-end signal and speed of a file.

    Raises:
        InputError: with the reason to skip it.
    """
    from scipy.io import loadmat

    if file.suffix.lower() != ".mat":
        raise InputError("import-file", f"{file}: not a .mat file")
    try:
        content: dict[str, Any] = loadmat(file)
    except Exception as error:
        raise InputError("import-file", f"{file}: not readable ({error})") from error
    channels = {int(match[1]): name for name in content if (match := re.fullmatch(r"X(\d+)_DE_time", name))}
    number = _number_in_name(file.stem)
    if number is None:
        found = [_28_MIL_VARIABLES.get(variable, variable) for variable in channels]
        number = found[0] if len(found) == 1 else None
    known = _RECORDS.get(number) if number is not None else None
    if known is None:
        what = (
            "no number of a known record in its name or variables"
            if number is None
            else f"record {number} is not known"
        )
        raise InputError("import-file", f"{file}: {what}")
    variables = [variable for variable in channels if _28_MIL_VARIABLES.get(variable, variable) == known.number]
    if not variables:
        raise InputError("import-file", f"{file}: holds no drive-end channel of record {known.number}")
    signal = np.asarray(content[channels[variables[0]]], dtype=np.float32).ravel()
    speed = content.get(f"X{variables[0]:03d}RPM")
    rpm = float(np.ravel(speed)[0]) if speed is not None and np.size(speed) else _RPM_BY_LOAD[known.load]
    return known, signal, rpm


def _number_in_name(stem: str) -> int | None:
    """A number at the very beginning or, after `48k_Drive_End_..._0_`, at the end."""
    match = re.match(r"(\d{2,4})(?![\dk])", stem) or re.search(r"_(\d{2,4})$", stem)
    return int(match[1]) if match else None


def _write(known: CwruRecord, signal: NDArray[np.float32], rpm: float, target: Path) -> dict[str, str]:
    from scipy.io import savemat

    variable = next((own for own, number in _28_MIL_VARIABLES.items() if number == known.number), known.number)
    channel = f"X{variable:03d}_DE_time"
    content = {channel: signal[:, None], f"X{variable:03d}RPM": rpm}
    with _replaced(target / known.file) as part:
        savemat(str(part), content, appendmat=False, do_compression=True)
    values = (
        known.file,
        channel,
        known.number,
        ASSET,
        BEARING,
        known.sampling_rate_hz,
        rpm,
        "g",
        known.fault,
        known.severity,
        known.position,
        known.load,
    )
    return {column: str(value) for column, value in zip(COLUMNS, values, strict=True)}


def _write_manifest(rows: list[dict[str, str]], target: Path) -> None:
    with _replaced(target / MANIFEST) as part, part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """A file to write that then takes the path's place, so that a broken-off import leaves no half file there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    yield part
    part.replace(path)
