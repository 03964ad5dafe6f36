"""Signals out of files and request bodies: .mat, .npz, .npy, .csv, .wav and raw float32."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from almenara.errors import InputError
from almenara.vibration.wav import parse_wav

Signal = NDArray[np.float32]

MEDIA_TYPES = ("application/octet-stream", "application/x-npy", "audio/wav", "text/csv")
SUFFIXES = (".mat", ".npz", ".npy", ".csv", ".wav")

_MAX_FILE_SAMPLES = 500_000_000
_MAX_HEADING = 1 << 16
_SAME_RATE = 1e-3
_SAME_TYPE = {
    "application/npy": "application/x-npy",
    "application/x-numpy": "application/x-npy",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
}


def read_signal(path: str | Path, channel: str | None = None) -> tuple[Signal, float | None]:
    """Read one signal from a file; nothing in it is ever executed (no pickle).

    Args:
        path: `.mat` (MATLAB 5 to 7), `.npz`, `.npy`, `.csv` or `.wav`.
        channel: variable of a `.mat` or `.npz`, column name or number (from 0) of a `.csv`, channel number (from 0)
            of a `.wav`. May be left out when there is only one.

    Returns:
        float32 samples, shape (samples,) or (snapshots, samples), and the sampling rate if the file says it.

    Raises:
        InputError: `recording-missing`, `recording-type`, `recording-channel`, `recording-empty`,
            `recording-truncated` or `recording-value`, naming the file.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            "recording-type", f"{file}: {suffix or 'no suffix'} is no known format.", f"Known: {', '.join(SUFFIXES)}."
        )
    if not file.is_file():
        raise InputError("recording-missing", f"There is no file {file}.")
    if file.stat().st_size == 0:
        raise InputError("recording-empty", f"{file} is empty.")
    try:
        if suffix in {".mat", ".npz"}:
            variables = _mat_variables(file) if suffix == ".mat" else _npz_variables(file)
            return _numeric(_pick(variables, channel), str(file)), _own_rate(variables)
        body = file.read_bytes()
        if suffix == ".wav":
            return parse_wav(body, _MAX_FILE_SAMPLES, _column_number(channel))
        if suffix == ".npy":
            return _parse_npy(body, _MAX_FILE_SAMPLES), None
        return _parse_csv(body, _MAX_FILE_SAMPLES, channel), None
    except InputError as error:
        fact = error.fact if str(file) in error.fact else f"{file}: {error.fact}"
        raise InputError(error.code, fact, error.remedy) from error


def parse_signal(body: bytes, media_type: str, max_samples: int) -> tuple[Signal, float | None]:
    """Read one signal from a request body. The number of samples is checked before they are allocated.

    Args:
        body: the bytes.
        media_type: one of `MEDIA_TYPES`; parameters after a semicolon are ignored. `application/octet-stream` is
            float32 little-endian.
        max_samples: more are refused.

    Returns:
        float32 samples, shape (samples,), and the sampling rate if the body says it (`audio/wav`).

    Raises:
        InputError: `recording-type`, `recording-empty`, `recording-too-long`, `recording-truncated`,
            `recording-value` or `recording-shape`.
    """
    kind = media_type.partition(";")[0].strip().lower()
    kind = _SAME_TYPE.get(kind, kind)
    if kind not in MEDIA_TYPES:
        raise InputError(
            "recording-type", f"A signal cannot be read from {kind or 'no type'}.", f"Send {', '.join(MEDIA_TYPES)}."
        )
    if not body:
        raise InputError("recording-empty", "The body is empty.", "Send at least 0.1 s of samples.")
    rate: float | None = None
    if kind == "application/octet-stream":
        signal = _parse_float32(body, max_samples)
    elif kind == "application/x-npy":
        signal = _parse_npy(body, max_samples)
    elif kind == "audio/wav":
        signal, rate = parse_wav(body, max_samples)
    else:
        signal = _parse_csv(body, max_samples, None)
    if signal.ndim != 1:
        raise InputError(
            "recording-shape", f"The array has shape {signal.shape}, not one dimension.", "Send one signal at a time."
        )
    return signal, rate


