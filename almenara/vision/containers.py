"""Looks into JPEG, PNG and WebP files before anything is decoded: which kind, how large, and whether all is there."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import Literal

from almenara.errors import InputError

Kind = Literal["JPEG", "PNG", "WebP"]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE = b"\xff\xd8"
_JPEG_MARKER_AFTER_SCAN = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])", re.DOTALL)
_JPEG_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9
_JPEG_BARE = frozenset({0x00, 0x01, *range(0xD0, 0xD8)})
"""No marker, TEM and RST: no length follows them. A decoder steps over them outside a scan, so a walk that took them
for segments could be led past the picture that is decoded."""
_ACCEPTED = "Send a JPEG, PNG or WebP picture."
_SEND_AGAIN = "Send the whole file again."


@dataclass(frozen=True)
class Header:
    """What a picture's file says of itself; width and height in pixels as stored, before any rotation."""

    kind: Kind
    width: int
    height: int


def inspect(body: bytes, name: str = "The picture") -> Header:
    """Read the header and walk the file's structure to its end, without decoding a pixel.

    Args:
        body: the file.
        name: how error messages call it.

    Raises:
        InputError: `image-empty`, `image-type`, `image-truncated` (the structure ends early) or `image-corrupt` (it
            contradicts itself).
    """
    if not body:
        raise InputError("image-empty", f"{name} is empty (0 bytes).", _ACCEPTED)
    if body.startswith(_JPEG_SIGNATURE):
        return _inspect_jpeg(body, name)
    if body.startswith(_PNG_SIGNATURE):
        return _inspect_png(body, name)
    if body.startswith(b"RIFF") and body[8:12] in (b"WEBP", b""):
        return _inspect_webp(body, name)
    if _PNG_SIGNATURE.startswith(body):
        raise _truncated(name, "PNG", len(body))
    raise InputError("image-type", f"{name} is no JPEG, PNG or WebP: it begins with {_beginning(body)}.", _ACCEPTED)


def _inspect_jpeg(body: bytes, name: str) -> Header:
    """Walk the markers to EOI (ITU-T T.81, annex B); a thumbnail's own EOI lies inside a segment and is skipped."""
    header: Header | None = None
    position = 2
    while position + 2 <= len(body):
        if body[position] != 0xFF or body[position + 1] in _JPEG_BARE:
            raise InputError(
                "image-corrupt", f"{name} has no JPEG marker that belongs there at byte {position}.", _SEND_AGAIN
            )
        marker = body[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker == _JPEG_END:
            if header is None:
                raise InputError("image-corrupt", f"{name} is a JPEG without a picture.", _SEND_AGAIN)
            return header
        position += 2
        segment = body[position : position + 9]
        if len(segment) < 2:
            break
        if marker in _JPEG_FRAMES and len(segment) == 9:
            header = header or _jpeg_frame(segment, name)
        position += int.from_bytes(segment[:2], "big")
        if marker == _JPEG_SCAN:
            following = _JPEG_MARKER_AFTER_SCAN.search(body, position)
            if following is None:
                break
            position = following.start(1) - 1
    raise _truncated(name, "JPEG", len(body))


def _jpeg_frame(segment: bytes, name: str) -> Header:
    _length, _precision, height, width = struct.unpack(">HBHH", segment[:7])
    return _sized("JPEG", width, height, name)


def _inspect_png(body: bytes, name: str) -> Header:
    """Walk the chunks to IEND and check each one's CRC (W3C PNG, section 5)."""
    header: Header | None = None
    position = len(_PNG_SIGNATURE)
    while position + 12 <= len(body):
        length, kind = struct.unpack_from(">I4s", body, position)
        end = position + 12 + length
        if end > len(body):
            break
        payload = body[position + 8 : end - 4]
        if zlib.crc32(payload, zlib.crc32(kind)) != int.from_bytes(body[end - 4 : end], "big"):
            raise InputError(
                "image-corrupt", f"{name} is damaged: the checksum at byte {end - 4} is wrong.", _SEND_AGAIN
            )
        if header is None:
            if kind != b"IHDR" or length != 13:
                raise InputError("image-corrupt", f"{name} is a PNG that does not begin with IHDR.", _SEND_AGAIN)
            width, height = struct.unpack_from(">II", payload)
            header = _sized("PNG", width, height, name)
        if kind == b"IEND":
            return header
        position = end
    raise _truncated(name, "PNG", len(body))


def _inspect_webp(body: bytes, name: str) -> Header:
    """Size from the first chunk of the RIFF file (RFC 9649)."""
    if len(body) < 30 or len(body) < int.from_bytes(body[4:8], "little") + 8:
        raise _truncated(name, "WebP", len(body))
    chunk, data = body[12:16], body[20:30]
    if chunk == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 6))
    elif chunk == b"VP8L":
        bits = int.from_bytes(data[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif chunk == b"VP8X":
        width = int.from_bytes(data[4:7], "little") + 1
        height = int.from_bytes(data[7:10], "little") + 1
    else:
        raise InputError("image-corrupt", f"{name} is a WebP without a picture.", _SEND_AGAIN)
    return _sized("WebP", width, height, name)


def _sized(kind: Kind, width: int, height: int, name: str) -> Header:
    if width == 0 or height == 0:
        raise InputError("image-corrupt", f"{name} says that it is {width}x{height} pixels.", _SEND_AGAIN)
    return Header(kind, width, height)


def _truncated(name: str, kind: Kind, size: int) -> InputError:
    return InputError("image-truncated", f"{name} is a {kind} that ends early, after {size} bytes.", _SEND_AGAIN)


def _beginning(body: bytes) -> str:
    start = body[:16]
    try:
        text = start.decode("ascii")
    except UnicodeDecodeError:
        return f"the bytes {start[:8].hex(' ')}"
    return (
        f"the text {text!r}" if text.isprintable() or text.strip().isprintable() else f"the bytes {start[:8].hex(' ')}"
    )
