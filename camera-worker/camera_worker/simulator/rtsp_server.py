"""The RTSP side of the simulated camera: clients, their requests and their places in the stream."""

from __future__ import annotations

import asyncio
import random
import time

from camera_worker.simulator.connections import Connections, reset
from camera_worker.simulator.encoder import RTP_HEADER_BYTES, RtpPacketizer, is_key_frame
from camera_worker.simulator.faults import FaultKind, FaultSwitch
from camera_worker.simulator.login import Authenticator
from camera_worker.simulator.rtsp import Request, answer, read_request, session_description
from camera_worker.simulator.studio import Studio
from camera_worker.simulator.transport import Transport, open_transport

_SESSION_SECONDS = 60


class RtspServer:
    """Answers RTSP clients and sends them packets, interleaved or over UDP.

    A client that does not keep up loses whole pictures up to the next key frame; one that takes packets over UDP
    and gives no sign of life for a minute (a request or an RTCP report) is cut off.

    Args:
        host: address to listen on.
        keyframe_on_play: whether a new client gets a key frame at once; cheap cameras let it wait for the next.
    """

    def __init__(
        self,
        studio: Studio,
        faults: FaultSwitch,
        authenticator: Authenticator,
        *,
        host: str,
        fps: int,
        keyframe_on_play: bool,
    ) -> None:
        self._host = host
        self._studio, self._faults, self._authenticator = studio, faults, authenticator
        self._fps, self._keyframe_on_play = fps, keyframe_on_play
        self._clients: set[_Client] = set()
        self._connections = Connections()
        self.key_frame_wanted = False
        self.packets_sent = 0

    @property
    def watching(self) -> int:
        """How many clients are playing."""
        return sum(client.playing for client in self._clients)

    async def listen(self, port: int) -> asyncio.Server:
        return await asyncio.start_server(self._serve, self._host, port)

    def send(self, units: list[bytes], timestamp: int) -> None:
        """Sends a picture to all who are playing, lost or corrupt for all alike; `timestamp` in ticks of 90 kHz."""
        seed = random.getrandbits(64)
        for client in list(self._clients):
            client.expire()
            chance = random.Random(seed)  # noqa: S311 - a simulation
            for packet in client.packets(units, timestamp):
                if self._faults.strikes(FaultKind.DROP, chance):
                    continue
                damaged = self._faults.strikes(FaultKind.CORRUPT, chance)
                client.send(_corrupted(packet, chance) if damaged else packet)
                self.packets_sent += 1

    def cut(self) -> None:
        for client in list(self._clients):
            client.reset()

    async def stop(self) -> None:
        self.cut()
        await self._connections.end()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = _Client(writer, waits=self._keyframe_on_play)
        self._clients.add(client)
        try:
            with self._connections.noted():
                while True:
                    request = await read_request(reader)
                    client.heard_at = time.monotonic()
                    await self._faults.hesitate(reader.at_eof)
                    writer.write(self._answer(client, request))
                    await writer.drain()
                    if request.method == "TEARDOWN":
                        break
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
            return  # the client went away or does not speak RTSP: nothing is owed to it
        finally:
            self._clients.discard(client)
            client.close()

    def _answer(self, client: _Client, request: Request) -> bytes:
        if self._faults.on(FaultKind.REFUSE):
            return answer(request, "503 Service Unavailable")
        permitted = not self._faults.on(FaultKind.UNAUTHORISED) and self._authenticator.permits(
            request.method, request.headers.get("authorization", "")
        )
        if not permitted and request.method != "OPTIONS":
            return answer(request, "401 Unauthorized", self._authenticator.challenge)
        match request.method:
            case "OPTIONS":
                methods = "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, TEARDOWN, GET_PARAMETER"
                return answer(request, headers={"Public": methods})
            case "DESCRIBE":
                headers = {"Content-Base": f"{request.uri}/", "Content-Type": "application/sdp"}
                body = session_description(*self._studio.parameter_sets, self._fps)
                return answer(request, headers=headers, body=body)
            case "SETUP":
                return self._set_up(client, request)
            case "PLAY" if client.transport is None:
                return answer(request, "455 Method Not Valid in This State")
            case "PLAY":
                client.playing = True
                self.key_frame_wanted = self.key_frame_wanted or self._keyframe_on_play
                return answer(request, headers={"Session": "1", "Range": "npt=0.000-"})
            case "PAUSE":
                client.playing = False
                return answer(request, headers={"Session": "1"})
            case "GET_PARAMETER" | "TEARDOWN":
                return answer(request, headers={"Session": "1"})
            case _:
                return answer(request, "405 Method Not Allowed")

    def _set_up(self, client: _Client, request: Request) -> bytes:
        udp = not self._faults.on(FaultKind.UDP)
        client.take(open_transport(request.headers.get("transport", ""), client.writer, udp=udp))
        if client.transport is None:
            return answer(request, "461 Unsupported Transport")
        session = f"1;timeout={_SESSION_SECONDS}"
        return answer(request, headers={"Transport": client.transport.header, "Session": session})


class _Client:
    """One connection and its place in the stream."""

    def __init__(self, writer: asyncio.StreamWriter, *, waits: bool) -> None:
        self.writer = writer
        self.transport: Transport | None = None
        self.playing = False
        self.heard_at = time.monotonic()
        self._packetizer = RtpPacketizer()
        self._waits_for_key_frame = waits

    def take(self, transport: Transport | None) -> None:
        if self.transport:
            self.transport.close()
        self.transport = transport

    def packets(self, units: list[bytes], timestamp: int) -> list[bytes]:
        """What this client is to be sent of a picture; nothing while it waits for a key frame or lags."""
        if not self.playing or self.transport is None or self.writer.is_closing():
            return []
        if self.transport.lags:
            self._waits_for_key_frame = True
        if self._waits_for_key_frame and not is_key_frame(units):
            return []
        self._waits_for_key_frame = False
        return self._packetizer.packets(units, timestamp)

    def send(self, packet: bytes) -> None:
        if self.transport:
            self.transport.send(packet)

    def expire(self) -> None:
        """Cuts the connection off when only signs of life could tell that the client is there, and none came."""
        if self.transport and self.transport.needs_signs_of_life:
            heard_at = max(self.heard_at, self.transport.heard_at)
            if time.monotonic() - heard_at > _SESSION_SECONDS:
                self.reset()

    def reset(self) -> None:
        reset(self.writer.transport)

    def close(self) -> None:
        self.playing = False
        self.take(None)
        self.writer.close()


def _corrupted(packet: bytes, chance: random.Random) -> bytes:
    """The packet with eight bytes of its payload changed; short packets (parameter sets) stay as they are."""
    if len(packet) < RTP_HEADER_BYTES + 32:
        return packet
    damaged = bytearray(packet)
    for _ in range(8):
        damaged[chance.randrange(RTP_HEADER_BYTES + 2, len(damaged))] = chance.randrange(256)
    return bytes(damaged)
