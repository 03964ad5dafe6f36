"""How RTP packets reach a client of the simulated camera: in its RTSP connection, or over UDP beside it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import time
from collections import deque
from typing import Protocol

_CLIENT_PORTS = re.compile(r"client_port=(\d{1,5})-(\d{1,5})")
_MOST_UNSENT_BYTES = 4_000_000
_MOST_QUEUED_PACKETS = 3000
_BURST_PACKETS, _BURST_SECONDS = 18, 0.002
_PORT_ATTEMPTS = 20


class Transport(Protocol):
    """A way to a client.

    Attributes:
        header: the answer to the client's Transport header.
        heard_at: time.monotonic() of the last sign of life beside RTSP requests; 0 when there was none.
    """

    header: str
    heard_at: float

    @property
    def lags(self) -> bool:
        """Whether the client does not keep up, so that pictures have to be left out."""

    @property
    def needs_signs_of_life(self) -> bool:
        """Whether the camera cannot tell otherwise that the client is still there."""

    def send(self, packet: bytes) -> None:
        """Sends or loses an RTP packet, without waiting."""

    def close(self) -> None:
        """Frees what belongs to it alone."""


def open_transport(wish: str, writer: asyncio.StreamWriter, *, udp: bool) -> Transport | None:
    """The first transport that a client's Transport header names and this camera speaks; None when there is none."""
    for offer in wish.split(","):
        if "RTP/AVP/TCP" in offer:
            return InterleavedTransport(writer)
        ports = _CLIENT_PORTS.search(offer)
        if udp and ports and "multicast" not in offer and all(0 < int(port) < 1 << 16 for port in ports.groups()):
            return UdpTransport(writer.get_extra_info("peername")[0], int(ports[1]), int(ports[2]))
    return None


class InterleavedTransport:
    """Packets within the RTSP connection (RFC 2326, 10.12)."""

    header = "RTP/AVP/TCP;unicast;interleaved=0-1"
    heard_at = 0.0
    needs_signs_of_life = False

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    @property
    def lags(self) -> bool:
        return self._writer.transport.get_write_buffer_size() > _MOST_UNSENT_BYTES

    def send(self, packet: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(b"$\0" + struct.pack(">H", len(packet)) + packet)

    def close(self) -> None:
        """The connection belongs to the RTSP side, which closes it."""


class UdpTransport:
    """Packets from a port of our own to the address that the RTSP connection comes from, and to no other.

    Args:
        address: of the client.
        port, control_port: its ports for RTP and RTCP.
    """

    needs_signs_of_life = True

    def __init__(self, address: str, port: int, control_port: int) -> None:
        self._media, self._control = _neighbours(address)
        self._media.connect((address, port))
        self._control.connect((address, control_port))
        self.heard_at = 0.0
        own = self._media.getsockname()[1]
        self.header = f"RTP/AVP;unicast;client_port={port}-{control_port};server_port={own}-{own + 1}"
        self._queue: deque[bytes] = deque()
        self._pacing: asyncio.TimerHandle | None = None
        asyncio.get_running_loop().add_reader(self._control, self._hear)

    @property
    def lags(self) -> bool:
        return len(self._queue) > _MOST_QUEUED_PACKETS

    def send(self, packet: bytes) -> None:
        self._queue.append(packet)
        if self._pacing is None:
            self._pacing = asyncio.get_running_loop().call_later(0, self._send_burst)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._control)
        if self._pacing:
            self._pacing.cancel()
        self._media.close()
        self._control.close()

    def _send_burst(self) -> None:
        """Sends as much as a network of 100 Mbit/s would take in the time until the next burst."""
        for _ in range(min(len(self._queue), _BURST_PACKETS)):
            try:
                self._media.send(self._queue.popleft())
            except OSError:
                continue  # lost, as packets are: a buffer is full, or nobody listens any more
        self._pacing = asyncio.get_running_loop().call_later(_BURST_SECONDS, self._send_burst) if self._queue else None

    def _hear(self) -> None:
        """Takes an RTCP report: what it says does not matter, that it came does."""
        try:
            self._control.recv(2048)
        except OSError:
            return  # the client's port is closed, which the missing reports will tell
        self.heard_at = time.monotonic()


def _neighbours(address: str) -> tuple[socket.socket, socket.socket]:
    """Two bound sockets: an even port and the one after it."""
    for _ in range(_PORT_ATTEMPTS):
        first, second = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        first.setblocking(False)
        second.setblocking(False)
        with contextlib.suppress(OSError):  # the neighbour is taken: another pair is tried
            first.bind((address, 0))
            port = first.getsockname()[1]
            if port % 2 == 0:
                second.bind((address, port + 1))
                return first, second
        first.close()
        second.close()
    raise ConnectionAbortedError("no pair of UDP ports is free")
