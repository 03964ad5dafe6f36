"""`python -m almenara_api`: serve until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import errno
import gc
import ipaddress
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from almenara import __version__
from almenara.errors import AlmenaraError, ConfigurationError
from almenara.settings import Settings
from almenara_api import logs
from almenara_api.access import Access
from almenara_api.app import create_app
from almenara_api.problems import sentence

_LOG = logging.getLogger("almenara_api")
_KEEP_ALIVE_SECONDS = 75
"""Longer than most clients keep an idle connection, so that none sends a request into one that is being closed."""
_COLLECTIONS = (20_000, 20, 100)
"""Thresholds of garbage collection. A full one walks every library, for 200 ms in which nobody is answered; with those
that Python has by itself there is one every 1,200 requests.
"""


def main(arguments: list[str] | None = None) -> int:
    """Serve; returns the exit code, 2 with a sentence on standard error when it cannot start."""
    options = _parser().parse_args(arguments)
    try:
        settings = _settings(options.host, options.port)
        access = check_exposure(settings)
        listener = listen(settings.api_host, settings.api_port)
    except AlmenaraError as error:
        sys.stderr.write(f"almenara-api: {error}\n")
        return 2
    logs.configure()
    with listener:
        return _serve(settings, listener, access)


def check_exposure(settings: Settings) -> Access:
    """Refuse to listen beyond this machine where nobody needs a key; who may use the service."""
    access = Access(settings)
    if access.open and not _is_loopback(settings.api_host):
        raise ConfigurationError(
            f"The API would listen on {settings.api_host}, beyond this machine, without a key.",
            "Set ALMENARA_API_KEY, make a key with `almenara keys create`, or listen on 127.0.0.1.",
        )
    if settings.api_key is not None and not settings.api_key.get_secret_value().strip():
        raise ConfigurationError("ALMENARA_API_KEY is set and empty.", "Give it a value, or unset it.")
    return access


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ConfigurationError(f"The address {host!r} is unknown.", "Correct --host or ALMENARA_API_HOST.") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigurationError(
                f"Port {port} on {host} is in use.", "Stop what runs there, or choose another with --port."
            ) from error
        raise ConfigurationError(f"{host}:{port} cannot be opened: {error.strerror}.", "Choose another.") from error
    return listener


class _Server(uvicorn.Server):
    """Stops in steps: not ready but serving, then finishing what runs and refusing what is new, then gone."""

    def __init__(self, config: uvicorn.Config, drain_seconds: float) -> None:
        super().__init__(config)
        self.refusing = False
        self._drain_seconds = drain_seconds

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._wait(self._drain_seconds, lambda: False)
        self.refusing = True
        for server in self.servers:
            server.close()
        # uvicorn itself would now close the idle connections, on which a client may just be sending its next request.
        await self._wait(self.config.timeout_graceful_shutdown or 0, lambda: not self.server_state.tasks)
        self.config.timeout_graceful_shutdown = 1
        await super().shutdown(sockets)

    async def _wait(self, seconds: float, done: Callable[[], bool]) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not done() and not self.force_exit:  # noqa: ASYNC110  uvicorn has flags
            await asyncio.sleep(0.05)


def _serve(settings: Settings, listener: socket.socket, access: Access) -> int:
    gc.set_threshold(*_COLLECTIONS)
    app = create_app(settings, access)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(settings.request_timeout_seconds) + 1,
    )
    server = _Server(config, settings.drain_seconds)
    app.state.stopping = lambda: server.should_exit
    app.state.refusing = lambda: server.refusing
    logging.getLogger("uvicorn.error").addFilter(lambda line: not _is_traceback_of_failure(app, line))
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    _LOG.info("listening", extra={"url": url, "version": __version__, "key_required": not access.open})
    # uvicorn raises the signal again after a clean shutdown; these make it a clean exit.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    try:
        server.run(sockets=[listener])
    except SystemExit:  # from _end, or uvicorn's own when the app could not start
        if server.started:
            raise
    if server.started:
        return 0
    sys.stderr.write(f"almenara-api: {getattr(app.state, 'failure', 'The service could not start; see above.')}\n")
    return 2


def _is_traceback_of_failure(app: FastAPI, line: logging.LogRecord) -> bool:
    """Whether it is the web server's traceback of a failed start whose sentence is told anyhow."""
    return hasattr(app.state, "failure") and line.getMessage().startswith("Traceback")


def _end(_: int, __: FrameType | None) -> None:
    raise SystemExit(0)


def _settings(host: str | None, port: int | None) -> Settings:
    try:
        settings = Settings()
    except ValidationError as error:
        facts = "; ".join(sentence(each) for each in error.errors(include_input=False))
        raise ConfigurationError(f"A setting is wrong: {facts}.", "Correct the environment or .env.") from error
    chosen = {"api_host": host, "api_port": port}
    return settings.model_copy(update={key: value for key, value in chosen.items() if value is not None})


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _port(text: str) -> int:
    if text.isdecimal() and int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port between 0 and 65535")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="almenara-api",
        description="Serve the registry's champions over HTTP.",
        epilog="Example: python -m almenara_api --port 8000. Every setting: environment variables ALMENARA_*.",
    )
    parser.add_argument("--host", help="address, default 127.0.0.1; another needs a key, see `almenara keys`")
    parser.add_argument("--port", type=_port, help="default 8000; 0 takes a free one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
