"""The models in service: follow the registry's aliases, load in the background, swap atomically."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import Field, ValidationError

from almenara.contracts import Contract, Role, Shortcut, Task
from almenara.errors import AlmenaraError, InputError, RegistryError
from almenara.servable import VisionModel
from almenara_api.cache import Entry, ModelCache
from almenara_api.loading import Loaded, load
from almenara_api.polling import Poll

if TYPE_CHECKING:
    from almenara.registry import Served

_LOG = logging.getLogger(__name__)
_FIELDS: Mapping[str, tuple[str, str]] = {
    "champion": ("loaded", "refused"),
    "challenger": ("challengers", "refused_challengers"),
}
"""Where a snapshot keeps the versions of an alias, and those that were refused."""


class Source(Protocol):
    """What the store needs of a registry."""

    def served(self) -> Sequence[Served]:
        """The versions behind the champion alias, each with its challenger."""

    def fetch(self, name: str, version: str, destination: Path) -> Path:
        """Download one version's package into a new folder."""


@dataclass(frozen=True)
class Refusal:
    """A version that the registry names and that is not in service.

    Attributes:
        final: the package itself is at fault and trying again cannot help; else the next poll tries again.
    """

    entry: Entry
    reason: str
    at: datetime
    final: bool

    @property
    def told(self) -> RefusedVersion:
        """As `/v1/models` has it."""
        return RefusedVersion(version=self.entry.version, reason=self.reason, at=self.at)


