"""The models on local disk: what the service starts from while the registry is away."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import Field, ValidationError

from almenara.contracts import Contract, Role, Task

_LOG = logging.getLogger(__name__)


class Version(Contract):
    """A version of a registered model."""

    name: str
    version: str
    created_ms: int = Field(
        default=0, description="when the registry made the model; one made anew under an old name is another model"
    )


class Entry(Version):
    """A model version in service: its registered name is also a folder's name, hence the patterns."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,99}$")
    version: str = Field(pattern=r"^[0-9]{1,12}$")
    alias: str
    task: Task
    role: Role
    asset: str | None = None


Kept = TypeVar("Kept", bound=Version)


class Index(Contract, Generic[Kept]):
    """``index.json``: which cached versions were champions when the registry last answered."""

    origin: str = Field(description="the registry's address; the same name elsewhere is another model")
    entries: tuple[Kept, ...]


class Cache(ABC, Generic[Kept]):
    """Folders of models, two levels below `root`, and the index that names the ones in service."""

    index: type[Index[Kept]]

    def __init__(self, root: Path, origin: str) -> None:
        self.root = root
        self.origin = origin

    @abstractmethod
    def directory(self, entry: Kept) -> Path:
        """Where a version's folder lies, or would lie."""

    def entries(self) -> tuple[Kept, ...]:
        """What was in service last; empty when there is no index, it is broken, or it is another registry's."""
        try:
            index = self.index.model_validate_json((self.root / "index.json").read_bytes())
        except FileNotFoundError:
            return ()
        except (OSError, ValidationError) as error:
            _LOG.warning("the model cache's index cannot be read and is left aside", extra={"reason": str(error)[:300]})
            return ()
        return index.entries if index.origin == self.origin else ()

    def new_folder(self) -> tempfile.TemporaryDirectory[str]:
        """A folder beside the others, to fetch into."""
        self.root.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=".fetch-", dir=self.root, ignore_cleanup_errors=True)

    def adopt(self, entry: Kept, fetched: Path) -> None:
        """Move a folder fetched into a `new_folder` to its place; what lay there goes with that folder."""
        final = self.directory(entry)
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():
            final.rename(fetched.with_name("replaced"))
        fetched.rename(final)

    def keep(self, entries: Iterable[Kept]) -> None:
        """Write the index atomically, then remove the folders that it does not name."""
        kept = tuple(entries)
        self.root.mkdir(parents=True, exist_ok=True)
        text = self.index(origin=self.origin, entries=kept).model_dump_json(indent=2)
        handle, temporary = tempfile.mkstemp(prefix=".index-", dir=self.root)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(self.root / "index.json")
        wanted = {self.directory(entry) for entry in kept}
        for folder in self.root.glob("[!.]*/*/"):
            if folder not in wanted:
                shutil.rmtree(folder, ignore_errors=True)


class ModelCache(Cache[Entry]):
    """Packages, in ``root/NAME/VERSION``."""

    index = Index[Entry]

    def directory(self, entry: Entry) -> Path:
        """Where a version's package lies, or would lie."""
        return self.root / entry.name / entry.version

    def holds(self, entry: Entry) -> bool:
        """Whether this very version was in service last, under whichever alias."""
        return any(each.model_copy(update={"alias": entry.alias}) == entry for each in self.entries())


class PyfuncCache(Cache[Version]):
    """Models of others, whose names may hold anything."""

    index = Index[Version]

    def directory(self, entry: Version) -> Path:
        """Where a version's folder lies, or would lie."""
        return self.root / hashlib.sha256(entry.name.encode()).hexdigest()[:32] / f"{entry.version}-{entry.created_ms}"
