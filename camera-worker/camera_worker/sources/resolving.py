"""Names of hosts, resolved within a bounded time: the system's resolver may block for half a minute."""

from __future__ import annotations

import ipaddress
import socket
import threading

from camera_worker.sources.reading import SourceLostError


def require_host(host: str, patience: float) -> None:
    """Returns once `host` resolves; SourceLostError when it does not, or not within `patience` seconds.

    FFmpeg resolves names by itself and cannot be interrupted there, so that a name server that is away would make the
    reading thread seem stuck. A resolution that takes too long is left to a daemon thread, which ends with it.
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        _resolve(host, patience)


def _resolve(host: str, patience: float) -> None:
    failures: list[str] = []

    def resolve() -> None:
        try:
            socket.getaddrinfo(host, None)
        except OSError as error:  # UnicodeError of an impossible name is none, and a ValueError
            failures.append(str(error.strerror or error))
        except UnicodeError:
            failures.append("it is no name of a host")

    resolver = threading.Thread(target=resolve, name="resolve-host", daemon=True)
    resolver.start()
    resolver.join(patience)
    if resolver.is_alive():
        raise SourceLostError(f"the name {host} was not resolved within {patience:g} s")
    if failures:
        raise SourceLostError(f"the name {host} cannot be resolved: {failures[0].lower()}")
