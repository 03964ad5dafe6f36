"""Bodies that no honest client sends: cut, lying, bloated or dangerous files, and honest ones to break further."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import wave
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

VISION = "/v1/vision/darkness/predict"
VIBRATION = "/v1/vibration/bearing/predict"
QUERY = "?sampling_rate_hz=12000&shaft_rpm=1772&bearing=6205-2RS"
RAW, JSON, FORM = "application/octet-stream", "application/json", "multipart/form-data; boundary=cut"
MAX_SAMPLES, MAX_BODY_BYTES = 100_000, 1_000_000


@dataclass(frozen=True)
class Body:
    """What is sent, and where to."""

    name: str
    path: str
    media_type: str
    content: bytes
    encoding: str = ""

    @property
    def headers(self) -> dict[str, str]:
        encoding = {"content-encoding": self.encoding} if self.encoding else {}
        return {"content-type": self.media_type, **encoding}


class Dangerous:
    """Its pickle makes a folder where it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def picture(suffix: str, dtype: type[np.uint8 | np.uint16] = np.uint8) -> bytes:
    """A noisy picture file of 64x48 pixels."""
    noise = np.random.default_rng(3).integers(0, np.iinfo(dtype).max, (48, 64, 3))
    pixels: NDArray[np.integer] = noise.astype(dtype)
    return cv2.imencode(suffix, pixels)[1].tobytes()


def signal(samples: int = 6000) -> np.ndarray:
    """A window of noise, float32."""
    return np.random.default_rng(4).normal(0, 0.1, samples).astype(np.float32)


def npy(array: np.ndarray) -> bytes:
    """As numpy.save writes it."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=array.dtype.hasobject)
    return file.getvalue()


def lying_npy(header: str, content: bytes = b"\0" * 4000) -> bytes:
    """A .npy whose header says what it likes."""
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def wav(samples: np.ndarray) -> bytes:
    """16 bits, one channel, 12 kHz."""
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(12_000)
        recording.writeframes((samples * 10_000).astype("<i2").tobytes())
    return file.getvalue()


def lying_wav(encoding: int, channels: int, bits: int, content: bytes, size: int | None = None) -> bytes:
    """A WAV whose format and length say what they like."""
    frame = channels * bits // 8
    layout = struct.pack("<HHIIHH", encoding, channels, 12_000, 12_000 * frame, frame, bits)
    length = struct.pack("<I", len(content) if size is None else size)
    chunks = b"WAVEfmt " + struct.pack("<I", len(layout)) + layout + b"data" + length + content
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def png(width: int, height: int, rows: bytes, bits: int = 8) -> bytes:
    """A grey PNG that claims a size; its compressed rows are what they are."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def huge_jpeg(side: int = 65_500) -> bytes:
    """A JPEG whose frame header claims side x side pixels."""
    file = bytearray(picture(".jpg"))
    at = next(file.index(mark) for mark in (b"\xff\xc0", b"\xff\xc1", b"\xff\xc2") if mark in file)
    file[at + 5 : at + 9] = struct.pack(">HH", side, side)
    return bytes(file)