@dataclass(frozen=True)
class Snapshot:
    """Everything a request may want to know, replaced as a whole; a request keeps the one it started with.

    Attributes:
        loaded: champions, by name, as the others are.
        challengers: what judges in their shadow.
        champions: names that the registry gave when it last answered.
    """

    loaded: Mapping[str, Loaded] = field(default_factory=dict)
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    challengers: Mapping[str, Loaded] = field(default_factory=dict)
    refused_challengers: Mapping[str, Refusal] = field(default_factory=dict)
    registry: Literal["starting", "up", "away"] = "starting"
    away_reason: str = ""
    champions: frozenset[str] = frozenset()

    @property
    def loading(self) -> frozenset[str]:
        """Champions that are neither in service nor refused yet."""
        return self.champions - self.loaded.keys() - self.refused.keys()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Everything that is loaded."""
        return tuple(each.entry for each in (*self.loaded.values(), *self.challengers.values()))

    def versions(self, alias: str) -> tuple[Mapping[str, Loaded], Mapping[str, Refusal]]:
        """What of an alias is loaded, and what was refused."""
        loaded, refused = _FIELDS[alias]
        return getattr(self, loaded), getattr(self, refused)


class RefusedVersion(Contract):
    """Why a version that the registry names is not in service."""

    version: str
    reason: str
    at: datetime


class ModelStatus(Contract):
    """One row of `/v1/models`; without a version nothing of that name is in service."""

    name: str
    task: Task
    role: Role
    version: str | None = None
    alias: str | None = None
    asset: str | None = None
    loaded_since: datetime | None = None
    refused: RefusedVersion | None = None
    reduced_decoding: Shortcut | None = Field(default=None, description="of large JPEGs, as the model's card has it")
    reencoding: Shortcut | None = Field(default=None, description="by the camera worker, as the model's card has it")


class ModelStore(Poll):
    """Serves snapshots of the models and keeps them current from a background thread."""

    def __init__(
        self,
        open_source: Callable[[], Source],
        cache: ModelCache,
        poll_seconds: float,
        *,
        on_change: Callable[[Snapshot], None] = lambda _: None,
    ) -> None:
        super().__init__("model-store", self.refresh, poll_seconds)
        self.snapshot = Snapshot()
        self._open_source = open_source
        self._source: Source | None = None
        self._cache = cache
        self._on_change = on_change
        self._passed_over: set[Served] = set()

    def statuses(self) -> list[ModelStatus]:
        """What is in service and what was refused, by name."""
        snapshot = self.snapshot
        names = sorted(snapshot.loaded.keys() | snapshot.refused.keys())
        return [_status(snapshot.loaded.get(name), snapshot.refused.get(name)) for name in names]

    def refresh(self) -> None:
        """Ask the registry once and bring the models in line; what cannot be loaded leaves the old version serving.

        A registry without any champion takes every model out of service and leaves the disk cache as it is: it may be
        a database that was made anew by mistake.
        """
        try:
            source = self._source = self._source or self._open_source()
            entries = self._entries(source.served())
        except Exception as error:  # noqa: BLE001  however the registry fails, what is loaded serves on
            self._registry_is_away(error)
            return
        self._publish(registry="up", away_reason="", champions=_names(entries, "champion"))
        for alias in _FIELDS:
            self._leave_out(alias, _names(entries, alias))
        changed = False
        for entry in entries:
            loaded, refused = self.snapshot.versions(entry.alias)
            current, refusal = loaded.get(entry.name), refused.get(entry.name)
            settled = refusal is not None and refusal.final and refusal.entry == entry
            if settled or (current is not None and current.entry == entry):
                continue
            changed = self._take(source, entry) or changed
        kept = self.snapshot.entries
        if entries and (changed or set(self._cache.entries()) != set(kept)):
            self._keep(kept)

    def _entries(self, served: Iterable[Served]) -> list[Entry]:
        """The rows that can be served, champions first; another is logged once."""
        champions, challengers = [], []
        for row in served:
            fields = asdict(row)
            challenger = fields.pop("challenger")
            try:
                champions.append(Entry.model_validate(fields))
                if challenger is not None:
                    challengers.append(Entry.model_validate({**fields, "version": challenger, "alias": "challenger"}))
            except ValidationError as error:
                if row not in self._passed_over:
                    self._passed_over.add(row)
                    _LOG.warning("a model cannot be served", extra={"model": row.name, "reason": str(error)[:500]})
        return champions + challengers

    def _leave_out(self, alias: str, names: Collection[str]) -> None:
        """What the registry does not name any more is out of service."""
        for field_name, versions in zip(_FIELDS[alias], self.snapshot.versions(alias), strict=True):
            self._publish(**{field_name: {name: each for name, each in versions.items() if name in names}})

    def _take(self, source: Source, entry: Entry) -> bool:
        """Load a version and put it in service; else record why not."""
        try:
            loaded = self._load_fetched(source, entry)
        except Exception as error:  # noqa: BLE001  a broken package must not stop the other models
            final = isinstance(error, InputError) and not isinstance(error.__cause__, MemoryError)
            reason = _reason(error)
            refusal = Refusal(entry, reason, datetime.now(UTC), final)
            _, refused = self.snapshot.versions(entry.alias)
            before = refused.get(entry.name)
            if before is None or (before.entry, before.reason) != (entry, reason):
                _LOG.warning("model refused", extra=_told(entry) | {"reason": reason})
            self._publish(**{_FIELDS[entry.alias][1]: {**refused, entry.name: refusal}})
            return False
        self._put_in_service(loaded)
        return True

    def _load_fetched(self, source: Source, entry: Entry) -> Loaded:
        """A version as the registry has it; the cached copy while its artifacts are away or the disk takes no more."""
        try:
            with self._cache.new_folder() as folder:
                fetched = source.fetch(entry.name, entry.version, Path(folder, "package"))
                loaded = load(entry, fetched)
                self._cache.adopt(entry, fetched)
                return loaded
        except (RegistryError, OSError):
            with contextlib.suppress(InputError):
                if self._cache.holds(entry):
                    return load(entry, self._cache.directory(entry))
            raise

    def _registry_is_away(self, error: Exception) -> None:
        reason = _reason(error)
        if self.snapshot.registry != "away":
            _LOG.warning("the registry is away; serving what is loaded", extra={"reason": reason})
        starting = self.snapshot.registry == "starting"
        self._publish(registry="away", away_reason=reason)
        for entry in self._cache.entries() if starting else ():
            try:
                self._put_in_service(load(entry, self._cache.directory(entry)))
            except Exception as broken:  # noqa: BLE001  a broken package must not stop the other models
                _LOG.warning("cached model cannot be loaded", extra={"model": entry.name, "reason": _reason(broken)})

    def _put_in_service(self, loaded: Loaded) -> None:
        entry = loaded.entry
        there, refused = self.snapshot.versions(entry.alias)
        in_service, out = _FIELDS[entry.alias]
        self._publish(
            **{
                in_service: {**there, entry.name: loaded},
                out: {name: refusal for name, refusal in refused.items() if name != entry.name},
            }
        )
        _LOG.info("model in service", extra=_told(entry))

    def _keep(self, entries: Iterable[Entry]) -> None:
        try:
            self._cache.keep(entries)
        except OSError as error:
            _LOG.warning("the model cache cannot be written", extra={"reason": str(error)})

    def _publish(self, **changes: Any) -> None:
        """Replace the snapshot by one with these fields changed."""
        self.snapshot = replace(self.snapshot, **changes)
        self._on_change(self.snapshot)


def _names(entries: Iterable[Entry], alias: str) -> frozenset[str]:
    return frozenset(entry.name for entry in entries if entry.alias == alias)


def _told(entry: Entry) -> dict[str, str]:
    """As the log has it."""
    return {"model": entry.name, "version": entry.version, "alias": entry.alias}


def _reason(error: Exception) -> str:
    return (error.fact if isinstance(error, AlmenaraError) else f"{type(error).__name__}: {error}")[:500]


def _status(loaded: Loaded | None, refusal: Refusal | None) -> ModelStatus:
    refused = None if refusal is None else refusal.told
    if loaded is not None:
        entry = loaded.entry
        spec = loaded.model.input if isinstance(loaded.model, VisionModel) else None
        return ModelStatus(
            name=entry.name,
            task=entry.task,
            role=entry.role,
            version=entry.version,
            alias=entry.alias,
            asset=entry.asset,
            loaded_since=loaded.since,
            refused=refused,
            reduced_decoding=spec.reduced_decoding if spec else None,
            reencoding=spec.reencoding if spec else None,
        )
    assert refusal is not None  # noqa: S101  a row has one or the other
    entry = refusal.entry
    return ModelStatus(name=entry.name, task=entry.task, role=entry.role, refused=refused)
