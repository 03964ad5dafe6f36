"""Docker Compose, driven as the plugin or as the program of its own, whichever is there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from almenara.backup.streams import BLOCK
from almenara.errors import ConfigurationError
from almenara.redaction import redact

_NAMES = ("docker-compose.yaml", "docker-compose.yml", "compose.yaml", "compose.yml")
_ANSWER_SECONDS = 30


class Compose:
    """Commands to the platform of one folder; COMPOSE_FILE and the like of the environment are heeded.

    Args:
        directory: of docker-compose.yaml.

    Attributes:
        directory: the same.
        told: what the last command that streamed wrote on standard error.

    Raises ConfigurationError: there is no such file, or no Docker Compose.
    """

    def __init__(self, directory: Path) -> None:
        if not any((directory / name).is_file() for name in _NAMES):
            fact = f"There is no docker-compose.yaml in {directory.resolve()}."
            remedy = "Name its folder with --project-directory, or, without containers, the data folder with --var-dir."
            raise ConfigurationError(fact, remedy)
        self.directory = directory.resolve()
        self._command = [*_find(), "--progress", "quiet"]
        self.told = ""

    def config(self) -> dict[str, Any]:
        """The resolved configuration; it holds secrets. Raises ConfigurationError."""
        resolved: dict[str, Any] = json.loads(self.call("config", "--format", "json"))
        return resolved

    def call(self, *arguments: str, text: str = "") -> str:
        """What a command writes on standard output, given `text`. Raises ConfigurationError when it fails."""
        done = subprocess.run(
            [*self._command, *arguments], cwd=self.directory, input=text, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise self._failed(arguments, done.stderr)
        return done.stdout

    def read(self, *arguments: str) -> Iterator[bytes]:
        """What a command writes on standard output, in blocks; raises ConfigurationError when it fails in the end."""
        with tempfile.TemporaryFile() as errors, self._started(arguments, subprocess.DEVNULL, errors) as child:
            try:
                assert child.stdout is not None  # noqa: S101 - it is a pipe
                while block := child.stdout.read(BLOCK):
                    yield block
            except BaseException:
                child.terminate()
                raise
            self._ended(arguments, child, errors)

    def write(self, *arguments: str, blocks: Iterable[bytes]) -> None:
        """Gives blocks to a command on its standard input; raises ConfigurationError when it fails."""
        with tempfile.TemporaryFile() as errors, self._started(arguments, subprocess.PIPE, errors) as child:
            try:
                assert child.stdin is not None  # noqa: S101 - it is a pipe
                for block in blocks:
                    child.stdin.write(block)
                child.stdin.close()
            except BrokenPipeError:
                child.stdin = None  # it ended early, and says why
            except BaseException:
                child.terminate()
                raise
            self._ended(arguments, child, errors)

    def _started(self, arguments: tuple[str, ...], stdin: int, errors: IO[bytes]) -> subprocess.Popen[bytes]:
        out = subprocess.DEVNULL if stdin == subprocess.PIPE else subprocess.PIPE
        command = [*self._command, *arguments]
        return subprocess.Popen(command, cwd=self.directory, stdin=stdin, stdout=out, stderr=errors)

    def _ended(self, arguments: tuple[str, ...], child: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        code = child.wait()
        errors.seek(0)
        self.told = errors.read().decode(errors="replace")
        if code:
            raise self._failed(arguments, self.told)

    def _failed(self, arguments: tuple[str, ...], told: str) -> ConfigurationError:
        lines = [line.strip() for line in told.splitlines() if line.strip() and " level=warning " not in line]
        said = redact(" ".join(lines[-3:])) or "it says nothing"
        done = " ".join(arguments[:1] + tuple(word for word in arguments[1:] if re.fullmatch(r"[a-z][a-z-]+", word)))
        remedy = "See `docker compose ps` and `docker compose logs`, set that right and run the command again."
        return ConfigurationError(f"`docker compose {done}` failed: {said.rstrip('.')}.", remedy)


def image_ids(images: Iterable[str]) -> dict[str, str]:
    """Image to the id under which the engine has it; images it lacks are left out."""
    found = {}
    for image in images:
        command = ["docker", "image", "inspect", "--format", "{{.Id}}", image]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            found[image] = done.stdout.strip()
    return found


def env_files(directory: Path) -> list[Path]:
    """Where Compose takes the settings from: .env, or what COMPOSE_ENV_FILES names."""
    named = os.environ.get("COMPOSE_ENV_FILES", "")
    return [directory / name for name in named.split(",") if name] or [directory / ".env"]


def _find() -> list[str]:
    beside = Path(sys.executable).with_name("docker-compose")
    for command in (["docker", "compose"], ["docker-compose"], [str(beside)]):
        if shutil.which(command[0]) is None:
            continue
        done = subprocess.run([*command, "version"], capture_output=True, check=False, timeout=_ANSWER_SECONDS)
        if done.returncode == 0:
            return command
    fact = "Docker Compose is not installed: neither `docker compose` nor `docker-compose` answers."
    raise ConfigurationError(fact, "Install Docker's Compose plugin.")
