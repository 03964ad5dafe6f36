"""The HTTP side of the simulated camera: its pictures as MJPEG stream and as snapshots."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from aiohttp import web

from camera_worker.simulator.connections import reset
from camera_worker.simulator.faults import FaultKind, FaultSwitch
from camera_worker.simulator.login import Authenticator

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_BOUNDARY = "picture"
_START_OF_SCAN, _SCAN_HEADER_BYTES = b"\xff\xda", 14
_END_OF_IMAGE = b"\xff\xd9"
_CORRUPTED_BYTES = 128
_NOT_STORED = {"Cache-Control": "no-store"}


class HttpServer:
    """Answers ``/mjpeg`` (multipart/x-mixed-replace) and ``/snapshot.jpg``; who does not keep up misses pictures."""

    def __init__(self, faults: FaultSwitch, authenticator: Authenticator, host: str) -> None:
        self._host = host
        self._faults, self._authenticator = faults, authenticator
        self._waiting: set[asyncio.Future[bytes]] = set()
        self._streams = 0
        self._runner: web.AppRunner | None = None
        self.pictures_sent = 0

    @property
    def watching(self) -> int:
        """How many streams are open."""
        return self._streams

    @property
    def wants_pictures(self) -> bool:
        return bool(self._waiting)

    async def listen(self, port: int) -> asyncio.Server:
        if self._runner is None:
            application = web.Application(client_max_size=1024)
            application.router.add_get("/mjpeg", self._guarded(self._stream))
            application.router.add_get("/snapshot.jpg", self._guarded(self._snapshot))
            self._runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
            await self._runner.setup()
        server = self._runner.server
        if server is None:
            raise RuntimeError("the HTTP server was stopped")
        return await asyncio.get_running_loop().create_server(server, self._host, port)

    def send(self, jpeg: bytes) -> None:
        """Hands a picture to all who wait for one."""
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(jpeg)

    def cut(self) -> None:
        server = self._runner.server if self._runner else None
        for connection in server.connections if server else []:
            reset(connection.transport)

    async def stop(self) -> None:
        self.cut()
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    def _guarded(self, handler: _Handler) -> _Handler:
        """The handler behind what can go wrong before it: waiting, refusal, login."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            await self._faults.hesitate(lambda: request.transport is None)
            if self._faults.on(FaultKind.REFUSE):
                return web.Response(status=503)
            permitted = self._authenticator.permits(request.method, request.headers.get("Authorization", ""))
            if not permitted or self._faults.on(FaultKind.UNAUTHORISED):
                return web.Response(status=401, headers=self._authenticator.challenge)
            return await handler(request)

        return guarded

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        kind = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
        response = web.StreamResponse(headers={"Content-Type": kind, **_NOT_STORED})
        await response.prepare(request)
        self._streams += 1
        try:
            while True:
                jpeg = await self._next_picture()
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                await response.write(head.encode() + jpeg + b"\r\n")
        except ConnectionError:
            return response  # the client went away
        finally:
            self._streams -= 1

    async def _snapshot(self, _: web.Request) -> web.StreamResponse:
        return web.Response(body=await self._next_picture(), content_type="image/jpeg", headers=_NOT_STORED)

    async def _next_picture(self) -> bytes:
        """The next picture that is not dropped, corrupted if that is the fault."""
        while True:
            waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._waiting.add(waiting)
            try:
                jpeg = await waiting
            finally:
                self._waiting.discard(waiting)
            if not self._faults.strikes(FaultKind.DROP):
                break
        self.pictures_sent += 1
        if self._faults.strikes(FaultKind.CORRUPT):
            return _corrupted(jpeg)
        return jpeg


def _corrupted(jpeg: bytes) -> bytes:
    """The picture with a run of its coded bytes overwritten, among them a marker that ends it too early.

    Without the marker some of the runs would decode to another picture, without a flaw that a decoder could tell.
    """
    first = jpeg.index(_START_OF_SCAN) + _SCAN_HEADER_BYTES
    start = random.randrange(first, first + (len(jpeg) - first) // 2)  # noqa: S311
    noise = _END_OF_IMAGE + random.randbytes(_CORRUPTED_BYTES)  # noqa: S311
    return jpeg[:start] + noise[: len(jpeg) - start] + jpeg[start + len(noise) :]
