"""WAV files: PCM of 8 to 32 bits and IEEE float, bounded before anything is allocated."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from almenara.errors import InputError

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE


@dataclass(frozen=True)
class _Format:
    encoding: int
    channels: int
    sampling_rate_hz: int
    bytes_per_sample: int


def parse_wav(body: bytes, max_samples: int, channel: int = 0) -> tuple[NDArray[np.float32], float]:
    """One channel of a WAV file.

    Args:
        body: the file.
        max_samples: more a channel are refused.
        channel: which, from 0.

    Returns:
        float32 samples, integers scaled to -1 to 1, and the sampling rate in Hz.

    Raises:
        InputError: `recording-type`, `recording-truncated`, `recording-empty`, `recording-too-long` or
            `recording-channel`.
    """
    if len(body) < 12 or body[:4] != b"RIFF" or body[8:12] != b"WAVE":
        raise InputError("recording-type", "This is no WAV file: it does not begin with RIFF and WAVE.")
    layout: _Format | None = None
    offset = 12
    while offset + 8 <= len(body):
        name, size = body[offset : offset + 4], int.from_bytes(body[offset + 4 : offset + 8], "little")
        start = offset + 8
        if name == b"fmt ":
            layout = _layout(body[start : start + size])
        elif name == b"data":
            if layout is None:
                raise InputError("recording-type", "The WAV file has samples before its format.")
            if start + size > len(body):
                raise InputError(
                    "recording-truncated",
                    f"The WAV file promises {size} bytes of samples and holds {len(body) - start}.",
                    "Send the whole file.",
                )
            return _samples(body, start, size, layout, max_samples, channel), float(layout.sampling_rate_hz)
        offset = start + size + size % 2
    raise InputError("recording-truncated", "The WAV file ends before its samples.", "Send the whole file.")


def _layout(chunk: bytes) -> _Format:
    if len(chunk) < 16:
        raise InputError("recording-truncated", "The WAV file's format is cut short.")
    encoding, channels, rate, _, frame, bits = struct.unpack("<HHIIHH", chunk[:16])
    if encoding == _EXTENSIBLE and len(chunk) >= 26:
        encoding = int.from_bytes(chunk[24:26], "little")
    width = bits // 8
    known = (encoding == _PCM and width in {1, 2, 3, 4}) or (encoding == _FLOAT and width in {4, 8})
    if not known or channels == 0 or rate == 0 or bits % 8 or frame != channels * width:
        raise InputError(
            "recording-type",
            f"The WAV file is of encoding {encoding} with {bits} bits, {channels} channels at {rate} Hz.",
            "Save it as PCM or IEEE float.",
        )
    return _Format(encoding, channels, rate, width)


def _samples(
    body: bytes, start: int, size: int, layout: _Format, max_samples: int, channel: int
) -> NDArray[np.float32]:
    width, channels = layout.bytes_per_sample, layout.channels
    frames = size // (width * channels)
    if frames == 0:
        raise InputError("recording-empty", "The WAV file holds no sample.")
    if frames > max_samples:
        raise InputError(
            "recording-too-long",
            f"The signal has {frames} samples and at most {max_samples} are taken.",
            "Send it in parts of a few seconds.",
        )
    if channel >= channels:
        raise InputError(
            "recording-channel", f"The WAV file has {channels} channels, none is number {channel}.", "Count from 0."
        )
    raw = np.frombuffer(body, dtype=np.uint8, count=frames * channels * width, offset=start)
    one = np.ascontiguousarray(raw.reshape(frames, channels, width)[:, channel])
    if layout.encoding == _FLOAT:
        floats: NDArray[np.floating] = one.view(f"<f{width}")[:, 0]
        return floats.astype(np.float32)
    if width == 1:  # the only unsigned width
        return (one[:, 0].astype(np.float32) - np.float32(128)) / np.float32(128)
    full = np.zeros((frames, 4), dtype=np.uint8)
    full[:, 4 - width :] = one
    samples = full.view("<i4")[:, 0].astype(np.float32)
    return samples * np.float32(2.0**-31)
