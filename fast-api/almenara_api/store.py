"""The models in service: follow the registry's champion aliases, load in the background, swap atomically."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import ValidationError

from almenara import servable
from almenara.contracts import BearingFeaturesInput, Contract, ModelRef, Role, Task
from almenara.errors import AlmenaraError, InputError, RegistryError
from almenara.vibration.features import BearingFeatures
from almenara_api.cache import Entry, ModelCache

if TYPE_CHECKING:
    from almenara.registry import Served

_LOG = logging.getLogger(__name__)
_OUTPUT_BY_ROLE: Mapping[Role, str] = {"anomaly": "map", "classifier": "probabilities", "novelty": "score"}

Model = servable.VisionModel | servable.VibrationModel | servable.NoveltyModel


class Source(Protocol):
    """What the store needs of a registry."""

    def served(self) -> Sequence[Served]:
        """The versions behind the champion alias."""

    def fetch(self, name: str, version: str, destination: Path) -> Path:
        """Download one version's package into a new folder."""


@dataclass(frozen=True)
class Loaded:
    """A version in service."""

    entry: Entry
    model: Model
    since: datetime


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


@dataclass(frozen=True)
class Snapshot:
    """Everything a request may want to know, replaced as a whole; a request keeps the one it started with.

    Attributes:
        champions: names that the registry gave when it last answered.
    """

    loaded: Mapping[str, Loaded] = field(default_factory=dict)
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    registry: Literal["starting", "up", "away"] = "starting"
    away_reason: str = ""
    champions: frozenset[str] = frozenset()

    @property
    def loading(self) -> frozenset[str]:
        """Champions that are neither in service nor refused yet."""
        return self.champions - self.loaded.keys() - self.refused.keys()


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


class ModelStore:
    """Serves snapshots of the models and keeps them current from a background thread."""

    def __init__(
        self,
        open_source: Callable[[], Source],
        cache: ModelCache,
        poll_seconds: float,
        *,
        on_change: Callable[[Snapshot], None] = lambda _: None,
    ) -> None:
        self.snapshot = Snapshot()
        self._open_source = open_source
        self._source: Source | None = None
        self._cache = cache
        self._poll_seconds = poll_seconds
        self._on_change = on_change
        self._passed_over: set[Served] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="model-store", daemon=True)

    def start(self) -> None:
        """Begin to follow the registry; returns at once."""
        self._thread.start()

    def stop(self, timeout_seconds: float = 2.0) -> None:
        """Stop following; a call that hangs in the registry is left behind with its daemon thread."""
        self._stop.set()
        self._thread.join(timeout_seconds)

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
        names = {entry.name for entry in entries}
        self._publish(
            loaded={name: model for name, model in self.snapshot.loaded.items() if name in names},
            refused={name: refusal for name, refusal in self.snapshot.refused.items() if name in names},
            registry="up",
            champions=frozenset(names),
        )
        changed = False
        for entry in entries:
            current, refusal = self.snapshot.loaded.get(entry.name), self.snapshot.refused.get(entry.name)
            settled = refusal is not None and refusal.final and refusal.entry == entry
            if settled or (current is not None and current.entry == entry):
                continue
            changed = self._take(source, entry) or changed
        kept = [model.entry for model in self.snapshot.loaded.values()]
        if entries and (changed or set(self._cache.entries()) != set(kept)):
            self._keep(kept)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.refresh()
            except Exception:  # noqa: BLE001  whatever the registry does, the thread must live on
                _LOG.exception("following the registry failed; the next poll tries again")
            self._stop.wait(self._poll_seconds * random.uniform(0.9, 1.1))  # noqa: S311  spreads the polls

    def _entries(self, served: Iterable[Served]) -> list[Entry]:
        """The rows that can be served; another is logged once."""
        entries = []
        for row in served:
            try:
                entries.append(Entry.model_validate(asdict(row)))
            except ValidationError as error:
                if row not in self._passed_over:
                    self._passed_over.add(row)
                    _LOG.warning("a model cannot be served", extra={"model": row.name, "reason": str(error)[:500]})
        return entries

    def _take(self, source: Source, entry: Entry) -> bool:
        """Load a version and put it in service; else record why not."""
        try:
            loaded = self._load_fetched(source, entry)
        except Exception as error:  # noqa: BLE001  a broken package must not stop the other models
            final = isinstance(error, InputError) and not isinstance(error.__cause__, MemoryError)
            reason = _reason(error)
            refusal = Refusal(entry, reason, datetime.now(UTC), final)
            before = self.snapshot.refused.get(entry.name)
            if before is None or (before.entry, before.reason) != (entry, reason):
                _LOG.warning("model refused", extra={"model": entry.name, "version": entry.version, "reason": reason})
            self._publish(refused={**self.snapshot.refused, entry.name: refusal})
            return False
        self._put_in_service(loaded)
        return True

    def _load_fetched(self, source: Source, entry: Entry) -> Loaded:
        """A version as the registry has it; the cached copy while its artifacts are away or the disk takes no more."""
        try:
            with self._cache.new_folder() as folder:
                fetched = source.fetch(entry.name, entry.version, Path(folder, "package"))
                loaded = _load(entry, fetched)
                self._cache.adopt(entry, fetched)
                return loaded
        except (RegistryError, OSError):
            with contextlib.suppress(InputError):
                if entry in self._cache.entries():
                    return _load(entry, self._cache.directory(entry))
            raise

    def _registry_is_away(self, error: Exception) -> None:
        reason = _reason(error)
        if self.snapshot.registry != "away":
            _LOG.warning("the registry is away; serving what is loaded", extra={"reason": reason})
        starting = self.snapshot.registry == "starting"
        self._publish(registry="away", away_reason=reason)
        for entry in self._cache.entries() if starting else ():
            try:
                self._put_in_service(_load(entry, self._cache.directory(entry)))
            except Exception as broken:  # noqa: BLE001  a broken package must not stop the other models
                _LOG.warning("cached model cannot be loaded", extra={"model": entry.name, "reason": _reason(broken)})

    def _put_in_service(self, loaded: Loaded) -> None:
        name = loaded.entry.name
        refused = {key: value for key, value in self.snapshot.refused.items() if key != name}
        self._publish(loaded={**self.snapshot.loaded, name: loaded}, refused=refused)
        _LOG.info("model in service", extra={"model": name, "version": loaded.entry.version})

    def _keep(self, entries: Iterable[Entry]) -> None:
        try:
            self._cache.keep(entries)
        except OSError as error:
            _LOG.warning("the model cache cannot be written", extra={"reason": str(error)})

    def _publish(
        self,
        *,
        loaded: Mapping[str, Loaded] | None = None,
        refused: Mapping[str, Refusal] | None = None,
        registry: Literal["up", "away"] | None = None,
        away_reason: str = "",
        champions: frozenset[str] | None = None,
    ) -> None:
        now = self.snapshot
        self.snapshot = replace(
            now,
            loaded=now.loaded if loaded is None else loaded,
            refused=now.refused if refused is None else refused,
            registry=registry or now.registry,
            away_reason=away_reason if registry else now.away_reason,
            champions=now.champions if champions is None else champions,
        )
        self._on_change(self.snapshot)