def saved(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    """A picture file as another program writes it."""
    file = io.BytesIO()
    Image.new(mode, (64, 48), 90 if mode == "L" else None).save(file, kind, **options)
    return file.getvalue()


def animated_webp() -> bytes:
    """Two frames."""
    return saved("WEBP", save_all=True, append_images=[Image.new("RGB", (64, 48), "red")], duration=40)


VALID = {
    "image/jpeg": picture(".jpg"),
    "image/png": picture(".png"),
    "image/webp": picture(".webp"),
    "application/x-npy": npy(signal()),
    "audio/wav": wav(signal()),
    "text/csv": b"g\n" + b"\n".join(b"%.5f" % value for value in signal(3000)),
    RAW: signal().tobytes(),
    JSON: json.dumps({"signal": signal(3000).round(4).tolist(), "sampling_rate_hz": 12_000}).encode(),
}


def path_of(media_type: str) -> str:
    """Where a valid file of that type is taken."""
    return VISION if media_type.startswith("image/") else VIBRATION + QUERY


def refused(mark: Path) -> Iterator[Body]:
    """What has to be answered 4xx; `mark` is a folder that must not come to be."""
    yield from _pictures()
    yield from _npy(mark)
    yield from _wav()
    yield from _text()
    yield from _forms()
    yield from _encoded()
    for kind in VALID:
        yield Body(f"a pickle as {kind}", path_of(kind), kind, pickle.dumps(Dangerous(mark)) + b" ")
        yield Body(f"nothing as {kind}", path_of(kind), kind, b"")
        yield Body(f"more than is taken as {kind}", path_of(kind), kind, bytes(MAX_BODY_BYTES + 4))


def taken() -> Iterator[Body]:
    """What is odd and has to be judged."""
    window = signal()
    pictures = {
        "CMYK": ("image/jpeg", saved("JPEG", "CMYK")),
        "grey": ("image/jpeg", saved("JPEG", "L")),
        "16 bits": ("image/png", picture(".png", dtype=np.uint16)),
        "with alpha": ("image/png", saved("PNG", "RGBA")),
        "with a palette": ("image/png", saved("PNG", "P")),
        "a JPEG that is called a PNG": ("image/png", VALID["image/jpeg"]),
        "a JPEG with a ZIP behind it": ("image/jpeg", VALID["image/jpeg"] + b"PK\x03\x04" + bytes(500)),
    }
    arrays = {
        "Fortran order": np.asfortranarray(window.reshape(1, -1)),
        "big endian": window.astype(">f4"),
        "float64": window.astype(np.float64),
        "int16": (window * 10_000).astype(np.int16),
    }
    for name, (kind, content) in pictures.items():
        yield Body(name, VISION, kind, content)
    for name, array in arrays.items():
        yield Body(f"{name} .npy", VIBRATION + QUERY, "application/x-npy", npy(array))
    floats = lying_wav(3, 1, 64, window.astype("<f8").tobytes())
    yield Body("64-bit floats .wav", VIBRATION + QUERY, "audio/wav", floats)
    for kind, content in VALID.items():
        yield Body(f"valid {kind}", path_of(kind), kind, content)


def _pictures() -> Iterator[Body]:
    for kind, suffix in (("image/jpeg", ".jpg"), ("image/png", ".png"), ("image/webp", ".webp")):
        file = picture(suffix)
        for quarter in (1, 2, 3):
            yield Body(f"{quarter}/4 of {kind}", VISION, kind, file[: len(file) * quarter // 4])
        yield Body(f"all but one byte of {kind}", VISION, kind, file[:-1])
        yield Body(f"zeros as {kind}", VISION, kind, bytes(5000))
        yield Body(f"head of {kind}, then zeros", VISION, kind, file[:20] + bytes(5000))
        yield Body(f"head of {kind}, then text", VISION, kind, file[:12] + b"<?php echo 1; ?>" * 50)
    yield Body("65500x65500 JPEG", VISION, "image/jpeg", huge_jpeg())
    yield Body("0x0 JPEG", VISION, "image/jpeg", huge_jpeg(0))
    yield Body("100000x100000 PNG", VISION, "image/png", png(100_000, 100_000, bytes(1000)))
    yield Body("0x0 PNG", VISION, "image/png", png(0, 0, b""))
    yield Body("PNG without its rows", VISION, "image/png", png(4000, 4000, b""))
    yield Body("PNG bomb", VISION, "image/png", png(30_000, 30_000, bytes(100_000_000)))
    yield Body("GIF", VISION, "image/png", saved("GIF", "P"))
    yield Body("BMP", VISION, "image/jpeg", saved("BMP"))
    yield Body("TIFF", VISION, "image/jpeg", saved("TIFF"))
    yield Body(
        "SVG", VISION, "image/png", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    )
    yield Body("ZIP with a JPEG in it", VISION, "image/jpeg", b"PK\x03\x04" + VALID["image/jpeg"])
    yield Body("PDF with a JPEG in it", VISION, "image/jpeg", b"%PDF-1.7\n" + VALID["image/jpeg"])
    yield Body("picture as a signal type", VISION, RAW, VALID["image/jpeg"])


def _npy(mark: Path) -> Iterator[Body]:
    objects = npy(np.array([Dangerous(mark)] * 3, dtype=object))
    good = VALID["application/x-npy"]
    bodies = {
        "objects": objects,
        "a header that is cut": good[:40],
        "samples that are cut": good[:-3],
        "a negative shape": lying_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1000,)}"),
        "a huge shape": lying_npy(
            "{'descr': '<f4', 'fortran_order': False, 'shape': (10**18,)}".replace("10**18", "1" + "0" * 18)
        ),
        "a product that overflows": lying_npy(
            "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}"
        ),
        "a shape of booleans": lying_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}", bytes(4)),
        "thirty dimensions": lying_npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {(1,) * 30}}}", bytes(4)),
        "code in the header": lying_npy("__import__('os').mkdir(" + repr(str(mark)) + ")"),
        "a header without end": lying_npy("{" * 20_000),
        "a structured type": npy(np.zeros(6000, dtype=[("a", "<f4"), ("b", "<i8")])),
        "complex numbers": npy(signal().astype(np.complex64)),
        "text": npy(np.array(["1.0"] * 6000)),
        "dates": npy(np.zeros(6000, dtype="datetime64[s]")),
        "not a number": npy(np.full(6000, np.nan, dtype=np.float32)),
        "two arrays": good + good,
        "too many samples": npy(np.zeros(MAX_SAMPLES + 1, dtype=np.int8)),
    }
    for name, content in bodies.items():
        yield Body(f".npy with {name}", VIBRATION + QUERY, "application/x-npy", content)


