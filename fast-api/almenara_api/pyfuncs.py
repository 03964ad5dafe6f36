"""Registered MLflow models that others made: loaded when they are listed by name, which runs their code."""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson

from almenara.contracts import Contract, ModelRef
from almenara.errors import InputError
from almenara_api.payloads import Payload, require_bounded
from almenara_api.polling import Poll
from almenara_api.problems import Problem
from almenara_api.store import RefusedVersion

_LOG = logging.getLogger(__name__)
_RETRY_SECONDS = 60.0
"""Until a version that could not be loaded is tried again: a download may have failed."""


class ForeignSource(Protocol):
    """What is needed of a registry."""

    def foreign_champions(self) -> Mapping[str, str]:
        """Name and champion version of the registered models that are not ours."""


class PyfuncStatus(Contract):
    """A listed model as `/v1/models` tells of it; without a version it is not in service."""

    name: str
    version: str | None = None
    loaded_since: datetime | None = None
    refused: RefusedVersion | None = None


@dataclass(frozen=True)
class LoadedPyfunc:
    """A version in service."""

    ref: ModelRef
    model: Any
    since: datetime

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
        poll_seconds: between two questions to it.
    """

    def __init__(self, names: Sequence[str], open_source: Callable[[], ForeignSource], poll_seconds: float) -> None:
        super().__init__("pyfunc-models", self.refresh, poll_seconds)
        self.names = frozenset(names)
        self._open_source = open_source
        self._source: ForeignSource | None = None
        self._loaded: dict[str, LoadedPyfunc] = {}
        self._refused: dict[str, tuple[RefusedVersion, float]] = {}
        self._asked = False

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
        source = self._source = self._source or self._open_source()
        champions = source.foreign_champions()
        for name in sorted(self.names):
            version = champions.get(name)
            if version is None:
                self._loaded.pop(name, None)
                self._refused.pop(name, None)
            elif self._is_news(name, version):
                self._take(name, version)
        self._asked = True

    def _is_news(self, name: str, version: str) -> bool:
        loaded = self._loaded.get(name)
        if loaded is not None and loaded.ref.version == version:
            self._refused.pop(name, None)
            return False
        refused = self._refused.get(name)
        return refused is None or refused[0].version != version or time.monotonic() - refused[1] > _RETRY_SECONDS

    def _take(self, name: str, version: str) -> None:
        try:
            from mlflow import pyfunc

            model = pyfunc.load_model(f"models:/{name}/{version}")
        except Exception as error:  # noqa: BLE001  whatever their code does, the others must be served
            reason = f"{type(error).__name__}: {str(error).strip()}"[:500]
            _LOG.warning("model refused", extra={"model": name, "version": version, "reason": reason})
            refused = RefusedVersion(version=version, reason=reason, at=datetime.now(UTC))
            self._refused[name] = (refused, time.monotonic())
            return
        self._loaded[name] = LoadedPyfunc(
            ModelRef(name=name, version=version, alias="champion"), model, datetime.now(UTC)
        )
        self._refused.pop(name, None)
        _LOG.info("model in service", extra={"model": name, "version": version, "alias": "champion"})
