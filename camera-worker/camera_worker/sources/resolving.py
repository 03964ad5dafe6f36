"""Names of hosts, resolved within a bounded time: the system's resolver may block for half a minute."""

from __future__ import annotations

import ipaddress
import socket
import threading

from camera_worker.sources.reading import SourceLostError

_lock = threading.Lock()
_pending: dict[str, _Resolution] = {}


def require_host(host: str, patience: float) -> None:
    """Returns once `host` resolves; SourceLostError when it does not, or not within `patience` seconds.

    FFmpeg resolves names by itself and cannot be interrupted there, so that a name server that is away would make the
    reading thread seem stuck. A resolution that takes too long goes on in a daemon thread, one for each name: who asks
    for the name again meanwhile waits for the same one.
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        _resolve(host, patience)


class _Resolution(threading.Thread):
    """Resolves one name; `failure` says why it could not."""

    def __init__(self, host: str) -> None:
        super().__init__(name=f"resolve-host {host}", daemon=True)
        self._host = host
        self.failure = ""

    def run(self) -> None:
        try:
            socket.getaddrinfo(self._host, None)
        except OSError as error:  # UnicodeError of an impossible name is none, and a ValueError
            self.failure = str(error.strerror or error)
        except UnicodeError:
            self.failure = "it is no name of a host"
        finally:
            with _lock:
                del _pending[self._host]


def _resolve(host: str, patience: float) -> None:
    with _lock:
        resolution = _pending.get(host)
        if resolution is None:
            resolution = _Resolution(host)
            resolution.start()  # waits for the lock before it leaves
            _pending[host] = resolution
    resolution.join(patience)
    if resolution.is_alive():
        raise SourceLostError(f"the name {host} was not resolved within {patience:g} s")
    if resolution.failure:
        raise SourceLostError(f"the name {host} cannot be resolved: {resolution.failure.lower()}")
