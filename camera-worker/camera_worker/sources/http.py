"""Pictures over HTTP: an endless multipart answer (MJPEG), or one picture an answer, asked for again and again."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal
from urllib.parse import unquote, urlsplit

import aiohttp
import av

from camera_worker.slot import Picture
from camera_worker.sources.multipart import MultipartError, MultipartParser
from camera_worker.sources.reading import (
    MOST_PACKET_BYTES,
    Description,
    ReadOptions,
    SourceLostError,
    UnauthorisedError,
    Witness,
    decoder_options,
    plain,
    stalled,
    unanswered,
)
from camera_worker.sources.resolving import require_host

_CODECS: dict[bytes, Literal["mjpeg", "png"]] = {b"\xff\xd8\xff": "mjpeg", b"\x89PNG\r\n\x1a\n": "png"}
SNAPSHOTS = "one picture an answer (HTTP)"
"""How pictures come that are asked for one by one."""

_CHUNK_BYTES = 65_536
_REASONS = {
    404: "the camera has no such address (404): check its path",
    503: "the camera cannot serve pictures now (503)",
}


def read_http(address: str, options: ReadOptions, witness: Witness, wait: Callable[[float], None]) -> Iterator[Picture]:
    """The undamaged pictures of an ``http://`` or ``https://`` address; the answer's content type says how they come.

    A multipart answer is read to its end; a picture of it is decoded when `options.decode_every` seconds have passed
    since the last. Otherwise each answer is one picture, JPEG or PNG, and the next is asked for `options.interval`
    seconds later (`wait` sleeps), though no later than half of `options.read`. Redirections are not followed, so that
    credentials stay with the camera that they are for. Raises SourceLostError when nothing came for `options.read`
    seconds, UnauthorisedError when the credentials are refused.
    """
    require_host(urlsplit(address).hostname or "", options.connect)
    decoder = _Decoder(witness)
    with asyncio.Runner() as runner:
        client = _Client(address, options, witness)
        try:
            due = decode_at = time.monotonic()
            while (encoded := runner.run(client.next_picture())) is not None:
                if client.one_by_one or time.monotonic() >= decode_at:
                    for picture in decoder.pictures(encoded):
                        decode_at = time.monotonic() + options.decode_every
                        yield picture
                if client.one_by_one:
                    due = max(due + min(options.interval, options.read / 2), time.monotonic())
                    wait(due - time.monotonic())
        except TimeoutError:
            raise SourceLostError(stalled(options)) from None
        except MultipartError as error:
            raise SourceLostError(f"its answer cannot be read: {error}") from None
        except aiohttp.ClientError as error:  # not shown itself: it may hold the address
            raise SourceLostError(_reason(error)) from None
        finally:
            runner.run(client.close())


class _Client:
    """Asks for pictures; every wait is bounded.

    Attributes:
        one_by_one: whether the camera answers with one picture at a time.
    """

    def __init__(self, address: str, options: ReadOptions, witness: Witness) -> None:
        url = urlsplit(address)
        self._url = url._replace(netloc=url.netloc.rpartition("@")[2]).geturl()
        self._user, self._password = unquote(url.username or ""), unquote(url.password or "")
        self._options, self._witness = options, witness
        self._session: aiohttp.ClientSession | None = None
        self._headers: dict[str, str] = {}
        self._stream: tuple[aiohttp.ClientResponse, MultipartParser] | None = None
        self._parts: deque[bytes] = deque()
        self._described = False
        self.one_by_one = False

    async def next_picture(self) -> bytes | None:
        """The next encoded picture; None when the stream has ended. TimeoutError, aiohttp.ClientError."""
        if self._stream is not None:
            encoded = await self._part(*self._stream)
        else:
            try:
                async with asyncio.timeout(self._options.connect):
                    response = await self._ask()
            except TimeoutError:
                raise SourceLostError(unanswered(self._options)) from None
            encoded = await self._first(response)
        if encoded:
            self._witness.received(len(encoded), key_frame=True, at=None)
        return encoded

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _ask(self) -> aiohttp.ClientResponse:
        """A good answer to the address, after logging in the way that the camera asks for."""
        session = self._session = self._session or self._new_session()
        response = await session.get(self._url, headers=self._headers, allow_redirects=False)
        challenge = response.headers.get("WWW-Authenticate", "").lower()
        if response.status == 401 and "basic" in challenge and self._user and not self._headers:
            response.close()
            self._headers = {"Authorization": aiohttp.encode_basic_auth(self._user, self._password, encoding="utf-8")}
            response = await session.get(self._url, headers=self._headers, allow_redirects=False)
        if response.status != 200:
            response.close()
            raise _refusal(response.status)
        return response

    def _new_session(self) -> aiohttp.ClientSession:
        digest = (aiohttp.DigestAuthMiddleware(self._user, self._password),) if self._user else ()
        timeout = aiohttp.ClientTimeout(total=None, connect=self._options.connect)
        return aiohttp.ClientSession(timeout=timeout, middlewares=digest, cookie_jar=aiohttp.DummyCookieJar())

    async def _first(self, response: aiohttp.ClientResponse) -> bytes | None:
        """The picture of an answer, or the first of a stream of pictures that it begins."""
        kind = response.content_type
        if kind.startswith("image/"):
            self._describe(Description(kind.removeprefix("image/"), SNAPSHOTS))
            self.one_by_one = True
            return await self._whole(response)
        if not kind.startswith("multipart/"):
            raise SourceLostError(f"it answers with {kind[:80]}, not with pictures: check the path of its address")
        self._describe(Description("mjpeg", "a stream of pictures (HTTP multipart)"))
        self.one_by_one = False
        boundary = response.headers["Content-Type"].partition("boundary=")[2].partition(";")[0]
        self._stream = response, MultipartParser(boundary, most=MOST_PACKET_BYTES)
        return await self._part(*self._stream)

    def _describe(self, description: Description) -> None:
        if not self._described:
            self._described = True
            self._witness.described(description)

    async def _whole(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async with asyncio.timeout(self._options.read):
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                body += chunk
                if len(body) > MOST_PACKET_BYTES:
                    raise MultipartError(f"a picture of more than {MOST_PACKET_BYTES} bytes is too large")
        return bytes(body)

    async def _part(self, response: aiohttp.ClientResponse, parser: MultipartParser) -> bytes | None:
        async with asyncio.timeout(self._options.read):
            while not self._parts:
                chunk = await response.content.read(_CHUNK_BYTES)
                if not chunk:
                    return None
                self._parts.extend(parser.feed(chunk))
        return self._parts.popleft()


class _Decoder:
    """Decodes JPEG and PNG, told apart by their first bytes; damaged ones are told to the witness."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self._contexts: dict[str, av.VideoCodecContext] = {}

    def pictures(self, encoded: bytes) -> Iterator[Picture]:
        codec = next((codec for magic, codec in _CODECS.items() if encoded.startswith(magic)), None)
        if codec is None:
            self._witness.damaged("what came is neither a JPEG nor a PNG")
            return
        if codec not in self._contexts:
            context = av.CodecContext.create(codec, "r")
            context.thread_count, context.options = 1, decoder_options(codec)
            self._contexts[codec] = context
        try:
            frames = self._contexts[codec].decode(av.Packet(encoded))
        except (av.FFmpegError, ValueError) as error:
            del self._contexts[codec]
            self._witness.damaged(plain(error))
            return
        for frame in frames:
            if frame.is_corrupt:
                self._witness.damaged("a picture came incomplete")
            else:
                yield frame


def _refusal(status: int) -> SourceLostError:
    if status == 401:
        return UnauthorisedError("the camera refuses the credentials (401)")
    if status == 403:
        return UnauthorisedError("the camera forbids these credentials to watch (403)")
    if 300 <= status < 400:
        return SourceLostError(f"it points to another address ({status}): write that one")
    return SourceLostError(_REASONS.get(status, f"it answers with HTTP status {status}"))


def _reason(error: aiohttp.ClientError) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return "its certificate cannot be verified: add the camera's to the system's, or to SSL_CERT_FILE"
        case aiohttp.ClientConnectorSSLError():
            return "it does not speak TLS: check http:// or https://, and the port"
        case aiohttp.ClientConnectorError() if error.os_error.errno:
            return os.strerror(error.os_error.errno).lower()
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError():
            return "the camera cut the connection"
        case _:
            return f"the connection failed ({type(error).__name__})"
