"""Registered MLflow models that others made: loaded when they are listed by name, which runs their code."""

from __future__ import annotations

import io
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import orjson

from almenara.contracts import Contract, ModelRef
from almenara.errors import InputError
from almenara_api.cache import PyfuncCache, Version
from almenara_api.payloads import Payload, read_payload, require_bounded
from almenara_api.polling import Poll
from almenara_api.problems import Problem
from almenara_api.store import RefusedVersion

_LOG = logging.getLogger(__name__)
_RETRY_SECONDS = 60.0
"""Until a version that could not be loaded is tried again: a download may have failed."""


class ForeignSource(Protocol):
    """What is needed of a registry."""

    def foreign_champions(self) -> Mapping[str, tuple[str, int]]:
        """By name of the registered models that are not ours: champion version, and when the model was made, in ms."""

    def fetch(self, name: str, version: str, destination: Path, part: str) -> Path:
        """Download a part of a version, "" for all of it, into a new folder and return it."""


class PyfuncStatus(Contract):
    """A listed model as `/v1/models` tells of it; without a version it is not in service."""

    name: str
    version: str | None = None
    loaded_since: datetime | None = None
    refused: RefusedVersion | None = None


@dataclass(frozen=True)
class LoadedPyfunc:
    """A version in service."""

    entry: Version
    model: Any
    since: datetime

    @classmethod
    def load(cls, entry: Version, folder: Path) -> LoadedPyfunc:
        """Load a model's folder, which runs its code, and let it answer the input example that was logged with it.

        Raises:
            Exception: whatever the code raises; InputError, it fails on its example.
        """
        from mlflow import pyfunc

        loaded = cls(entry, pyfunc.load_model(str(folder)), datetime.now(UTC))
        loaded._self_test(folder)
        return loaded

    @property
    def ref(self) -> ModelRef:
        """As answers name it."""
        return ModelRef(name=self.entry.name, version=self.entry.version, alias="champion")

    def _self_test(self, folder: Path) -> None:
        example = self.model.metadata.get_serving_input(str(folder))
        try:
            payload = None if example is None else read_payload(example.encode())
        except InputError:  # a chat, say: what no request may hold proves nothing
            return
        try:
            if payload is not None:
                self.score(payload)
        except InputError as error:
            raise InputError(error.code, f"On its own input example: {error.fact}", error.remedy) from error

    def score(self, payload: Payload) -> bytes:
        """The answer to a payload, as MLflow's own scoring server reads and answers it.

        Raises:
            InputError: the payload does not fit the model's signature, or the model fails on it.
        """
        from mlflow.exceptions import MlflowException
        from mlflow.pyfunc.scoring_server import infer_and_parse_data, predictions_to_json

        require_bounded(payload)
        try:
            data = infer_and_parse_data({payload.form: payload.value}, self.model.metadata.get_input_schema())
            out = io.StringIO()
            predictions_to_json(self.model.predict(data, params=payload.params), out, {"model": self.ref.model_dump()})
        except MlflowException as error:
            reason = str(error).strip()[-400:]
            raise InputError(
                "payload-invalid",
                f"{self.ref.name} cannot take this payload: {reason}",
                "Send what its signature in the registry asks for.",
            ) from error
        except Exception as error:
            _LOG.warning("a model of others failed", extra={"model": self.ref.name}, exc_info=True)
            raise InputError(
                "prediction-failed",
                f"{self.ref.name} failed on this payload: {type(error).__name__}: {str(error)[:300]}",
                "Send what the model was made for; the log has the whole reason.",
            ) from error
        return orjson.dumps(json.loads(out.getvalue(), parse_constant=lambda _: None))  # JSON knows no NaN


