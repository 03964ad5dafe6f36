"""Connections of the simulated camera: kept count of, cut off, and the door that they come through."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from almenara.errors import ConfigurationError

_SECONDS_BETWEEN_ATTEMPTS = 0.1


class Connections:
    """The tasks of connections that are open, so that they can be ended."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """The task that runs this is remembered meanwhile."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is served by a task")
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    async def end(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Door:
    """A port of loopback that can be shut and opened again.

    Args:
        listen: makes a server listen on a port; 0 takes a free one.
    """

    def __init__(self, listen: Callable[[int], Awaitable[asyncio.Server]]) -> None:
        self._listen = listen
        self._server: asyncio.Server | None = None
        self._reopening: asyncio.Task[None] | None = None
        self.port = 0

    async def open(self, port: int) -> None:
        """Raises ConfigurationError when the port is taken."""
        try:
            self._server = await self._listen(port)
        except OSError as error:
            raise ConfigurationError(
                f"Port {port} cannot be used: {error.strerror}.", "Free it or choose another."
            ) from error
        self.port = self._server.sockets[0].getsockname()[1]

    def shut(self) -> None:
        """Refuses new connections; those that stand are not touched."""
        if self._reopening:
            self._reopening.cancel()
            self._reopening = None
        if self._server:
            self._server.close()
            self._server = None

    def reopen(self) -> None:
        """Opens a door that was shut, on the port that it had, as soon as that is free."""
        if self.port and self._server is None and self._reopening is None:
            self._reopening = asyncio.get_running_loop().create_task(self._reopen())

    async def _reopen(self) -> None:
        while self._server is None:
            try:
                await self.open(self.port)
            except ConfigurationError:
                await asyncio.sleep(_SECONDS_BETWEEN_ATTEMPTS)
        self._reopening = None


def reset(transport: asyncio.BaseTransport | None) -> None:
    """Ends a connection with a TCP reset."""
    connection: socket.socket | None = transport.get_extra_info("socket") if transport else None
    if isinstance(transport, asyncio.Transport) and connection is not None and not transport.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
