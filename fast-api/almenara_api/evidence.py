"""Evidence of an asset's alarm: the window that raised it, its spectrum and its verdict."""

from __future__ import annotations

import io
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from almenara.alarms.records import EvidenceFile
from almenara.contracts import VibrationVerdict
from almenara.errors import NoEvidenceError
from almenara.evidence import EvidenceStore, path_part


@dataclass(frozen=True)
class Window:
    """What was posted: shape (samples,), at a rate, and what else the client said of it."""

    signal: NDArray[np.float32]
    sampling_rate_hz: float
    parameters: Mapping[str, str | float]


def save_evidence(
    store: EvidenceStore, asset: str, window: Window, verdict: VibrationVerdict
) -> tuple[EvidenceFile, ...]:
    """Save ``window.npz`` and ``verdict.json``.

    ``window.npz`` holds `signal`, `sampling_rate_hz`, the posted parameters, and the one-sided amplitude spectrum
    (Hann window, in the signal's unit) as `frequency_hz` and `amplitude`.

    Raises:
        NoEvidenceError: the disk is full, or its rights forbid it.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    name = f"vibration/{path_part(asset)}/{stamp}-{uuid.uuid4().hex[:8]}"
    files = {"window.npz": _packed(window), "verdict.json": verdict.model_dump_json(indent=2).encode()}
    try:
        return store.save(name, files)
    except OSError as error:
        raise NoEvidenceError.because("window", error) from error


def _packed(window: Window) -> bytes:
    frequency_hz, amplitude = _spectrum(window.signal, window.sampling_rate_hz)
    packed = io.BytesIO()
    np.savez_compressed(
        packed,
        allow_pickle=False,
        signal=window.signal,
        sampling_rate_hz=np.float64(window.sampling_rate_hz),
        frequency_hz=frequency_hz,
        amplitude=amplitude,
        **{f"posted_{key}": np.asarray(value) for key, value in window.parameters.items()},
    )
    return packed.getvalue()


def _spectrum(signal: NDArray[np.float32], sampling_rate_hz: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    taper = np.hanning(signal.size)
    amplitude = 2 * np.abs(np.fft.rfft((signal - signal.mean()) * taper)) / taper.sum()
    frequency_hz = np.fft.rfftfreq(signal.size, 1 / sampling_rate_hz)
    return frequency_hz.astype(np.float32), amplitude.astype(np.float32)
