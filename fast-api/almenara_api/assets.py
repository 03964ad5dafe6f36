"""Assets under watch: an asset's commissioned baseline decides its alarm, and the window that raised it is kept."""

from __future__ import annotations

import logging
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError

from almenara.alarms import AlarmRecord, AlarmStore, Deliverer, LogChannel, Rule
from almenara.contracts import Observation, VibrationVerdict
from almenara.settings import Settings
from almenara_api.metrics import Metrics
from almenara_api.problems import Problem

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Window:
    """What was posted: shape (samples,), at a rate, and what else the client said of it."""

    signal: NDArray[np.float32]
    sampling_rate_hz: float
    parameters: Mapping[str, str | float]


class AssetWatch:
    """Turns verdicts with a baseline into alarms, and delivers those to the log channel from a thread."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        alarms = settings.var_dir.resolve() / "alarms"
        alarms.mkdir(parents=True, exist_ok=True)
        channel = LogChannel(alarms / "alarms.log")
        self._metrics = metrics
        self._evidence = settings.evidence_dir / "vibration"
        self._rule = Rule(
            on_delay_seconds=settings.vibration_on_delay_seconds,
            off_delay_seconds=settings.vibration_off_delay_seconds,
            cooldown_seconds=settings.vibration_cooldown_seconds,
        )
        self._store = AlarmStore(settings.alarms_database_url, channels=(channel.name,), monotonic=time.monotonic)
        self._deliverer = Deliverer(self._store, (channel,))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._deliverer.run, args=(self._stop,), name="deliverer", daemon=True)

    def start(self) -> None:
        """Begin to deliver; returns at once."""
        self._thread.start()

    def close(self, timeout_seconds: float = 3.0) -> None:
        """Stop delivering; what is left lies in the outbox for the next start."""
        self._stop.set()
        self._thread.join(timeout_seconds)
        self._store.close()

    def observe(self, asset: str, window: Window, verdict: VibrationVerdict, *, ended: float | None = None) -> None:
        """Apply a verdict to its asset's alarm; one without a baseline says nothing about an alarm.

        Args:
            asset: the machine.
            window: what was judged.
            verdict: on that window.
            ended: when the window ended, on `time.monotonic()`; by default now.

        Raises:
            Problem: the alarm database failed; the window was judged and can be sent again.
        """
        if verdict.novelty is None:
            return
        now = time.monotonic()
        ended = now if ended is None else ended
        observation = Observation(
            source=asset,
            kind="vibration",
            anomaly=verdict.novelty.anomaly,
            reason=verdict.reason,
            model=verdict.novelty.model,
            observed_at=datetime.now(UTC) - timedelta(seconds=now - ended),
        )
        try:
            transitions = self._store.observe(
                observation,
                self._rule,
                now=ended,
                evidence=lambda: save_evidence(self._evidence, asset, window, verdict),
            )
        except SQLAlchemyError as error:
            _LOG.exception("the alarm database failed", extra={"asset": asset})
            raise Problem(
                503,
                "alarms-unavailable",
                f"The window was judged, but the alarm database did not take the verdict: {type(error).__name__}.",
                "Send the window again; see the free space and the rights of the alarm database.",
                headers={"Retry-After": "1"},
            ) from error
        for transition in transitions:
            fields = {"asset": asset, "change": transition.change, "alarm": transition.alarm_id}
            _LOG.info("asset changed", extra=fields)
            if transition.raised:
                self._metrics.alarms_raised.labels(asset).inc()

    def alarms(self, limit: int) -> list[AlarmRecord]:
        """The alarms, the one raised last first."""
        return self._store.alarms(limit)


def save_evidence(root: Path, asset: str, window: Window, verdict: VibrationVerdict) -> tuple[str, ...]:
    """Write the window, its spectrum and its verdict to a new folder below `root`.

    `window.npz` holds `signal`, `sampling_rate_hz`, the posted parameters, and the one-sided amplitude spectrum
    (Hann window, in the signal's unit) as `frequency_hz` and `amplitude`. The folder appears when all of it is on the
    disk, or not at all.

    Returns:
        The paths of the files.

    Raises:
        OSError: the disk is full, or its rights forbid it.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = root / _folder_name(asset) / f"{stamp}-{uuid.uuid4().hex[:8]}"
    frequency_hz, amplitude = _spectrum(window.signal, window.sampling_rate_hz)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}")
    unfinished.mkdir()
    try:
        with _durable(unfinished / "window.npz") as file:
            np.savez_compressed(
                file,
                allow_pickle=False,
                signal=window.signal,
                sampling_rate_hz=np.float64(window.sampling_rate_hz),
                frequency_hz=frequency_hz,
                amplitude=amplitude,
                **{f"posted_{key}": np.asarray(value) for key, value in window.parameters.items()},
            )
        with _durable(unfinished / "verdict.json") as file:
            file.write(verdict.model_dump_json(indent=2).encode())
        _sync_folder(unfinished)
        unfinished.rename(folder)
        _sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return str(folder / "window.npz"), str(folder / "verdict.json")


@contextmanager
def _durable(path: Path) -> Iterator[BinaryIO]:
    """A new file that is on the disk when the block ends."""
    with path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _spectrum(signal: NDArray[np.float32], sampling_rate_hz: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    taper = np.hanning(signal.size)
    amplitude = 2 * np.abs(np.fft.rfft((signal - signal.mean()) * taper)) / taper.sum()
    frequency_hz = np.fft.rfftfreq(signal.size, 1 / sampling_rate_hz)
    return frequency_hz.astype(np.float32), amplitude.astype(np.float32)


def _folder_name(asset: str) -> str:
    """A client's asset name as one harmless path part."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", asset)[:80]