def _wav() -> Iterator[Body]:
    good, samples = VALID["audio/wav"], bytes(24_000)
    bodies = {
        "a promise of 4 GB": lying_wav(1, 1, 16, samples, 0xFFFFFFFF),
        "no samples": lying_wav(1, 1, 16, b""),
        "no channels": lying_wav(1, 0, 16, samples),
        "65535 channels": lying_wav(1, 65_535 // 2, 16, samples[:100]),
        "an unknown codec": lying_wav(85, 1, 16, samples),
        "7 bits": lying_wav(1, 1, 7, samples),
        "0 bits": lying_wav(1, 1, 0, samples),
        "infinite floats": lying_wav(3, 1, 64, np.full(3000, np.inf).tobytes()),
        "a format that is cut": good[:30],
        "samples before the format": b"RIFF\x24\0\0\0WAVEdata\x08\0\0\0" + bytes(8) + good[12:36],
        "a chunk that never ends": b"RIFF\xff\xff\xff\xffWAVEjunk\xff\xff\xff\xff" + samples,
        "another rate in the query": wav(signal()),
    }
    for name, content in bodies.items():
        query = "?sampling_rate_hz=48000" if name.startswith("another") else QUERY
        yield Body(f".wav with {name}", VIBRATION + query, "audio/wav", content)


def _text() -> Iterator[Body]:
    tables = {
        "bytes": bytes(range(256)) * 20,
        "one huge line": b"1" * 900_000,
        "one huge line of cells": b"1," * 450_000,
        "words among numbers": b"1\n2\nthree\n4\n" * 200,
        "not a number": b"nan\n" * 3000,
        "infinity": b"1e999\n" * 3000,
        "only a heading": b"acceleration\n",
        "blank lines": b"\n" * 5000,
        "NUL": b"1\n\x002\n" * 2000,
        "too many lines": b"1\n" * (MAX_SAMPLES + 1),
    }
    for name, content in tables.items():
        yield Body(f"CSV with {name}", VIBRATION + QUERY, "text/csv", content)
    numbers, rate = ",".join(["0.1"] * 3000), '"sampling_rate_hz"'
    texts = {
        "a depth of 400000": b"[" * 400_000,
        "an object in an object, 100000 deep": b'{"a":' * 100_000,
        "half an object": VALID[JSON][: len(VALID[JSON]) // 2],
        "NaN": b'{"signal": [NaN, 1, 2], "sampling_rate_hz": 12000}',
        "a number of 5000 digits": b'{"signal": [' + b"9" * 5000 + b'], "sampling_rate_hz": 12000}',
        "1e999": b'{"signal": [' + b"1e999," * 3000 + b'0], "sampling_rate_hz": 12000}',
        "a rate of 1e999": f'{{"signal": [{numbers}], "sampling_rate_hz": 1e999}}'.encode(),
        "a rate twice, the second a word": f'{{"signal": [{numbers}], {rate}: 1, {rate}: "x"}}'.encode(),
        "lists of lists of lists": b'{"signals": [[[1, 2], [3]]], "sampling_rate_hz": 12000}',
        "UTF-16": VALID[JSON].decode().encode("utf-16"),
        "half a surrogate": b'{"signal": [0, 1], "asset": "\\ud800", "sampling_rate_hz": 12000}',
        "a list": b"[1, 2, 3]",
        "a BOM alone": b"\xef\xbb\xbf",
    }
    for name, content in texts.items():
        for path in (VIBRATION, "/v1/alarms/reports", "/v1/alarms/shelve", "/v1/alarms/none/acknowledge"):
            yield Body(f"JSON with {name} to {path}", path, JSON, content)


def _forms() -> Iterator[Body]:
    part = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
    file = VALID["image/jpeg"]
    bodies = {
        "no end": part + file,
        "another boundary": part.replace(b"cut", b"other") + file + b"\r\n--other--\r\n",
        "no part": b"--cut--\r\n",
        "no name": b"--cut\r\nContent-Disposition: form-data\r\n\r\n" + file + b"\r\n--cut--\r\n",
        "a text for a file": b'--cut\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--cut--\r\n',
        "another field": part.replace(b'"file"', b'"other"') + file + b"\r\n--cut--\r\n",
        "65 files": (part + b"x\r\n") * 65 + b"--cut--\r\n",
        "a heading of 100 kB": b"--cut\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\nx\r\n--cut--\r\n",
        "a thousand fields": b'--cut\r\nContent-Disposition: form-data; name="x"\r\n\r\ny\r\n' * 1000 + b"--cut--\r\n",
        "bytes": bytes(range(256)) * 30,
    }
    for name, content in bodies.items():
        yield Body(f"form with {name}", VISION, FORM, content)
    yield Body("form without a boundary", VISION, "multipart/form-data", part + file)
    yield Body("form with a boundary of 10 kB", VISION, f"multipart/form-data; boundary={'b' * 10_000}", part + file)


def _encoded() -> Iterator[Body]:
    bomb = gzip.compress(bytes(300_000_000), 1)[:900_000]
    for kind, content in VALID.items():
        packed = gzip.compress(content)
        yield Body(f"gzip of {kind}", path_of(kind), kind, packed + bytes(-len(packed) % 4), "gzip")
    yield Body("gzip bomb as samples", VIBRATION + QUERY, RAW, bomb[: len(bomb) // 4 * 4], "gzip")
    yield Body("gzip bomb as JSON", "/v1/alarms/reports", JSON, bomb, "gzip")
    yield Body("an encoding that nobody knows", VIBRATION + QUERY, RAW, VALID[RAW], "zstd-of-the-future")
