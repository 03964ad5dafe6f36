"""Child processes of the demo: started with a log file each, awaited by a health check, stopped in reverse order."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from almenara.errors import ConfigurationError

STOP_SECONDS = 10
_PORTS = range(20_000, 32_768)  # below those that Linux and macOS give to outgoing connections
_given: set[int] = set()
PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None)
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Children:
    """Every child that was started, newest last; use as a context manager so that none outlives its parent.

    Attributes:
        logs: folder for one log file a child.
        environment: variables that every child gets on top of this process's own.
    """

    logs: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __enter__(self) -> Children:
        self.logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop every child, newest first; a second Ctrl-C must not leave the rest behind."""
        before = {number: signal.signal(number, signal.SIG_IGN) for number in ENDING_SIGNALS}
        try:
            for child in reversed(self._running.values()):
                _signal_group(child, signal.SIGTERM)
                try:
                    child.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    _signal_group(child, signal.SIGKILL)
                    child.wait(STOP_SECONDS)
            self._running.clear()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start a child in a process group of its own, so that Ctrl-C reaches it through us alone."""
        environment = {**os.environ, **self.environment}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # without bytecode MLflow starts in 20 s instead of 10
        with self.log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509  one call into libc
            )

    def wait_until(self, name: str, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until a child is ready.

        Raises:
            ConfigurationError: it ended, or took too long; with the last lines of its log.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            self.check(name)
            if time.monotonic() > deadline:
                raise ConfigurationError(f"{name} was not ready within {seconds:.0f} s.", self._last_words(name))
            time.sleep(0.1)

    def check(self, *names: str) -> None:
        """Raise when one of the named children (all of them by default) has ended."""
        for name in names or tuple(self._running):
            code = self._running[name].poll()
            if code is not None:
                raise ConfigurationError(f"{name} ended with exit code {code}.", self._last_words(name))

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def _last_words(self, name: str) -> str:
        lines = self.log(name).read_text(errors="replace").strip().splitlines()
        last = lines[-1][:300] if lines else "(empty)"
        return (
            f"Its log, {self.log(name)}, ends: {last} -- Start again; if that does not help, {self.logs.parent} may be "
            f"damaged: remove it (make clean removes ./var) and start again."
        )


def answers(url: str, timeout: float = 2.0) -> bool:
    """Whether a GET answers with 2xx."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response:  # noqa: S310  our own http address
            return bool(200 <= response.status < 300)
    except (urllib.error.URLError, OSError):
        return False


def require_free_port(port: int, what: str, variable: str) -> None:
    """Raise a plain sentence when something already listens on a loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigurationError(
                f"Port {port}, which {what} needs, is in use.",
                f"Stop what listens there, or choose another: {variable}=PORT.",
            ) from error


def free_port() -> int:
    """A loopback port for a server that is to be started, never the same twice from one process.

    It lies outside the range of outgoing connections, so none of them takes it before the server does.

    Raises:
        OSError: all of them are taken.
    """
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port
    raise OSError("no loopback port from 20000 to 32767 is free")


def _end_with_parent() -> None:
    """Ask Linux for SIGTERM when the parent dies, even by SIGKILL; elsewhere an orphan stays."""
    if sys.platform == "linux":
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal the child and everything it started itself."""
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        child.poll()
