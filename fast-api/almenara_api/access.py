"""Who may use the service: its own key, and the keys of its clients, each with its scopes and its rate."""

from __future__ import annotations

import hmac
import logging
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from almenara.api_keys import ClientKey, Scope, hash_key, read_keys
from almenara.errors import ConfigurationError
from almenara.settings import Settings
from almenara_api.problems import Problem

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0

OWN: Final = "ALMENARA_API_KEY"
"""The caller with the service's own key, which may do everything at any rate."""

Caller = ClientKey | Literal["ALMENARA_API_KEY"]


def name_of(caller: Caller | None) -> str | None:
    """As the log has it."""
    return caller.name if isinstance(caller, ClientKey) else caller


class Access:
    """Admits requests. Without a key of its own and without a file of keys the service is open, which loopback is for.

    Raises ConfigurationError: the file of keys cannot be used. Later a file that cannot be used, or is gone, leaves the
    keys in force that it had before.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._own = None if settings.api_key is None else settings.api_key.get_secret_value().encode()
        self._keys = KeyFile(settings.api_keys_path, clock)
        if settings.api_keys_file is not None and not self._keys.present:
            fact = f"{settings.api_keys_file}, which ALMENARA_API_KEYS_FILE names, is not there."
            raise ConfigurationError(fact, "Make its first key: almenara keys create NAME --scope admin")
        self._rates = Rates(settings.requests_per_second, clock)

    @property
    def open(self) -> bool:
        """Whether nobody needs a key."""
        return self._own is None and not self._keys.present

    def identify(self, key: str | None) -> Caller | None:
        """Who brings a key; None where none is needed. Raises Problem 401."""
        known = self._keys.current()
        if self.open:
            return None
        if key is None:
            raise _unauthorised("The header X-API-Key is missing.")
        if self._own is not None and hmac.compare_digest(key.encode(), self._own):
            return OWN
        found = known.get(hash_key(key))
        if found is None:
            raise _unauthorised("The X-API-Key is not one of the service's.")
        return found

    def admit(self, caller: Caller | None, scope: Scope | None) -> None:
        """Count a request.

        Args:
            caller: who was identified.
            scope: of the route; None for one that any key opens.

        Raises:
            Problem: 401 the key is over, 403 it is not for this route, 429 too many requests.
        """
        if not isinstance(caller, ClientKey):
            return
        if caller.is_over(datetime.now(UTC)):
            raise _unauthorised(f"The key {caller.name} is over since {caller.expires_at:%Y-%m-%d %H:%M} UTC.")
        if scope is not None and not caller.allows(scope):
            raise Problem(
                403,
                "key-scope",
                f"The key {caller.name} is for {' and '.join(caller.scopes)}, and this route needs {scope}.",
                f"Make one that may: almenara keys create NAME --scope {scope}",
            )
        self._rates.count(caller)

    def holds(self, caller: Caller | None) -> bool:
        """Whether an answer that takes long may still go on: the key is neither revoked nor over."""
        known = self._keys.current()
        if isinstance(caller, ClientKey):
            return known.get(caller.sha256) == caller and not caller.is_over(datetime.now(UTC))
        return caller is not None or self.open


class KeyFile:
    """The keys of a file that is read again when it changes; it is looked at once a second at most."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path, self._clock = path, clock
        self._lock = threading.Lock()
        self._looked = clock()
        self._seen = self._signature()
        self._reason = ""
        self._by_hash: dict[str, ClientKey] = {}
        self.present = self._seen is not None
        if self.present:
            self._by_hash = _by_hash(path)

    def current(self) -> dict[str, ClientKey]:
        """Keys by their hash."""
        with self._lock:
            now = self._clock()
            if now - self._looked >= _LOOK_SECONDS:
                self._looked = now
                self._look()
            return self._by_hash

    def _look(self) -> None:
        signature = self._signature()
        if signature == self._seen and not self._reason:
            return
        try:
            self._by_hash = _by_hash(self._path)
        except FileNotFoundError as error:
            if self.present:  # else there never was one
                self._complain(f"{self._path} is gone: {error.strerror}")
            return
        except ConfigurationError as error:
            self.present = True  # somebody made keys: whoever has none stays out
            self._complain(str(error))
            return
        self._seen, self._reason, self.present = signature, "", True
        _LOG.info("keys read", extra={"keys": len(self._by_hash)})

    def _complain(self, reason: str) -> None:
        if reason != self._reason:
            _LOG.warning("the keys stay as they were", extra={"reason": reason})
        self._reason = reason

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            return 0, 0, 0  # reading it will say why
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


class Rates:
    """Each key's requests, spread evenly with a burst of one second's (generic cell rate algorithm, ITU-T I.371)."""

    def __init__(self, per_second: float | None, clock: Callable[[], float]) -> None:
        self._per_second, self._clock = per_second, clock
        self._lock = threading.Lock()
        self._due: dict[str, float] = {}

    def count(self, key: ClientKey) -> None:
        """Count a request of a key; raises Problem 429, with the seconds to wait, when it has made too many."""
        rate = key.requests_per_second or self._per_second
        if rate is None:
            return
        with self._lock:
            now = self._clock()
            # No longer than a full burst, should the rate have been lower before.
            due = min(max(self._due.get(key.sha256, now), now), now + max(1.0, 1 / rate))
            wait = due - now - max(1.0 - 1 / rate, 0.0)
            admitted = wait <= 1e-6
            self._due[key.sha256] = due + 1 / rate if admitted else due
        if admitted:
            return
        raise Problem(
            429,
            "rate-limit",
            f"The key {key.name} may make {rate:g} requests a second.",
            "Send again after the seconds in Retry-After, or send several inputs in one request.",
            headers={"Retry-After": str(math.ceil(wait))},
        )


def _by_hash(path: Path) -> dict[str, ClientKey]:
    return {key.sha256: key for key in read_keys(path)}


def _unauthorised(fact: str) -> Problem:
    return Problem(
        401,
        "api-key",
        fact,
        "Send the key that the service was started with in ALMENARA_API_KEY, or one of `almenara keys create`.",
        headers={"WWW-Authenticate": 'ApiKey realm="almenara"'},
    )
