"""The little of RTSP 1.0 (RFC 2326) that a camera speaks: requests, answers, description."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import Mapping
from dataclasses import dataclass

_MOST_HEADER_BYTES = 8192


@dataclass(frozen=True)
class Request:
    """An RTSP request; header names are in lower case."""

    method: str
    uri: str
    headers: Mapping[str, str]

    @property
    def sequence(self) -> str:
        return self.headers.get("cseq", "0")


async def read_request(reader: asyncio.StreamReader) -> Request:
    """The next request; interleaved packets in between (the client's RTCP reports) are skipped.

    Raises asyncio.IncompleteReadError when the client went away, ValueError when it does not speak RTSP.
    """
    while (first := await reader.readexactly(1)) == b"$":
        _, length = struct.unpack(">BH", await reader.readexactly(3))
        await reader.readexactly(length)
    head = first + await reader.readuntil(b"\r\n\r\n")
    if len(head) > _MOST_HEADER_BYTES:
        raise ValueError("RTSP header too long")
    start, *lines = head.decode("latin-1").split("\r\n")
    method, uri, _ = start.split(" ", 2)
    fields = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, colon, value in fields if colon}
    length = int(headers.get("content-length", "0"))
    if length > _MOST_HEADER_BYTES:
        raise ValueError("RTSP body too long")
    await reader.readexactly(length)
    return Request(method, uri, headers)


def answer(request: Request, status: str = "200 OK", headers: Mapping[str, str] | None = None, body: str = "") -> bytes:
    """The bytes of an answer to `request`."""
    lines = [f"RTSP/1.0 {status}", f"CSeq: {request.sequence}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", body]).encode()


def session_description(sequence_set: bytes, picture_set: bytes, fps: int) -> str:
    """SDP (RFC 8866) of one H.264 track with its parameter sets."""
    sets = ",".join(base64.b64encode(unit).decode() for unit in (sequence_set, picture_set))
    profile = sequence_set[1:4].hex()
    lines = [
        "v=0",
        "o=- 1 1 IN IP4 127.0.0.1",
        "s=Almenara simulated camera",
        "t=0 0",
        "a=control:*",
        "m=video 0 RTP/AVP 96",
        "c=IN IP4 127.0.0.1",
        "a=rtpmap:96 H264/90000",
        f"a=fmtp:96 packetization-mode=1;profile-level-id={profile};sprop-parameter-sets={sets}",
        f"a=framerate:{fps}",
        "a=control:trackID=0",
        "",
    ]
    return "\r\n".join(lines)
