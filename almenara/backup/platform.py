"""The composed platform as backup and restoration see it: services that are looked into, databases, streams."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy.engine import make_url

from almenara import __version__
from almenara.backup.compose import Compose, image_ids
from almenara.backup.folder import Survey
from almenara.backup.inside import TRAILER, WARNING, trailer
from almenara.backup.schema import REVISION_TABLES, revisions_in
from almenara.errors import ConfigurationError

SERVICES = ("camera-worker", "api")
"""Those with a data folder, in the order in which their databases are copied."""
_RUN = ("run", "--rm", "--no-deps", "--no-tty", "--quiet-pull", "--entrypoint")
_MLFLOW_REVISIONS = (
    "import importlib.util, pathlib;"
    "place = pathlib.Path(importlib.util.find_spec('mlflow').submodule_search_locations[0]);"
    "[print(file.read_text()) for file in (place / 'store/db_migrations/versions').glob('*.py')]"
)


class _Counted:
    """Blocks that are counted and hashed as they pass."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = blocks
        self.size, self.digest = 0, hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self.size += len(block)
            self.digest.update(block)
            yield block


class Platform:
    """The platform whose docker-compose.yaml lies in a folder.

    Attributes:
        compose: drives it.

    Raises ConfigurationError: as `Compose`; a setting is missing; PostgreSQL is a server outside.
    """

    def __init__(self, directory: Path) -> None:
        self.compose = Compose(directory)
        config = self.compose.config()
        self._services: dict[str, Any] = config["services"]
        self._environment = self._services["postgres"]["environment"]
        host = make_url(self._services["api"]["environment"]["ALMENARA_ALARMS_URL"]).host
        if host != "postgres":
            fact = f"The databases are on a server of yours, {host}, which this command does not copy."
            raise ConfigurationError(fact, "Copy it with its own tools; see docs/operations/backup.md.")

    @property
    def databases(self) -> dict[str, str]:
        """Role to name: MLflow's has the name that POSTGRES_DB gives it."""
        return {"alarms": "alarms", "mlflow": self._environment["POSTGRES_DB"]}

    @property
    def configuration_folder(self) -> Path:
        """The folder with cameras.yaml and alarms.yaml on this machine."""
        mounts = self._services["api"]["volumes"]
        return next(Path(mount["source"]) for mount in mounts if mount["target"] == "/etc/almenara")

    def images(self) -> dict[str, str]:
        """Service to image and id."""
        named = {name: str(service["image"]) for name, service in self._services.items() if "image" in service}
        ids = image_ids(sorted(set(named.values())))
        return {name: f"{image} {ids.get(image, '')}".strip() for name, image in named.items()}

    def ask(self, service: str, *action: str, text: str = "") -> Any:
        """What an action of `almenara.backup.inside` answers in a container of `service`."""
        answer = self.compose.call(*_RUN, "python", service, "-m", "almenara.backup.inside", *action, text=text)
        return json.loads(answer) if answer else None

    def survey(self, service: str) -> Survey:
        """What the data folder of a service holds; raises ConfigurationError: its image is of another release."""
        try:
            return Survey.model_validate(self.ask(service, "survey"))
        except ValidationError as error:
            fact = f"The image of {service} is of another release than this command, {__version__}."
            raise ConfigurationError(fact, "Build or load the images of this release, or install theirs.") from error

    def read(self, service: str, action: str) -> Iterator[bytes]:
        """The tar that an action writes; raises ConfigurationError when it was cut off on its way."""
        blocks = _Counted(self.compose.read(*_RUN, "python", service, "-m", "almenara.backup.inside", action))
        yield from blocks
        self._check(blocks)

    def write(self, service: str, *action: str, blocks: Iterable[bytes]) -> list[str]:
        """Gives a tar to an action; returns its warnings. Raises ConfigurationError when it was cut off on its way."""
        counted = _Counted(blocks)
        self.compose.write(*_RUN, "python", service, "-m", "almenara.backup.inside", *action, blocks=counted)
        self._check(counted)
        lines = self.compose.told.splitlines()
        return [line.removeprefix(WARNING).strip() for line in lines if line.startswith(WARNING)]

    def _check(self, blocks: _Counted) -> None:
        said = [line for line in self.compose.told.splitlines() if line.startswith(TRAILER)]
        if said != [trailer(blocks.size, blocks.digest.hexdigest())]:
            fact = f"A stream was cut off between its container and this machine, after {blocks.size} bytes."
            raise ConfigurationError(fact, "Run the command again.")

    def known_mlflow_revisions(self) -> frozenset[str]:
        """Of the installed MLflow server."""
        return revisions_in(self.compose.call(*_RUN, "python", "mlflow", "-c", _MLFLOW_REVISIONS))

    def sql(self, database: str, script: str) -> list[list[str]]:
        """The rows that a psql script gives, their columns as text."""
        command = self._in_postgres("psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--quiet", "--tuples-only")
        answer = self.compose.call(*command, "--no-align", "--field-separator=\t", f"--dbname={database}", text=script)
        return [line.split("\t") for line in answer.splitlines() if line]

    def postgresql_version(self) -> int:
        """Major version of the running server."""
        return int(self.sql("template1", "SHOW server_version_num;")[0][0]) // 10_000

    def database_sizes(self) -> dict[str, int]:
        """Database to bytes, of all that are there."""
        rows = self.sql("template1", "SELECT datname, pg_database_size(oid) FROM pg_database WHERE NOT datistemplate;")
        return {name: int(size) for name, size in rows}

    def revision(self, role: str) -> tuple[str, ...]:
        """Revision of a database's schema; none before its first migration."""
        table = REVISION_TABLES[role]
        rows = self.sql(self.databases[role], _if_there(table, f"SELECT version_num FROM {table};"))  # noqa: S608 - ours
        return tuple(row[0] for row in rows)

    def rows(self, role: str, tables: Iterable[str]) -> dict[str, int]:
        """Table to its number of rows, of the tables that are there."""
        script = "".join(_if_there(each, f"SELECT '{each}', count(*) FROM {each};") for each in tables)  # noqa: S608 - ours
        return {name: int(count) for name, count in self.sql(self.databases[role], script)}

    def dump(self, role: str) -> Iterator[bytes]:
        """A database as `pg_dump --format=custom`."""
        command = self._in_postgres("pg_dump", "--format=custom", "--no-password")
        yield from self.compose.read(*command, f"--dbname={self.databases[role]}")

    def load(self, database: str, dump: Iterable[bytes]) -> None:
        """Load a dump into an empty database, in one transaction."""
        options = ("--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges")
        self.compose.write(*self._in_postgres("pg_restore", *options), f"--dbname={database}", blocks=dump)

    def check_dump(self, dump: Iterable[bytes]) -> None:
        """Reads a dump to its end, without a database; raises ConfigurationError."""
        command = ("exec", "--no-tty", "postgres", "pg_restore", "--file=/dev/null")
        self.compose.write(*command, blocks=dump)

    def _in_postgres(self, *command: str) -> tuple[str, ...]:
        return ("exec", "--no-tty", "postgres", *command, f"--username={self._environment['POSTGRES_USER']}")


def _if_there(table: str, query: str) -> str:
    return f"SELECT to_regclass('public.{table}') IS NOT NULL AS there \\gset\n\\if :there\n{query}\n\\endif\n"
