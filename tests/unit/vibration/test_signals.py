"""Signals out of files and request bodies."""

from __future__ import annotations

import io
import struct
import tracemalloc
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat, wavfile

from almenara.errors import InputError
from almenara.vibration.signals import MEDIA_TYPES, agreed_rate, parse_signal, read_signal

SIGNAL = np.linspace(-0.9, 0.9, 500, dtype=np.float32)


def npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def npy_that_claims(shape: str) -> bytes:
    """500 float32 samples under a header with the given text as shape."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + SIGNAL.tobytes()


def wav(values: np.ndarray, rate: int = 12_000) -> bytes:
    stream = io.BytesIO()
    wavfile.write(stream, rate, values)
    return stream.getvalue()


def code_of(body: bytes, media_type: str, max_samples: int = 1000) -> str:
    with pytest.raises(InputError) as caught:
        parse_signal(body, media_type, max_samples)
    return caught.value.code


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (SIGNAL.astype("<f4").tobytes(), "application/octet-stream"),
        (npy(SIGNAL.astype(np.float64)), "application/x-npy"),
        (npy(SIGNAL[:, None]), "application/x-npy"),
        (npy(SIGNAL.astype(">f4")), "application/x-npy"),
        ("\n".join(map(str, SIGNAL)).encode(), "text/csv; charset=utf-8"),
        (("acceleration\r\n" + "\r\n".join(map(str, SIGNAL)) + "\r\n\r\n").encode(), "text/csv"),
    ],
)
def test_body_gives_its_samples_and_no_rate(body: bytes, media_type: str) -> None:
    signal, rate = parse_signal(body, media_type, 1000)
    assert rate is None
    assert signal.dtype == np.float32
    np.testing.assert_allclose(signal, SIGNAL, rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "tolerance"),
    [
        (SIGNAL, 0),
        (SIGNAL.astype(np.float64), 1e-7),
        ((SIGNAL * 2**31).astype(np.int32), 1e-7),
        ((SIGNAL * 2**15).astype(np.int16), 2**-15),
        ((SIGNAL * 127 + 128).astype(np.uint8), 2**-6),
    ],
)
def test_wav_gives_samples_and_rate(values: np.ndarray, tolerance: float) -> None:
    signal, rate = parse_signal(wav(values), "audio/x-wav", 1000)
    assert rate == 12_000
    np.testing.assert_allclose(signal, SIGNAL, atol=tolerance)


def test_wav_of_24_bits_and_two_channels() -> None:
    whole = np.round(SIGNAL * 2**23).astype(np.int32)
    frames = b"".join(int(value).to_bytes(3, "little", signed=True) + b"\0\0\0" for value in whole)
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(3)
        file.setframerate(25_600)
        file.writeframes(frames)
    signal, rate = parse_signal(stream.getvalue(), "audio/wav", 1000)
    assert rate == 25_600
    np.testing.assert_allclose(signal, SIGNAL, atol=2**-23)


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_empty_body_is_refused(media_type: str) -> None:
    assert code_of(b"", media_type) == "recording-empty"


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (SIGNAL.tobytes()[:-1], "application/octet-stream"),
        (npy(SIGNAL)[:-8], "application/x-npy"),
        (wav(SIGNAL)[:-8], "audio/wav"),
        (wav(SIGNAL)[:30], "audio/wav"),
    ],
)
def test_cut_body_is_called_truncated(body: bytes, media_type: str) -> None:
    assert code_of(body, media_type) == "recording-truncated"


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (SIGNAL.tobytes(), "application/octet-stream"),
        (npy(SIGNAL), "application/x-npy"),
        (wav(SIGNAL), "audio/wav"),
        ("\n".join(map(str, SIGNAL)).encode(), "text/csv"),
    ],
)
def test_more_samples_than_allowed_are_refused(body: bytes, media_type: str) -> None:
    assert code_of(body, media_type, max_samples=499) == "recording-too-long"


@pytest.mark.parametrize(
    ("shape", "code"),
    [
        ("(1000000000,)", "recording-too-long"),
        ("(-1,)", "recording-shape"),
        ("(-2, -250)", "recording-shape"),
        ("(True,)", "recording-shape"),
        ("((1, 2), 3)", "recording-type"),
        ("(499,)", "recording-shape"),
        ("(501,)", "recording-truncated"),
        ("(" * 300, "recording-type"),
        ("1+" * 3000 + "1", "recording-type"),
    ],
)
def test_array_whose_header_lies_is_refused(shape: str, code: str) -> None:
    assert code_of(npy_that_claims(shape), "application/x-npy") == code


@settings(max_examples=200)
@given(st.recursive(st.integers() | st.booleans() | st.floats() | st.text(max_size=3), lambda of: st.tuples(of, of)))
def test_no_claimed_shape_gives_more_than_the_limit(shape: object) -> None:
    try:
        signal, _ = parse_signal(npy_that_claims(repr(shape)), "application/x-npy", 400)
    except InputError:
        return
    assert signal.size <= 400


def test_text_is_never_in_memory_as_lines() -> None:
    body = b"1\n" * 400_000
    tracemalloc.start()
    assert code_of(body, "text/csv") == "recording-too-long"
    _, peak_of_refusal = tracemalloc.get_traced_memory()
    assert parse_signal(body, "text/csv", 400_000)[0].size == 400_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_of_refusal < 1_000_000
    assert peak < 4 * 400_000 + 1_000_000


def test_one_endless_line_is_refused() -> None:
    assert code_of(b"1," * 100_000, "text/csv") == "recording-type"


@pytest.mark.parametrize(
    ("stated", "found", "rate"), [(12_000, None, 12_000), (None, 48_000, 48_000), (12_000, 12_001, 12_000)]
)
def test_rate_is_what_is_stated_or_found(stated: float | None, found: float | None, rate: float) -> None:
    assert agreed_rate(stated, found, "a.wav") == rate


@pytest.mark.parametrize(
    ("stated", "found", "code"),
    [
        (None, None, "sampling-rate-missing"),
        (12_000, 48_000, "sampling-rate-conflict"),
        (12_000, 0, "sampling-rate-conflict"),
    ],
)
def test_rates_that_do_not_agree_are_refused(stated: float | None, found: float | None, code: str) -> None:
    with pytest.raises(InputError, match=r"a\.wav") as caught:
        agreed_rate(stated, found, "a.wav")
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"not an array", "application/x-npy"),
        (npy(np.array([{"a": 1}], dtype=object)), "application/x-npy"),
        (npy(SIGNAL.astype(complex)), "application/x-npy"),
        (b"RIFX" + bytes(40), "audio/wav"),
        (b"\xff\xfe\x00\x01", "text/csv"),
        (SIGNAL.tobytes(), "image/png"),
    ],
)
def test_wrong_type_is_refused(body: bytes, media_type: str) -> None:
    assert code_of(body, media_type) == "recording-type"


def test_pickled_array_is_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(tmp_path / "executed"),))

    file = tmp_path / "bomb.npz"
    np.savez(file, signal=np.array([Bomb()], dtype=object))
    with pytest.raises(InputError):
        read_signal(file)
    assert not (tmp_path / "executed").exists()


def test_text_that_is_no_number_names_its_line() -> None:
    with pytest.raises(InputError, match="Line 3 ") as caught:
        parse_signal(b"a\n1\nx\n2", "text/csv", 1000)
    assert caught.value.code == "recording-value"


@settings(max_examples=200)
@given(st.binary(max_size=200), st.sampled_from(MEDIA_TYPES), st.booleans())
def test_any_bytes_give_a_signal_or_an_input_error(body: bytes, media_type: str, dressed: bool) -> None:
    start = {"audio/wav": wav(SIGNAL)[:44], "application/x-npy": npy(SIGNAL)[:60]}.get(media_type, b"")
    try:
        signal, _ = parse_signal(start + body if dressed else body, media_type, 1000)
    except InputError:
        return
    assert signal.dtype == np.float32
    assert 0 < signal.size <= 1000


def test_files_of_every_format_give_the_same_signal(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"X105_DE_time": SIGNAL[:, None], "X105RPM": 1797})
    np.savez(tmp_path / "a.npz", signal=SIGNAL, sampling_rate_hz=12_000)
    np.save(tmp_path / "a.npy", SIGNAL)
    (tmp_path / "a.wav").write_bytes(wav(SIGNAL))
    (tmp_path / "a.csv").write_text("time,x\n" + "\n".join(f"{i},{value}" for i, value in enumerate(SIGNAL)))
    rates = {}
    for suffix in ("mat", "npz", "npy", "wav", "csv"):
        signal, rates[suffix] = read_signal(tmp_path / f"a.{suffix}", "x" if suffix == "csv" else None)
        np.testing.assert_allclose(signal, SIGNAL, rtol=1e-6)
    assert rates == {"mat": None, "npz": 12_000, "npy": None, "wav": 12_000, "csv": None}


def test_file_with_several_signals_asks_which(tmp_path: Path) -> None:
    savemat(tmp_path / "two.mat", {"X105_DE_time": SIGNAL, "X105_FE_time": SIGNAL})
    with pytest.raises(InputError) as caught:
        read_signal(tmp_path / "two.mat")
    assert caught.value.code == "recording-channel"
    assert "X105_FE_time" in caught.value.remedy


@pytest.mark.parametrize("name", ["a.mat", "a.npz", "a.npy", "a.wav"])
def test_broken_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x00broken\xff" * 40)
    with pytest.raises(InputError) as caught:
        read_signal(tmp_path / name)
    assert name in caught.value.fact


def test_missing_empty_and_unknown_files_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    codes = []
    for name in ("none.csv", "empty.csv", "sound.mp3"):
        with pytest.raises(InputError) as caught:
            read_signal(tmp_path / name)
        codes.append(caught.value.code)
    assert codes == ["recording-missing", "recording-empty", "recording-type"]
