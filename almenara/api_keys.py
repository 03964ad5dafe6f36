"""Keys of the API's clients: made here, kept as hashes in one file, which a running API follows."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self, TextIO

from pydantic import AwareDatetime, Field, ValidationError, model_validator

from almenara.contracts import Contract
from almenara.errors import ConfigurationError, InputError

Scope = Literal["predict", "report", "operate", "admin"]
"""What a key opens: `predict` judges inputs, `report` keeps the plant-wide record as a camera worker does, `operate`
sees alarms and acts on them, `admin` does everything."""

_PREFIX = "almenara_"
"""By which programs that look for leaked secrets may know a key."""
_MOST_BYTES = 2**20


class ClientKey(Contract):
    """What is kept of a key.

    A key has 256 random bits, so its plain SHA-256 cannot be turned back, and needs no slow hash.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$", description="of the client, as the log names it")
    scopes: tuple[Scope, ...] = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    requests_per_second: float | None = Field(default=None, gt=0, le=1e5, description="null: as the service is set")

    def allows(self, scope: Scope) -> bool:
        """Whether the key opens a route of that scope."""
        return scope in self.scopes or "admin" in self.scopes

    def is_over(self, now: datetime) -> bool:
        """Whether its time has passed."""
        return self.expires_at is not None and now >= self.expires_at


class _KeyFile(Contract):
    keys: tuple[ClientKey, ...] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [key.name for key in self.keys]
        if len(set(names)) < len(names):
            raise ValueError("two keys have one name")
        return self


def hash_key(key: str) -> str:
    """The hash that the file keeps, in hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_keys(path: Path) -> tuple[ClientKey, ...]:
    """The keys of a file, by age.

    Raises:
        FileNotFoundError: there is none.
        ConfigurationError: it cannot be read, or is no file of keys.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.", "Correct its rights.") from error
    if len(content) > _MOST_BYTES:
        raise ConfigurationError(f"{path} is larger than a file of keys can be.", "Restore it from a backup.")
    try:
        return _KeyFile.model_validate_json(content).keys
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        fact = f"{path} is no file of keys: {where}: {first['msg']}."
        raise ConfigurationError(fact, "Restore it, or take it away and make keys anew.") from error


def create_key(
    path: Path,
    name: str,
    scopes: Sequence[str],
    *,
    expires_at: datetime | None = None,
    requests_per_second: float | None = None,
) -> str:
    """Add a key to the file, which is made if need be; the key itself, which nobody can read again.

    Raises:
        InputError: the name is taken, or a part of the key is not possible.
        ConfigurationError: the file cannot be used.
    """
    key = _PREFIX + secrets.token_urlsafe(32)
    now = datetime.now(UTC).replace(microsecond=0)
    try:
        made = ClientKey.model_validate(
            {
                "name": name,
                "scopes": tuple(dict.fromkeys(scopes)),
                "sha256": hash_key(key),
                "created_at": now,
                "expires_at": expires_at,
                "requests_per_second": requests_per_second,
            }
        )
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise InputError(
            "key-invalid", f"{first['loc'][0]}: {first['msg']}.", "See almenara keys create --help."
        ) from error
    if made.is_over(now):
        raise InputError("key-invalid", "The key would be over before it is used.", "Give a later time.")
    with _changing(path) as present:
        if any(each.name == name for each in present):
            raise InputError(
                "key-exists",
                f"There is a key {name} already.",
                f"To replace it: make one of another name, give it to the client, then almenara keys revoke {name}.",
            )
        _write(path, (*present, made))
    return key


def revoke_key(path: Path, name: str) -> None:
    """Take a key out of the file; a running API refuses it within a second.

    Raises:
        InputError: no key has that name.
        ConfigurationError: the file cannot be used.
    """
    with _changing(path) as present:
        kept = tuple(each for each in present if each.name != name)
        if len(kept) == len(present):
            names = ", ".join(each.name for each in present) or "none"
            raise InputError("key-unknown", f"No key is called {name}.", f"There are: {names}.")
        _write(path, kept)


@contextmanager
def _changing(path: Path) -> Iterator[tuple[ClientKey, ...]]:
    """The keys there are, of which nobody else makes or takes away any meanwhile."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _owned(path.with_name(f"{path.name}.lock")) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                present = read_keys(path)
            except FileNotFoundError:
                present = ()
            yield present
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror}.", "Correct the folder's rights."
        ) from error


def _write(path: Path, keys: tuple[ClientKey, ...]) -> None:
    """The file is whole at any time, and its owner's alone."""
    target = path.resolve()
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        with _owned(partial) as file:
            file.truncate()
            file.write(_KeyFile(keys=keys).model_dump_json(indent=1))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _owned(path: Path) -> TextIO:
    """A file to write, of the folder's owner when root makes it: the service has to read it."""
    file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8")
    if os.geteuid() == 0:
        folder = path.parent.stat()
        os.fchown(file.fileno(), folder.st_uid, folder.st_gid)
    return file
