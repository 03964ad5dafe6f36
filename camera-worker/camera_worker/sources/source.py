"""What a source of pictures is: an RTSP stream, a video file or a webcam, parsed from what people write."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import quote, urlsplit

from almenara.errors import InputError
from camera_worker.redaction import redact_address


class SourceKind(StrEnum):
    STREAM = "stream"
    FILE = "file"
    WEBCAM = "webcam"


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
        """The source that an ``rtsp://`` URL, a webcam's number or the path of a video file names.

        `username` and `password` may hold any characters and go before those in the URL. Raises InputError:
        `source-unknown` for another scheme or a URL without a host, `source-absent` when there is no such file.
        """
        if text.isdigit():
            return cls(SourceKind.WEBCAM, text)
        if "://" not in text:
            if not Path(text).is_file():
                remedy = "Give an rtsp:// URL, the path of a video, or the number of a webcam."
                raise InputError("source-absent", f"There is no video file {redact_address(text)}.", remedy)
            return cls(SourceKind.FILE, text)
        try:
            url = urlsplit(text)
            usable = url.scheme.lower() in {"rtsp", "rtsps"} and bool(url.hostname) and url.port != 0
            usable = usable and not re.search(r"\s", text)
        except ValueError:
            usable = False
        if not usable:
            remedy = "Give rtsp://HOST[:PORT]/PATH; write odd characters of a password as %XX."
            raise InputError("source-unknown", f"{redact_address(text)} is no camera address.", remedy)
        if username is not None:
            user_info = ":".join(quote(part, safe="") for part in (username, password or ""))
            text = url._replace(netloc=f"{user_info}@{url.netloc.rpartition('@')[2]}").geturl()
        return cls(SourceKind.STREAM, text)
