"""`.env`, the settings of `docker compose`: made from sample.env with secrets of its own, completed, and checked."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from almenara.errors import ConfigurationError

PLACEHOLDER = "change-me"
"""How the values begin that sample.env leaves to whoever copies it."""

_SECRET_BYTES = 20
"""Forty hexadecimal digits: as many as MinIO's own keys have, and none that a URL or a shell reads in its own way."""
_SETTING = re.compile(
    r"(?:export\s+)?(?P<name>[A-Za-z_]\w*)\s*=\s*"
    r"(?:\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'|(?P<plain>(?!#)\S.*?)?)\s*(?:(?:(?<=\s)|(?<==))#.*)?"
)

SECRETS: Mapping[str, int] = {
    "POSTGRES_PASSWORD": 16,
    "MINIO_ACCESS_KEY": 3,
    "MINIO_SECRET_KEY": 8,
    "ALMENARA_API_KEY": 16,
    "JUPYTER_TOKEN": 16,
    "GRAFANA_PASSWORD": 16,
}
"""What must be set before anything starts, and its least number of characters; of MinIO's two they are the server's."""
_NAMES = {"MINIO_ACCESS_KEY"}
"""Told to clients and no secret, but those of the server's first start, which anybody tries."""
_LEAST_DIFFERENT = 5
_SIGNS_FOR_LETTERS = str.maketrans("01345@$", "oleasas")
_WELL_KNOWN = frozenset(
    (
        *("admin", "administrator", "almenara", "changeit", "changeme", "default", "example", "grafana", "jupyter"),
        *("key", "letmein", "minio", "minioadmin", "miniosecret", "mlflow", "pass", "passw", "password", "postgres"),
        *("qwerty", "root", "secret", "secretkey", "test", "token", "user", "welcome", "yoursecret"),
    )
)


@dataclass(frozen=True)
class Completion:
    """What was made of a file.

    Attributes:
        text: of the whole file.
        secrets: names of the settings that got a secret.
        added: names of the settings that the file lacked.
    """

    text: str
    secrets: tuple[str, ...]
    added: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """What is wrong with a setting.

    Attributes:
        name: of the setting.
        fact: one sentence, without its value.
        remedy: what to do.
        refused: nothing may start; else it is a warning.
    """

    name: str
    fact: str
    remedy: str
    refused: bool = True


def check(settings: Mapping[str, str]) -> list[Finding]:
    """What must not stay as it is: placeholders, secrets that are missing or can be guessed, an open BIND_ADDRESS."""
    return [*_refused_secrets(settings), *_open_address(settings.get("BIND_ADDRESS", ""))]


def read_settings(path: Path) -> dict[str, str]:
    """The settings of a file.

    Raises:
        ConfigurationError: it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        remedy = "Make it with almenara env init, name another with --file, or check the --environment."
        raise ConfigurationError(f"{path}: {reason}.", remedy) from error
    return {name: value for name, value in map(_setting, lines) if name}


def complete(sample: str, present: str | None) -> Completion:
    """The sample with secrets in place of its placeholders, or `present` with what it lacks of that; all else stays."""
    lines = (sample if present is None else present).splitlines()
    known = {name for name, _ in map(_setting, lines) if name}
    placeholders = {name for name, value in map(_setting, sample.splitlines()) if value.startswith(PLACEHOLDER)}
    missing = [line for line in sample.splitlines() if (name := _setting(line)[0]) and name not in known]
    if missing:
        lines += ["", "# --- new in sample.env, which says what they are ---", *missing]
    made: list[str] = []
    for number, line in enumerate(lines):
        name, value = _setting(line)
        if name and (value.startswith(PLACEHOLDER) or (not value and name in placeholders)):
            lines[number] = f"{name}={secrets.token_hex(_SECRET_BYTES)}"
            made.append(name)
    added = tuple(name for name, _ in map(_setting, missing))
    return Completion("\n".join(lines) + "\n", tuple(made), added)


def complete_file(path: Path, sample: Path) -> Completion:
    """Writes `path` for its owner alone, and only if there is something to add; it is whole at any time.

    Raises:
        ConfigurationError: a file cannot be read or written.
    """
    try:
        present = path.read_text(encoding="utf-8") if path.exists() else None
        completion = complete(sample.read_text(encoding="utf-8"), present)
        if present is None or completion.secrets or completion.added:
            partial = path.with_name(f"{path.name}.{os.getpid()}")
            owned = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(owned, "w", encoding="utf-8") as file:
                file.write(completion.text)
            partial.replace(path)
    except (OSError, UnicodeDecodeError) as error:
        where = getattr(error, "filename", None) or path
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        remedy = "Call it where docker-compose.yaml and sample.env are, or name the files."
        raise ConfigurationError(f"{where}: {reason}.", remedy) from error
    return completion


def _setting(line: str) -> tuple[str, str]:
    """Name and value of a line, without quotes and a comment behind it; empty of what is no setting."""
    found = _SETTING.fullmatch(line.strip())
    return (found["name"], found["double"] or found["single"] or found["plain"] or "") if found else ("", "")


def _refused_secrets(settings: Mapping[str, str]) -> Iterator[Finding]:
    again = f"Write {PLACEHOLDER} in its place and call: almenara env init"
    for name in sorted(SECRETS.keys() | {name for name, value in settings.items() if value.startswith(PLACEHOLDER)}):
        value = settings.get(name, "").strip()
        if name not in settings:
            yield Finding(name, "it is not set.", "Call: almenara env init")
        elif not value:
            yield Finding(name, "it is empty.", "Call: almenara env init")
        elif value.startswith(PLACEHOLDER):
            yield Finding(name, "it is the placeholder of sample.env.", "Call: almenara env init")
        elif len(value) < SECRETS[name]:
            yield Finding(name, f"it has {len(value)} characters and needs {SECRETS[name]} or more.", again)
        elif _easily_guessed(name, value):
            yield Finding(name, "it is well known or easily guessed.", again)


def _easily_guessed(name: str, value: str) -> bool:
    """Whether it is on everybody's list, whatever digits and signs are in it, or of few different characters."""
    if name in _NAMES:
        return value.casefold() == "minioadmin"
    word = re.sub(r"[^a-z]+\Z", "", value.casefold()).translate(_SIGNS_FOR_LETTERS)
    return re.sub(r"[^a-z]", "", word) in _WELL_KNOWN or len(set(value)) < _LEAST_DIFFERENT


def _open_address(address: str) -> Iterator[Finding]:
    with_default = address.strip() or "127.0.0.1"
    try:
        loopback = ipaddress.ip_address(with_default.strip("[]")).is_loopback
    except ValueError:
        loopback = with_default == "localhost"
    if not loopback:
        yield Finding(
            "BIND_ADDRESS",
            f"{with_default} is reached from beyond this machine, and MLflow, which has no accounts, with it.",
            "Keep it behind a firewall, or take 127.0.0.1 and a proxy that asks for a password.",
            refused=False,
        )
