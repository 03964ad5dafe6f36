"""What a source of pictures is: a stream, an HTTP address, a video file or a webcam, parsed from what people write."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import quote, urlsplit

from almenara.errors import InputError
from almenara.redaction import redact_address

_WEBCAM = re.compile(r"[0-9]{1,3}")


class SourceKind(StrEnum):
    STREAM = "stream"
    """RTSP, over TLS too."""
    HTTP = "http"
    """MJPEG, or one picture an answer."""
    FILE = "file"
    WEBCAM = "webcam"


_KINDS = {
    "rtsp": SourceKind.STREAM,
    "rtsps": SourceKind.STREAM,
    "http": SourceKind.HTTP,
    "https": SourceKind.HTTP,
}


@dataclass(frozen=True)
class Source:
    """A parsed source.

    Attributes:
        kind: what it is.
        address: URL with credentials, path, or the webcam's number. Never shown: show `label`.
    """

    kind: SourceKind
    address: str = field(repr=False)

    @property
    def label(self) -> str:
        return redact_address(self.address)

    @classmethod
    def parse(cls, text: str, *, username: str | None = None, password: str | None = None) -> Source:
        """The source that a URL, a webcam's number or the path of a video file names.

        `username` and `password` may hold any characters and go before those in the URL. Raises InputError:
        `source-unknown` for another scheme or a URL without a host, `source-absent` when there is no such file,
        `credentials-unused` for a password without a user, or credentials for what takes none.
        """
        if password is not None and username is None:
            raise InputError("credentials-unused", "A password is given without a user.", "Give the username, too.")
        if "://" in text:
            return _parse_url(text, username, password or "")
        if username is not None:
            fact = f"{redact_address(text)} takes no credentials."
            raise InputError("credentials-unused", fact, "Leave username and password out.")
        if _WEBCAM.fullmatch(text):
            return cls(SourceKind.WEBCAM, text)
        if not (text.strip() and Path(text).is_file()):
            remedy = "Give an rtsp:// or http:// URL, the path of a video, or the number of a webcam."
            raise InputError("source-absent", _absent(text), remedy)
        return cls(SourceKind.FILE, text)


def _absent(text: str) -> str:
    if not text.strip():
        return "The source is empty."
    if Path(text).is_dir():
        return f"{redact_address(text)} is a folder, not a video file."
    return f"There is no video file {redact_address(text)}."


def _parse_url(text: str, username: str | None, password: str) -> Source:
    try:
        url = urlsplit(text)
        kind = _KINDS.get(url.scheme.lower())
        usable = kind is not None and bool(url.hostname) and url.port != 0 and not re.search(r"\s", text)
    except ValueError:
        kind, usable = None, False
    if kind is None or not usable:
        fact = f"{redact_address(text)} is no camera address."
        remedy = "Give rtsp://HOST[:PORT]/PATH or http://HOST[:PORT]/PATH; write odd characters of a password as %XX."
        raise InputError("source-unknown", fact, f"{remedy} Or give username and password apart, as they are.")
    if username is not None:
        user_info = ":".join(quote(part, safe="") for part in (username, password))
        text = url._replace(netloc=f"{user_info}@{url.netloc.rpartition('@')[2]}").geturl()
    return Source(kind, text)
