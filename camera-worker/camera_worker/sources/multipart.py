"""Cuts an endless multipart answer (``multipart/x-mixed-replace``, RFC 2046) into its parts, one picture each."""

from __future__ import annotations

import re

_MOST_HEADER_BYTES = 65_536
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,10})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)


class MultipartError(Exception):
    """The bytes are no multipart stream, or a part is too large."""


class MultipartParser:
    """Bytes in, whole parts out; never holds more than one part, and no more than `most` bytes.

    Lenient where cameras are careless: the delimiter may have more or fewer dashes than the standard says, lines may
    end with a bare line feed, and a part's length may be missing, in which case it ends at the next delimiter.

    Args:
        boundary: parameter of the content type.
        most: bytes of a part.
    """

    def __init__(self, boundary: str, *, most: int) -> None:
        self._delimiter = b"--" + boundary.strip().strip('"').lstrip("-").encode()
        self._most = most
        self._buffer = bytearray()
        self._body: int | None = None
        """Where the body of the part at hand begins; None while its header is incomplete."""
        self._length: int | None = None
        self._searched = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies of the parts that `data` completes; MultipartError when there can be none."""
        self._buffer += data
        parts: list[bytes] = []
        while (self._body is not None or self._find_header()) and (part := self._take_body()) is not None:
            if part:
                parts.append(part)
        return parts

    def _find_header(self) -> bool:
        start = self._buffer.find(self._delimiter)
        end = _HEADER_END.search(self._buffer, start) if start >= 0 else None
        if end is None:
            if len(self._buffer) > _MOST_HEADER_BYTES:
                raise MultipartError("its parts have no beginning")
            return False
        length = _LENGTH.search(self._buffer, start, end.end())
        self._length = int(length[1]) if length else None
        if self._length is not None and self._length > self._most:
            raise MultipartError(f"an encoded picture of {self._length} bytes is too large")
        self._body = self._searched = end.end()
        return True

    def _take_body(self) -> bytes | None:
        body = self._body or 0
        if self._length is not None:
            end = body + self._length
            if len(self._buffer) < end:
                return None
        else:
            end = self._buffer.find(self._delimiter, self._searched)
            if end < 0:
                if len(self._buffer) - body > self._most:
                    raise MultipartError(f"an encoded picture of more than {self._most} bytes is too large")
                self._searched = max(body, len(self._buffer) - len(self._delimiter))
                return None
        part = bytes(self._buffer[body:end])
        if self._length is None:
            part = part.rstrip(b"-").removesuffix(b"\n").removesuffix(b"\r")
        del self._buffer[:end]
        self._body = self._length = None
        return part
