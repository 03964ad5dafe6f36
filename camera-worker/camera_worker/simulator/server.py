"""The RTSP server of the simulated camera: clients, faults and the pump that paces pictures."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from almenara.errors import ConfigurationError, InputError
from camera_worker.simulator.encoder import (
    RTP_CLOCK_HZ,
    H264Encoder,
    RtpPacketizer,
    is_key_frame,
    parameter_sets,
)
from camera_worker.simulator.faults import CONTROL_HELP, Fault, FaultKind
from camera_worker.simulator.rtsp import Authenticator, Request, answer, read_request, session_description
from camera_worker.simulator.scenes import PictureSource

_Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_KEYFRAME_SECONDS = 2
_MOST_UNSENT_BYTES = 4_000_000
_HESITATION_SECONDS = 0.1
_RTP_HEADER_BYTES = 12
_CUTTING = {FaultKind.RESET, FaultKind.REFUSE, FaultKind.UNAUTHORISED}
_MOMENTARY = {FaultKind.RESET, FaultKind.RESIZE}


class SimulatedCamera:
    """An RTSP camera (H.264, interleaved TCP) on loopback.

    Pictures are drawn and encoded once for all clients, and only while somebody watches; a new client begins
    with a key frame. A client that does not keep up loses whole pictures up to the next key frame, as with a
    real camera.

    Args:
        pictures: the picture at a time in seconds since the start, RGB, any size (it is resized).
        width, height: of the stream, pixels, even.
        fps: frames per second.
        user, password: Digest or Basic credentials that clients need; none when `user` is None.
    """

    def __init__(
        self,
        pictures: PictureSource,
        *,
        width: int = 640,
        height: int = 480,
        fps: int = 15,
        user: str | None = None,
        password: str | None = None,
    ) -> None:
        self._pictures = pictures
        self._fps = fps
        self._authenticator = Authenticator(user, password)
        self._fault = Fault()
        self._clients: set[_Client] = set()
        self._size = (width, height)
        self._encoder = self._new_encoder()
        self._parameter_sets = self._find_parameter_sets()
        self._key_frame_wanted = False
        self._frozen: NDArray[np.uint8] | None = None
        self._last_picture: NDArray[np.uint8] | None = None
        self._sent = 0
        self._servers: list[asyncio.Server] = []
        self._handlers: set[asyncio.Task[Any]] = set()
        self._pump: asyncio.Task[None] | None = None
        self._studio = ThreadPoolExecutor(1, thread_name_prefix="simulated-camera")
        self.port = self.control_port = 0

    @property
    def fault(self) -> Fault:
        return self._fault

    @property
    def _silent(self) -> bool:
        return self._fault.kind is FaultKind.STALL

    @property
    def url(self) -> str:
        """Address of the stream, without credentials."""
        return f"rtsp://127.0.0.1:{self.port}/cam"

    async def start(self, port: int = 0, control_port: int | None = None) -> None:
        """Listens on loopback; port 0 takes a free one. ConfigurationError when a port is taken."""
        self.port = await self._listen(self._serve, port)
        if control_port is not None:
            self.control_port = await self._listen(self._control, control_port)
        self._pump = asyncio.create_task(self._pace())

    async def stop(self) -> None:
        """Stops listening and cuts every client."""
        if self._pump:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        for server in self._servers:
            server.close()
        self._cut()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        self._servers.clear()
        self._studio.shutdown()

    def switch(self, fault: Fault) -> None:
        """Puts a fault on; `reset` and `resize` happen once and leave the camera healthy."""
        if fault.kind in _CUTTING:
            self._cut()
        if fault.size:
            self._size = fault.size
            self._encoder = self._new_encoder()
            self._parameter_sets = self._find_parameter_sets()
            self._key_frame_wanted = True
        self._frozen = self._last_picture if fault.kind is FaultKind.FREEZE else None
        self._fault = Fault() if fault.kind in _MOMENTARY else fault

    async def finished(self) -> None:
        """Returns when the pump has ended, which it does only by an error (raised here) or by `stop`."""
        if self._pump:
            await self._pump

    def _new_encoder(self) -> H264Encoder:
        width, height = self._size
        return H264Encoder(width, height, self._fps, keyframe_interval=_KEYFRAME_SECONDS * self._fps)

    def _find_parameter_sets(self) -> tuple[bytes, bytes]:
        width, height = self._size
        return parameter_sets(self._new_encoder().encode(np.zeros((height, width, 3), np.uint8), key_frame=True))

    async def _listen(self, handler: _Handler, port: int) -> int:
        try:
            server = await asyncio.start_server(handler, "127.0.0.1", port)
        except OSError as error:
            raise ConfigurationError(
                f"Port {port} cannot be used: {error.strerror}.", "Free it or choose another."
            ) from error
        self._servers.append(server)
        bound: int = server.sockets[0].getsockname()[1]
        return bound

    def _note_handler(self) -> None:
        """Remembers the task of a connection while it lasts, for `stop`."""
        if task := asyncio.current_task():
            self._handlers.add(task)
            task.add_done_callback(self._handlers.discard)

    # --- pictures out -------------------------------------------------------------------------------------

    async def _pace(self) -> None:
        start, number = time.monotonic(), 0
        while True:
            number += 1
            delay = start + number / self._fps - time.monotonic()
            if delay < -1:  # the machine was busy: go on from here instead of hurrying
                start -= delay
            await asyncio.sleep(max(0.0, delay))
            if not any(client.playing for client in self._clients) or self._silent:
                continue
            key_frame, self._key_frame_wanted = self._key_frame_wanted, False
            units = await asyncio.get_running_loop().run_in_executor(
                self._studio, self._shoot, self._encoder, number / self._fps, key_frame
            )
            if not self._silent:
                self._send(units, number * RTP_CLOCK_HZ // self._fps)

    def _shoot(self, encoder: H264Encoder, t: float, key_frame: bool) -> list[bytes]:
        picture = self._pictures(t) if self._frozen is None else self._frozen
        self._last_picture = picture
        if self._fault.kind is FaultKind.BLACK:
            picture = np.zeros_like(picture)
        return encoder.encode(picture, key_frame=key_frame)

    def _send(self, units: Sequence[bytes], timestamp: int) -> None:
        for client in list(self._clients):
            for packet in client.packets(list(units), timestamp):
                if self._fault.kind is FaultKind.DROP and random.random() < self._fault.share:  # noqa: S311
                    continue
                if self._fault.kind is FaultKind.CORRUPT and random.random() < self._fault.share:  # noqa: S311
                    client.write(_corrupted(packet))
                else:
                    client.write(packet)
                self._sent += 1

    def _cut(self) -> None:
        for client in list(self._clients):
            client.reset()

    # --- clients ------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = _Client(writer)
        self._clients.add(client)
        self._note_handler()
        try:
            while True:
                request = await read_request(reader)
                await self._hesitate(reader)
                writer.write(self._answer(client, request))
                await writer.drain()
                if request.method == "TEARDOWN":
                    break
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
            return  # the client went away or does not speak RTSP: nothing is owed to it
        finally:
            self._clients.discard(client)
            writer.close()

    async def _hesitate(self, reader: asyncio.StreamReader) -> None:
        """Waits as long as `slow` says, or until it is switched off or the client has given up."""
        start = time.monotonic()
        while self._fault.kind is FaultKind.SLOW and time.monotonic() - start < self._fault.seconds:
            if reader.at_eof():
                raise ConnectionAbortedError
            await asyncio.sleep(_HESITATION_SECONDS)

    def _answer(self, client: _Client, request: Request) -> bytes:
        if self._fault.kind is FaultKind.REFUSE:
            return answer(request, "503 Service Unavailable")
        permitted = self._fault.kind is not FaultKind.UNAUTHORISED and self._authenticator.permits(request)
        if not permitted and request.method != "OPTIONS":
            return answer(request, "401 Unauthorized", self._authenticator.challenge)
        match request.method:
            case "OPTIONS":
                methods = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"
                return answer(request, headers={"Public": methods})
            case "DESCRIBE":
                headers = {"Content-Base": f"{request.uri}/", "Content-Type": "application/sdp"}
                return answer(request, headers=headers, body=session_description(*self._parameter_sets, self._fps))
            case "SETUP" if "TCP" not in request.headers.get("transport", ""):
                return answer(request, "461 Unsupported Transport")
            case "SETUP":
                transport = "RTP/AVP/TCP;unicast;interleaved=0-1"
                return answer(request, headers={"Transport": transport, "Session": "1;timeout=60"})
            case "PLAY":
                client.playing = True
                self._key_frame_wanted = True
                return answer(request, headers={"Session": "1", "Range": "npt=0.000-"})
            case "GET_PARAMETER" | "TEARDOWN" | "PAUSE":
                return answer(request, headers={"Session": "1"})
            case _:
                return answer(request, "405 Method Not Allowed")

    # --- control ------------------------------------------------------------------------------------------

    async def _control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._note_handler()
        try:
            while line := (await reader.readline()).decode("utf-8", "replace").strip():
                writer.write(self._obey(line).encode())
                await writer.drain()
        except (ConnectionError, ValueError):
            return  # whoever gave the commands went away
        finally:
            writer.close()

    def _obey(self, line: str) -> str:
        if line == "help":
            return CONTROL_HELP
        if line != "status":
            try:
                self.switch(Fault.parse(line))
            except InputError as error:
                return f"error: {error}\n"
        playing = sum(client.playing for client in self._clients)
        return f"ok fault={self._fault.kind} clients={playing} packets={self._sent}\n"


class _Client:
    """One connection and its place in the stream."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._packetizer = RtpPacketizer()
        self._waits_for_key_frame = True
        self.playing = False

    def packets(self, units: list[bytes], timestamp: int) -> list[bytes]:
        """What this client is to be sent of a picture; nothing while it waits for a key frame or lags."""
        if not self.playing or self._writer.is_closing():
            return []
        if self._writer.transport.get_write_buffer_size() > _MOST_UNSENT_BYTES:
            self._waits_for_key_frame = True
        if self._waits_for_key_frame and not is_key_frame(units):
            return []
        self._waits_for_key_frame = False
        return self._packetizer.packets(units, timestamp)

    def write(self, packet: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(b"$\0" + struct.pack(">H", len(packet)) + packet)

    def reset(self) -> None:
        """Ends the connection with a TCP reset."""
        connection: socket.socket | None = self._writer.get_extra_info("socket")
        if connection is not None and not self._writer.is_closing():
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()


def _corrupted(packet: bytes) -> bytes:
    """The packet with eight bytes of its payload changed; short packets (parameter sets) stay as they are."""
    if len(packet) < _RTP_HEADER_BYTES + 32:
        return packet
    damaged = bytearray(packet)
    for _ in range(8):
        damaged[random.randrange(_RTP_HEADER_BYTES + 2, len(damaged))] = random.randrange(256)  # noqa: S311
    return bytes(damaged)