def _reason(error: Exception) -> str:
    return (error.fact if isinstance(error, AlmenaraError) else f"{type(error).__name__}: {error}")[:500]


def _load(entry: Entry, directory: Path) -> Loaded:
    """Load a package, check that it is what the registry says, and run it once."""
    package = servable.load(directory)
    card, output = package.card, _OUTPUT_BY_ROLE[entry.role]
    if (card.task, card.role, card.asset) != (entry.task, entry.role, entry.asset):
        raise InputError(
            "package-card",
            f"The registry calls {entry.name} a {entry.task} {entry.role} of asset {entry.asset}, "
            f"its card a {card.task} {card.role} of asset {card.asset}.",
            "Register the model again.",
        )
    if output not in package.output_names:
        raise InputError(
            "package-graph",
            f"The graph of {entry.name} has no output {output!r}; it has {', '.join(package.output_names)}.",
            "Export and register the model again.",
        )
    if isinstance(card.input, BearingFeaturesInput):
        BearingFeatures.from_input(card.input)
    package.warm_up()
    ref = ModelRef(name=entry.name, version=entry.version, alias=entry.alias)
    return Loaded(entry, _model(package, ref), datetime.now(UTC))


def _model(package: servable.Package, ref: ModelRef) -> Model:
    if package.card.role == "novelty":
        return servable.NoveltyModel(package, ref)
    if package.card.task == "vibration":
        return servable.VibrationModel(package, ref)
    return servable.VisionModel(package, ref)


def _status(loaded: Loaded | None, refusal: Refusal | None) -> ModelStatus:
    refused = None
    if refusal is not None:
        refused = RefusedVersion(version=refusal.entry.version, reason=refusal.reason, at=refusal.at)
    if loaded is not None:
        entry = loaded.entry
        return ModelStatus(
            name=entry.name,
            task=entry.task,
            role=entry.role,
            version=entry.version,
            alias=entry.alias,
            asset=entry.asset,
            loaded_since=loaded.since,
            refused=refused,
        )
    assert refusal is not None  # noqa: S101  a row has one or the other
    entry = refusal.entry
    return ModelStatus(name=entry.name, task=entry.task, role=entry.role, refused=refused)