class PyfuncModels(Poll):
    """Follows the champions of the listed names.

    Args:
        names: of registered models.
        open_source: connects to the registry; called in the background.
        cache: what is loaded, on disk.
        poll_seconds: between two questions to the registry.
    """

    def __init__(
        self, names: Sequence[str], open_source: Callable[[], ForeignSource], cache: PyfuncCache, poll_seconds: float
    ) -> None:
        super().__init__("pyfunc-models", self.refresh, poll_seconds)
        self.names = frozenset(names)
        self._cache = cache
        self._open_source = open_source
        self._source: ForeignSource | None = None
        self._loaded: dict[str, LoadedPyfunc] = {}
        self._refused: dict[str, tuple[RefusedVersion, float]] = {}
        self._asked = self._away = False

    @property
    def in_service(self) -> bool:
        """Whether any of them is."""
        return bool(self._loaded)

    def find(self, name: str) -> LoadedPyfunc:
        """The version in service under a listed name, else the Problem that says why there is none."""
        loaded, refused = self._loaded.get(name), self._refused.get(name)
        if loaded is not None:
            return loaded
        if refused is not None:
            raise Problem(
                503,
                "model-refused",
                f"Version {refused[0].version} of {name} is the champion and cannot be loaded: {refused[0].reason}",
                "Install the library that it names beside the service and start it again, or promote another version.",
            )
        if not self._asked:
            raise Problem(
                503,
                "models-loading",
                f"{name} is being loaded from the registry.",
                "Ask again in a few seconds.",
                headers={"Retry-After": "2"},
            )
        raise Problem(
            404,
            "model-unknown",
            f"The registry has no champion of {name!r}.",
            "Give a version the alias champion; a model with the tag almenara.task is served as one of ours.",
        )

    def statuses(self) -> list[PyfuncStatus]:
        """Every listed name."""
        rows = []
        for name in sorted(self.names):
            loaded, refused = self._loaded.get(name), self._refused.get(name)
            rows.append(
                PyfuncStatus(
                    name=name,
                    version=loaded.ref.version if loaded else None,
                    loaded_since=loaded.since if loaded else None,
                    refused=refused[0] if refused else None,
                )
            )
        return rows

    def refresh(self) -> None:
        """Ask the registry once and load what is new; what cannot be loaded leaves the old version serving."""
        try:
            source = self._source = self._source or self._open_source()
            champions = source.foreign_champions()
        except Exception as error:  # noqa: BLE001  however the registry fails, what is loaded serves on
            self._registry_is_away(error)
            return
        self._away = False
        for name in sorted(self.names):
            if name not in champions:
                self._loaded.pop(name, None)
                self._refused.pop(name, None)
                continue
            version, created_ms = champions[name]
            entry = Version(name=name, version=version, created_ms=created_ms)
            if self._is_news(entry):
                self._take(entry, source)
        self._asked = True
        kept = tuple(each.entry for each in self._loaded.values())
        if kept and set(kept) != set(self._cache.entries()):
            self._keep(kept)

    def _is_news(self, entry: Version) -> bool:
        loaded = self._loaded.get(entry.name)
        if loaded is not None and loaded.entry == entry:
            self._refused.pop(entry.name, None)
            return False
        refused = self._refused.get(entry.name)
        return refused is None or refused[0].version != entry.version or time.monotonic() - refused[1] > _RETRY_SECONDS

    def _take(self, entry: Version, source: ForeignSource | None) -> None:
        """Put a version in service, or say why it is not; without a source as it lies on disk."""
        folder = self._cache.directory(entry)
        try:
            if source is not None and not folder.is_dir():
                with self._cache.new_folder() as there:
                    self._cache.adopt(entry, source.fetch(entry.name, entry.version, Path(there, "model"), ""))
            loaded = LoadedPyfunc.load(entry, folder)
        except Exception as error:  # noqa: BLE001  whatever their code does, the others must be served
            reason = _told(error)
            _LOG.warning("model refused", extra={"model": entry.name, "version": entry.version, "reason": reason})
            refused = RefusedVersion(version=entry.version, reason=reason, at=datetime.now(UTC))
            self._refused[entry.name] = (refused, time.monotonic())
            if source is not None:
                shutil.rmtree(folder, ignore_errors=True)  # it may be that the download broke
            return
        self._loaded[entry.name] = loaded
        self._refused.pop(entry.name, None)
        _LOG.info("model in service", extra={"model": entry.name, "version": entry.version, "alias": "champion"})

    def _registry_is_away(self, error: Exception) -> None:
        if not self._away:
            _LOG.warning("the registry is away; models of others serve on", extra={"reason": _told(error)})
            for entry in () if self._asked else self._cache.entries():
                if entry.name in self.names:
                    self._take(entry, None)
        self._away = True

    def _keep(self, entries: Sequence[Version]) -> None:
        try:
            self._cache.keep(entries)
        except OSError as error:
            _LOG.warning("the model cache cannot be written", extra={"reason": str(error)})


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()}"[:500]
