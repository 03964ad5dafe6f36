"""The line protocol that switches the simulated camera's faults: the camera's side and the command's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from almenara.errors import ConfigurationError, InputError
from camera_worker.simulator.connections import Connections

_PATIENCE_SECONDS = 5.0
_MOST_ANSWER_BYTES = 64 * 1024


class ControlServer:
    """Hands each line to `obey` and sends back what it returns."""

    def __init__(self, obey: Callable[[str], str]) -> None:
        self._obey = obey
        self._connections = Connections()

    async def listen(self, port: int) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", port)

    async def stop(self) -> None:
        await self._connections.end()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with self._connections.noted():
                while line := (await reader.readline()).decode("utf-8", "replace").strip():
                    writer.write(self._obey(line).encode())
                    await writer.drain()
        except (ConnectionError, ValueError):
            return  # whoever gave the commands went away, or sends no lines
        finally:
            writer.close()


def command(line: str, port: int) -> str:
    """The answer of the simulated camera whose control port is `port` on this machine.

    Raises ConfigurationError when none answers there, InputError `fault-unknown` when it does not know the command.
    """
    try:
        with socket.create_connection(("127.0.0.1", port), _PATIENCE_SECONDS) as connection:
            connection.sendall(line.encode() + b"\n")
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as answers:
                answer = answers.read(_MOST_ANSWER_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        answer = ""
    if not answer:
        raise ConfigurationError(
            f"No simulated camera takes commands on port {port} of this machine.",
            f"Start one with camera-worker simulate --control-port {port}, or name its port with --port.",
        )
    if answer.startswith("error: "):
        raise InputError("fault-unknown", answer.removeprefix("error: "))
    return answer
