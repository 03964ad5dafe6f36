"""`.env`, the settings of `docker compose`: made from sample.env with secrets of its own, or completed."""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from almenara.errors import ConfigurationError

PLACEHOLDER = "change-me"
"""How the values begin that sample.env leaves to whoever copies it."""

_SECRET_BYTES = 20
"""Forty hexadecimal digits: as many as MinIO takes, and none that a URL or a shell reads in its own way."""
_SETTING = re.compile(r"(?:export\s+)?(?P<name>[A-Za-z_]\w*)\s*=\s*(?P<value>.*)")


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


def complete(sample: str, present: str | None) -> Completion:
    """The sample with secrets in place of its placeholders, or `present` with what it lacks of that; all else stays."""
    lines = (sample if present is None else present).splitlines()
    known = {name for name, _ in map(_setting, lines) if name}
    missing = [line for line in sample.splitlines() if (name := _setting(line)[0]) and name not in known]
    if missing:
        lines += ["", "# --- new in sample.env, which says what they are ---", *missing]
    made: list[str] = []
    for number, line in enumerate(lines):
        name, value = _setting(line)
        if name and value.startswith(PLACEHOLDER):
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
    """Name and value of a line, without quotes; empty of a comment."""
    found = _SETTING.fullmatch(line.strip())
    return (found["name"], found["value"].strip("'\"")) if found else ("", "")
