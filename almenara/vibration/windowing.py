"""Windows of a vibration signal: cutting, quality checks and anti-aliased resampling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from almenara.errors import InputError

LEAST_SECONDS = 0.1
"""Shorter windows hold too few revolutions to say anything about a bearing."""

_LEAST_SAMPLES = 256
_HIGHEST_RATE_HZ = 1e7

_CLIPPED_SHARE = 0.002
"""Share of samples that sit at the extreme value from which a window counts as clipped."""
_LARGEST, _SMALLEST = 1e12, 1e-15
"""Beyond the first no sensor measures in any unit; below the second float32 keeps no squares."""


def windows(
    signal: NDArray[Any], sampling_rate_hz: float, window_seconds: float, hop_seconds: float
) -> NDArray[np.float32]:
    """Cut a signal into overlapping windows; a last part that fills no window is left out.

    Args:
        signal: shape (samples,) or (snapshots, samples); windows never cross snapshots. A signal shorter than one
            window is one window.
        sampling_rate_hz: of the signal.
        window_seconds: length of a window.
        hop_seconds: from the start of a window to the start of the next.

    Returns:
        float32, shape (n, samples).

    Raises:
        InputError: no sample, a shape with more than two dimensions, or a rate, window or hop that is not positive.
    """
    check_rate(sampling_rate_hz)
    rows = np.atleast_2d(np.asarray(signal, dtype=np.float32))
    if rows.ndim != 2 or rows.size == 0:
        raise InputError("recording-empty", f"The signal has shape {np.shape(signal)}: there is nothing to cut.")
    if not (window_seconds > 0 and hop_seconds > 0):
        raise InputError(
            "window-seconds",
            f"Windows of {window_seconds:g} s every {hop_seconds:g} s cannot be cut.",
            "Use positive times.",
        )
    length = min(round(window_seconds * sampling_rate_hz), rows.shape[1])
    hop = max(1, round(hop_seconds * sampling_rate_hz))
    cut = sliding_window_view(rows, max(length, 1), axis=1)[:, ::hop]
    return np.ascontiguousarray(cut.reshape(-1, max(length, 1)))


def check_rate(sampling_rate_hz: float | None) -> None:
    """Refuse a missing or impossible sampling rate: none is ever assumed.

    Raises:
        InputError: `sampling-rate-missing` or `sampling-rate-invalid`.
    """
    if sampling_rate_hz is None:
        raise InputError(
            "sampling-rate-missing",
            "The signal comes without a sampling rate.",
            "Give sampling_rate_hz; it is never assumed, because a wrong one makes every frequency wrong.",
        )
    if not 0 < sampling_rate_hz <= _HIGHEST_RATE_HZ:
        raise InputError(
            "sampling-rate-invalid",
            f"A sampling rate of {sampling_rate_hz} Hz is impossible.",
            "Give it in Hz, above 0 and up to 10 MHz.",
        )


def check_windows(batch: NDArray[Any], sampling_rate_hz: float) -> tuple[str, ...]:
    """Refuse windows that cannot be judged and flag those that can be judged only with care.

    Args:
        batch: shape (n, samples).
        sampling_rate_hz: of the windows.

    Returns:
        Quality flags: `clipped` when a window's samples pile up at its extreme value.

    Raises:
        InputError: `window-too-short`, `window-not-finite`, `window-too-large` or `window-constant`, naming the first
            such window.
    """
    check_rate(sampling_rate_hz)
    seconds = batch.shape[1] / sampling_rate_hz
    if seconds < LEAST_SECONDS * (1 - 1e-6) or batch.shape[1] < _LEAST_SAMPLES:
        raise InputError(
            "window-too-short",
            f"Window 0 has {batch.shape[1]} samples, {seconds:.3g} s at {sampling_rate_hz:g} Hz.",
            f"At least {LEAST_SECONDS:g} s and {_LEAST_SAMPLES} samples are needed; 1 s or more is reliable.",
        )
    finite = np.isfinite(batch)
    if not finite.all():
        window, sample = (int(index[0]) for index in np.nonzero(~finite))
        raise InputError(
            "window-not-finite",
            f"Window {window} has {batch[window, sample]} at sample {sample}"
            f" ({np.count_nonzero(~finite)} such samples in all).",
            "Send finite numbers; leave out the parts where the sensor gave none.",
        )
    highest = batch.max(axis=1, keepdims=True)
    lowest = batch.min(axis=1, keepdims=True)
    size = np.maximum(np.abs(highest), np.abs(lowest))[:, 0]
    if (size > _LARGEST).any():
        window = int(size.argmax())
        raise InputError(
            "window-too-large",
            f"Window {window} reaches {size[window]:g}, and no sensor in any unit gives more than {_LARGEST:g}.",
            "Check type and byte order of the samples: they are read as little-endian numbers.",
        )
    # Float32 cannot resolve a vibration this small beside the offset that it rides on, nor the squares of one below.
    flat = (highest - lowest)[:, 0] <= np.maximum(1e-6 * size, _SMALLEST)
    if flat.any():
        window = int(flat.argmax())
        raise InputError(
            "window-constant",
            f"Window {window} is constant at {batch[window, 0]:g}.",
            "The sensor is disconnected, saturated or switched off.",
        )
    at_extreme = np.maximum((batch == highest).mean(axis=1), (batch == lowest).mean(axis=1))
    return ("clipped",) if (at_extreme > _clipped_share(batch.shape[1])).any() else ()


def resample(batch: NDArray[Any], sampling_rate_hz: float, target_hz: float) -> tuple[NDArray[np.float32], float]:
    """Bring windows down to a target rate through a steep anti-aliasing filter; never up.

    The filter passes .95 and stops 1.05 of the target's Nyquist frequency by 60 dB (Kaiser window).

    Args:
        batch: shape (n, samples).
        sampling_rate_hz: of the windows.
        target_hz: wanted rate.

    Returns:
        float32 windows of zero mean, shape (n, m), and their rate: the target within 0.1 %, or the given rate when
        that is lower.
    """
    centred = np.asarray(batch, dtype=np.float32)
    centred = centred - centred.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    ratio = Fraction(target_hz / sampling_rate_hz).limit_denominator(1000)
    if ratio >= 1 or sampling_rate_hz <= target_hz:
        return centred, float(sampling_rate_hz)
    up, down = ratio.numerator, ratio.denominator
    filter_ = _polyphase(up, down)
    count, samples = centred.shape
    blocks = -(-samples // filter_.hop)
    padding = (filter_.reach, blocks * filter_.hop - samples + filter_.reach)
    padded = np.pad(centred, ((0, 0), padding))
    frames = sliding_window_view(padded, filter_.matrix.shape[0], axis=1)[:, :: filter_.hop]
    reduced = (np.ascontiguousarray(frames) @ filter_.matrix).reshape(count, -1)
    return reduced[:, : -(-samples * up // down)], sampling_rate_hz * up / down


@dataclass(frozen=True)
class _Polyphase:
    """A resampling filter as one matrix product: what every output of a block takes from the samples around it.

    Attributes:
        matrix: float32 (2 * reach + hop, outputs of a block).
        hop: samples from one block to the next.
        reach: samples that a block needs before and after its own.
    """

    matrix: NDArray[np.float32]
    hop: int
    reach: int


@lru_cache(maxsize=16)
def _polyphase(up: int, down: int) -> _Polyphase:
    """Blocks are about as long as the filter, where few of the products are with zeros."""
    taps = _anti_aliasing(down) * up
    half = taps.size // 2
    reach = -(-half // up)
    periods = max(1, round(2 * reach / down))
    hop = periods * down
    sample, output = np.arange(2 * reach + hop)[:, None] - reach, np.arange(periods * up)
    tap = half + output * down - sample * up
    matrix = np.where((tap >= 0) & (tap < taps.size), taps[np.clip(tap, 0, taps.size - 1)], 0)
    return _Polyphase(matrix.astype(np.float32), hop, reach)


def _anti_aliasing(down: int) -> NDArray[np.float64]:
    """Low-pass filter of unit gain at 1 / `down` of the Nyquist frequency, by Kaiser's window and formulas.

    Kaiser, "Nonrecursive digital filter design using the I0-sinh window function", IEEE ISCAS, 1974.
    """
    attenuation_db, width = 60.0, 0.1 / down
    size = math.ceil((attenuation_db - 7.95) / (2.285 * math.pi * width) + 1) | 1
    beta = 0.1102 * (attenuation_db - 8.7)
    taps = np.sinc((np.arange(size) - size // 2) / down) * np.kaiser(size, beta)
    return np.asarray(taps / taps.sum())


def _clipped_share(samples: int) -> float:
    """At least a handful of samples, so that a coarse converter's single peak is no clipping."""
    return max(_CLIPPED_SHARE, 4 / samples)
