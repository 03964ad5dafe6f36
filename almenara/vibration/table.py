"""Feature rows of many recordings, each with its label, record and place in time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from almenara.contracts import Progress
from almenara.errors import InputError
from almenara.vibration.features import SCALE_FREE, BearingFeatures, Group
from almenara.vibration.recordings import Recording
from almenara.vibration.windowing import windows

WHOLE, FIRST, LAST = 0, 1, 2
"""Where a row comes from: a whole recording, or its first or last time block."""

FIRST_SHARE, GAP_SHARE = 0.55, 0.10
"""Time blocks of a recording that must serve for training and test: the first 55 % and, after a gap, the last 35 %."""


@dataclass(frozen=True, eq=False)
class Table:
    """Feature rows.

    Attributes:
        features: float32 (n, features).
        labels: str (n,), the fault.
        records: str (n,).
        groups: str (n,), the record, or one snapshot of it.
        severities: float64 (n,), NaN where unknown.
        blocks: int (n,), WHOLE, FIRST or LAST.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.str_]
    records: NDArray[np.str_]
    groups: NDArray[np.str_]
    severities: NDArray[np.float64]
    blocks: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.features.shape[0])

    def only(self, rows: NDArray[np.bool_]) -> Table:
        """The rows where the mask is true."""
        return Table(
            self.features[rows],
            self.labels[rows],
            self.records[rows],
            self.groups[rows],
            self.severities[rows],
            self.blocks[rows],
        )


def extractor_for(recordings: Sequence[Recording], window_seconds: float, *, level: bool = False) -> BearingFeatures:
    """The widest set of features that every recording allows: no envelope orders where a speed or bearing is unknown.

    Args:
        recordings: at least one.
        window_seconds: length of a window; the hop is half of it.
        level: with the groups that depend on unit and gain, for a model of one asset.
    """
    oriented = all(item.shaft_rpm is not None and item.bearing is not None for item in recordings)
    groups: tuple[Group, ...] = SCALE_FREE if oriented else ("time", "spectrum")
    return BearingFeatures(
        window_seconds=window_seconds,
        hop_seconds=window_seconds / 2,
        groups=("level", *groups) if level else groups,
    )


def tabulate(
    recordings: Sequence[Recording],
    extractor: BearingFeatures,
    *,
    time_split: frozenset[str] = frozenset(),
    progress: Progress | None = None,
) -> Table:
    """Describe the windows of every recording.

    Args:
        recordings: what to describe.
        extractor: how.
        time_split: records to be cut into a first and a last time block with a gap between them.
        progress: told of every recording.

    Raises:
        InputError: a window cannot be used; the record is named.
    """
    if not recordings:
        raise InputError("recordings-missing", "There is no recording.", "Add lines to the manifest.")
    parts: list[Table] = []
    for index, recording in enumerate(recordings):
        cuts = time_blocks(recording) if recording.record in time_split else ((WHOLE, recording),)
        parts += [_rows(part, extractor, block) for block, part in cuts]
        if progress:
            progress("features", index + 1, len(recordings))
    return Table(
        features=np.concatenate([part.features for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        records=np.concatenate([part.records for part in parts]),
        groups=np.concatenate([part.groups for part in parts]),
        severities=np.concatenate([part.severities for part in parts]),
        blocks=np.concatenate([part.blocks for part in parts]),
    )


def single_records(recordings: Sequence[Recording]) -> frozenset[str]:
    """Records that are the only one of their label."""
    count = Counter(item.fault for item in recordings)
    return frozenset(item.record for item in recordings if count[item.fault] == 1)


def time_blocks(recording: Recording) -> tuple[tuple[int, Recording], ...]:
    """First and last part of a recording with a gap between them: no window and no neighbour is in both."""
    rows = recording.signal if recording.signal.ndim == 2 else recording.signal[:, None]
    end, start = int(FIRST_SHARE * len(rows)), int((FIRST_SHARE + GAP_SHARE) * len(rows))
    blocks = ((FIRST, rows[:end]), (LAST, rows[start:]))
    flat = recording.signal.ndim == 1
    return tuple((block, replace(recording, signal=part[:, 0] if flat else part)) for block, part in blocks)


def _rows(recording: Recording, extractor: BearingFeatures, block: int) -> Table:
    signal, rate = recording.signal, recording.sampling_rate_hz
    try:
        batch = windows(signal, rate, extractor.window_seconds, extractor.hop_seconds)
        features = extractor.transform(batch, rate, recording.shaft_rpm, recording.bearing)
    except InputError as error:
        raise InputError(error.code, f"Record {recording.record}: {error.fact}", error.remedy) from error
    count = len(features)
    groups = np.full(count, recording.record)
    if signal.ndim == 2:
        snapshots = np.repeat(np.arange(len(signal)), count // len(signal))
        groups = np.array([f"{recording.record}#{snapshot}" for snapshot in snapshots])
    return Table(
        features=features,
        labels=np.full(count, recording.fault),
        records=np.full(count, recording.record),
        groups=groups,
        severities=np.full(count, np.nan if recording.severity is None else recording.severity),
        blocks=np.full(count, block, dtype=np.int64),
    )