def agreed_rate(stated: float | None, found: float | None, where: str) -> float:
    """The sampling rate of a signal: what was stated beside it and what its file says must be the same.

    Args:
        stated: in a manifest, a request or an option, Hz.
        found: in the file, Hz.
        where: what the signal is called in error messages.

    Raises:
        InputError: `sampling-rate-missing`, neither says it; `sampling-rate-conflict`, they differ by more than 0.1 %.
    """
    if stated is not None and found is not None and not math.isclose(stated, found, rel_tol=_SAME_RATE):
        raise InputError(
            "sampling-rate-conflict",
            f"{where}: sampling_rate_hz is stated as {stated:g} Hz and the file says {found:g} Hz.",
            "Leave the statement out or correct it: a wrong rate makes every frequency wrong.",
        )
    rate = found if stated is None else stated
    if rate is None:
        raise InputError(
            "sampling-rate-missing",
            f"{where}: nothing says at which rate the signal was sampled.",
            "State sampling_rate_hz in Hz (on the command line --sampling-rate-hz); it is never assumed.",
        )
    return rate


def _parse_float32(body: bytes, max_samples: int) -> Signal:
    if len(body) % 4:
        raise InputError(
            "recording-truncated",
            f"{len(body)} bytes are no whole number of float32 samples.",
            "Send little-endian float32, 4 bytes a sample.",
        )
    _check_count(len(body) // 4, max_samples)
    return np.frombuffer(body, dtype="<f4").astype(np.float32)


def _parse_npy(body: bytes, max_samples: int) -> Signal:
    stream = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(stream)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reader(stream)
    except Exception as error:  # NumPy's header parser lets many kinds through
        raise InputError("recording-type", f"This is no .npy array: {error}.", "Write it with numpy.save.") from error
    if dtype.kind not in "fiu":
        raise InputError("recording-type", f"The array holds {dtype}, not real numbers.", "Save it as float32.")
    if not all(type(side) is int and side >= 0 for side in shape):
        raise InputError("recording-shape", f"The array claims the shape {shape}.", "Write it with numpy.save.")
    count = math.prod(shape)
    _check_count(count, max_samples)
    left = len(body) - stream.tell()
    if left < count * dtype.itemsize:
        raise InputError("recording-truncated", f"The array ends after {left // dtype.itemsize} of {count} samples.")
    if left > count * dtype.itemsize:
        raise InputError(
            "recording-shape",
            f"The header claims {count} samples of {dtype.itemsize} bytes, and {left} bytes follow it.",
            "Write one array a file, with numpy.save.",
        )
    flat = np.frombuffer(body, dtype=dtype, count=count, offset=stream.tell())
    return _numeric(flat.reshape(shape, order="F" if fortran else "C"), "The array")


def _parse_csv(body: bytes, max_samples: int, channel: str | None) -> Signal:
    """One number a line, or a column of several; a first line that is no number holds the column names.

    The lines are counted first and then converted one by one: the text is never in memory as lines or cells.
    """
    try:
        count = sum(1 for _ in _lines(body))
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise InputError("recording-type", f"The text is not UTF-8: the byte {byte:#04x} has no place.") from error
    if count == 0:
        raise InputError("recording-empty", "The text holds no line.")
    number, first = next(_lines(body))
    if len(first) > _MAX_HEADING:
        raise InputError(
            "recording-type", f"Line {number} has {len(first)} characters.", "Send one sample a line, in few columns."
        )
    separator = ";" if ";" in first else ","
    cells = [cell.strip().strip('"') for cell in first.split(separator)]
    header = any(_float(cell) is None for cell in cells)
    column = _csv_column(cells if header else [str(index) for index in range(len(cells))], channel)
    count -= header
    _check_count(count, max_samples)
    rows = islice(_lines(body), int(header), None)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused as not finite
        return np.fromiter(
            (_csv_value(number, line, separator, column) for number, line in rows), dtype=np.float32, count=count
        )


def _lines(body: bytes) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers from 1."""
    text = io.TextIOWrapper(io.BytesIO(body), encoding="utf-8-sig")
    return ((number, line) for number, line in enumerate(text, start=1) if not line.isspace())


def _csv_value(number: int, line: str, separator: str, column: int) -> float:
    parts = line.split(separator, column + 1)
    value = _float(parts[column]) if column < len(parts) else None
    if value is None:
        raise InputError("recording-value", f"Line {number} has no number in column {column}: {line.rstrip():.60}")
    return value


def _csv_column(names: list[str], channel: str | None) -> int:
    if channel is None and len(names) == 1:
        return 0
    if channel in names:
        return names.index(channel)
    if channel is not None and channel.isdigit() and int(channel) < len(names):
        return int(channel)
    raise InputError(
        "recording-channel",
        f"There are {len(names)} columns and {'none' if channel is None else repr(channel)} is asked for.",
        f"Name one of {', '.join(names[:20])}.",
    )


def _mat_variables(file: Path) -> dict[str, NDArray[Any]]:
    from scipy.io import loadmat

    try:
        content = loadmat(file)
    except NotImplementedError as error:
        raise InputError(
            "recording-type", f"{file} is a MATLAB 7.3 file (HDF5), which is not read.", "Save it with -v7."
        ) from error
    except Exception as error:
        raise InputError("recording-truncated", f"{file} is no readable .mat file: {error}") from error
    return {name: np.asarray(value) for name, value in content.items() if not name.startswith("__")}


def _npz_variables(file: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, KeyError) as error:
        raise InputError("recording-truncated", f"{file} is no readable .npz file: {error}") from error


def _pick(variables: dict[str, NDArray[Any]], channel: str | None) -> NDArray[Any]:
    signals = {name: value for name, value in variables.items() if value.dtype.kind in "fiu" and value.size > 1}
    if channel is None and len(signals) == 1:
        return next(iter(signals.values()))
    if channel is not None and channel in variables:
        return variables[channel]
    raise InputError(
        "recording-channel",
        f"The file has {len(signals)} signals and {'none' if channel is None else repr(channel)} is asked for.",
        f"Name one of {', '.join(signals)}." if signals else "It holds no numbers at all.",
    )


def _own_rate(variables: dict[str, NDArray[Any]]) -> float | None:
    rate = variables.get("sampling_rate_hz")
    return float(rate.ravel()[0]) if rate is not None and rate.size == 1 and rate.dtype.kind in "fiu" else None


def _numeric(values: NDArray[Any], what: str) -> Signal:
    """float32, a single row or column as one dimension."""
    if values.dtype.kind not in "fiu":
        raise InputError("recording-type", f"{what} holds {values.dtype}, not real numbers.")
    if values.size == 0:
        raise InputError("recording-empty", f"{what} holds no sample.")
    if values.ndim > 2:
        raise InputError("recording-shape", f"{what} has shape {values.shape}; at most two dimensions are read.")
    flat = values.ravel() if values.ndim != 2 or 1 in values.shape else values
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused as not finite
        return np.ascontiguousarray(flat, dtype=np.float32)


def _column_number(channel: str | None) -> int:
    if channel is None:
        return 0
    if not channel.isdigit():
        raise InputError("recording-channel", f"{channel!r} is no channel number.", "Count from 0.")
    return int(channel)


def _check_count(count: int, max_samples: int) -> None:
    if count == 0:
        raise InputError("recording-empty", "The signal holds no sample.")
    if count > max_samples:
        raise InputError(
            "recording-too-long",
            f"The signal has {count} samples and at most {max_samples} are taken.",
            "Send it in parts of a few seconds.",
        )


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
