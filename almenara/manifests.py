"""Manifests: UTF-8 CSV files with a header, whose mistakes are told with file and line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from almenara.errors import InputError

RECORDING_COLUMNS = (
    "file",
    "channel",
    "record",
    "asset",
    "bearing",
    "sampling_rate_hz",
    "shaft_rpm",
    "unit",
    "fault",
    "severity",
    "position",
    "load",
)
"""Of a folder of vibration recordings."""


@contextmanager
def open_manifest(path: Path) -> Iterator[csv.DictReader[str]]:
    """A reader of the rows; empty cells are empty strings, and a byte-order mark is taken off.

    Raises:
        InputError: `manifest-unreadable`, the file is not UTF-8 or no table.
    """
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream, restval="")
        try:
            yield reader
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(
                "manifest-unreadable",
                f"{path}, after line {reader.line_num}: not a CSV file in UTF-8 ({error}).",
                "Save it as CSV UTF-8; a spreadsheet offers that when saving.",
            ) from error
