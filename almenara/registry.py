"""Registered models in MLflow: gate and register, promote, roll back, resolve and fetch."""

from __future__ import annotations

import getpass
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel

from almenara import gates, servable, tracking
from almenara.contracts import Candidate, ModelRef
from almenara.errors import RegistryError

CHAMPION = "champion"
HISTORY_TAG = "almenara.former_champions"  # of the registered model: versions, latest last
RUNTIME_REQUIREMENTS = ("numpy", "onnxruntime", "opencv-python-headless", "pydantic", "scipy")
# What a package needs to judge raw input where almenara is not installed; a test loads it in such a place.
RUNTIME_MODULES = (
    "__init__.py",
    "errors.py",
    "contracts.py",
    "calibration.py",
    "manifests.py",
    "servable.py",
    "vibration",
    "vision",
)
TRAINING_ONLY = shutil.ignore_patterns(
    "__pycache__",
    "train*",
    "evaluat*",
    "plots*",
    "simulate*",
    "scenes*",
    "models*",
    "novelty*",
    "backbones*",
    "normality*",
    "export*",
    "metrics*",
    "cwru*",
    "checkpoints*",
    "objects*",
    "textures*",
)


@dataclass(frozen=True)
class Served:
    """A registered model of ours with a version behind the alias.

    Attributes:
        created_ms: when the registry made the model, milliseconds since 1970; tells one that was made anew under an
            old name, whose versions count from 1 again.
    """

    name: str
    version: str
    alias: str
    task: str
    role: str
    asset: str | None
    created_ms: int = 0


@dataclass(frozen=True)
class Listed:
    """A row of `almenara models list`."""

    name: str
    task: str
    role: str
    asset: str | None
    champion: str | None
    created_ms: int = 0


class Registry:
    """The registered models behind one MLflow address.

    Every method raises RegistryError when the address does not answer or knows no such model.
    """

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri
        with tracking.registry_errors(tracking_uri):
            self._client: MlflowClient = tracking.connect(tracking_uri)

    @property
    def address(self) -> str:
        """Where the registry is, without a password."""
        return tracking.without_password(self.tracking_uri)

    def register(self, candidate: Candidate, experiment: str) -> ModelRef:
        """Run the export gates, log the run and register a new version; nothing is registered when a gate fails.

        Raises:
            GateError: which gate failed and by how much.
        """
        card = candidate.card
        self._require_same_kind(candidate)
        with tempfile.TemporaryDirectory() as folder:
            package = servable.write(candidate, Path(folder, "package"))
            measured = gates.check(candidate, package)
            with (
                tracking.run(
                    self.tracking_uri, experiment, f"train {card.name}", {"almenara.task": card.task}
                ) as run_id,
                tracking.registry_errors(self.tracking_uri),
            ):
                tracking.log_candidate(candidate)
                mlflow.log_metrics({f"gate.{key}": value for key, value in measured.items()})
                logged = mlflow.pyfunc.log_model(
                    name="model",
                    python_model=str(Path(__file__).with_name("pyfunc.py")),
                    artifacts={"package": str(package)},
                    code_paths=[str(_runtime_code(Path(folder, "almenara")))],
                    pip_requirements=[f"{name}=={installed_version(name)}" for name in RUNTIME_REQUIREMENTS],
                )
                self._ensure_model(card.name)
                made = self._client.create_model_version(
                    card.name, logged.model_uri, run_id, model_id=logged.model_id, await_creation_for=0
                )
                self._tag(candidate, str(made.version), run_id)
        return ModelRef(name=card.name, version=str(made.version))

    def promote(self, name: str, version: str, *, reason: str) -> ModelRef:
        """Put the champion alias on a version; who, when and why are tags of that version."""
        with tracking.registry_errors(self.tracking_uri):
            before = self._champion(name)
            if version not in (known := self.versions(name)):
                raise RegistryError(f"{name} has no version {version}.", f"There are: {', '.join(known) or 'none'}.")
            if before != version:
                if before is not None:
                    self._remember(name, [*self._history(name), before])
                self._client.set_registered_model_alias(name, CHAMPION, version)
            for key, value in {"promoted_by": _user(), "promoted_at": _now(), "reason": reason}.items():
                self._client.set_model_version_tag(name, version, f"almenara.{key}", value)
        return ModelRef(name=name, version=version, alias=CHAMPION)

    def rollback(self, name: str, *, reason: str) -> ModelRef:
        """Give the alias back to the champion before this one."""
        with tracking.registry_errors(self.tracking_uri):
            current, history = self._champion(name), self._history(name)
            if current is None or not history:
                raise RegistryError(
                    f"{name} has no champion before version {current or '(none)'} to roll back to.",
                    f"Promote a version by hand: almenara models promote {name} VERSION --reason …",
                )
            previous = history.pop()
            self._client.set_registered_model_alias(name, CHAMPION, previous)
            self._remember(name, history)
            self._client.set_model_version_tag(name, current, "almenara.rolled_back", f"{_now()} {_user()}: {reason}")
        return ModelRef(name=name, version=previous, alias=CHAMPION)

    def served(self) -> list[Served]:
        """Our registered models that have a champion, in one request a hundred models."""
        return [
            Served(row.name, row.champion, CHAMPION, row.task, row.role, row.asset, row.created_ms)
            for row in self.models()
            if row.champion is not None
        ]

    def models(self) -> list[Listed]:
        """Every registered model that carries the tag `almenara.task`."""
        with tracking.registry_errors(self.tracking_uri):
            return [
                Listed(
                    name=model.name,
                    task=model.tags["almenara.task"],
                    role=model.tags.get("almenara.role", ""),
                    asset=model.tags.get("almenara.asset"),
                    champion=_text(model.aliases.get(CHAMPION)),
                    created_ms=model.creation_timestamp or 0,
                )
                for model in self._registered()
                if "almenara.task" in model.tags
            ]

    def champion(self, name: str) -> ModelRef:
        """The version behind the champion alias."""
        with tracking.registry_errors(self.tracking_uri):
            version = self._champion(name)
        if version is None:
            raise RegistryError(
                f"{name} has no champion.", f"Promote one: almenara models promote {name} VERSION --reason …"
            )
        return ModelRef(name=name, version=version, alias=CHAMPION)

    def versions(self, name: str) -> list[str]:
        """Every version of a model, oldest first."""
        with tracking.registry_errors(self.tracking_uri):
            found = self._client.search_model_versions(f"name = '{name}'")
        return sorted((str(version.version) for version in found), key=int)

    def fetch(self, name: str, version: str, destination: Path) -> Path:
        """Download a version's package (card and graph; no model code is loaded) into a new folder and return it."""
        with tracking.registry_errors(self.tracking_uri), tempfile.TemporaryDirectory() as folder:
            tracking.connect(self.tracking_uri)
            found = mlflow.artifacts.download_artifacts(f"models:/{name}/{version}/artifacts/package", dst_path=folder)
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(found, destination, dirs_exist_ok=True)
        return destination

    def _registered(self) -> Iterator[RegisteredModel]:
        token: str | None = None
        while True:
            page = self._client.search_registered_models(max_results=100, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _champion(self, name: str) -> str | None:
        return _text(self._client.get_registered_model(name).aliases.get(CHAMPION))

    def _history(self, name: str) -> list[str]:
        """Former champions, latest last; a rollback takes the last one away."""
        return str(self._client.get_registered_model(name).tags.get(HISTORY_TAG, "")).split()

    def _remember(self, name: str, history: list[str]) -> None:
        self._client.set_registered_model_tag(name, HISTORY_TAG, " ".join(history[-50:]))

    def _require_same_kind(self, candidate: Candidate) -> None:
        """A name keeps its task, role and asset: another kind of model under it would break what is served."""
        card = candidate.card
        for model in self.models():
            if model.name == card.name and (model.task, model.role, model.asset) != (card.task, card.role, card.asset):
                known = f"a {model.task} {model.role}" + (f" of {model.asset}" if model.asset else "")
                wanted = f"a {card.task} {card.role}" + (f" of {card.asset}" if card.asset else "")
                raise RegistryError(f"{card.name} is {known}; {wanted} needs another name.", "Choose one with --name.")

    def _ensure_model(self, name: str) -> None:
        if not self._client.search_registered_models(filter_string=f"name = '{name}'"):
            self._client.create_registered_model(name)

    def _tag(self, candidate: Candidate, version: str, run_id: str) -> None:
        card = candidate.card
        tags = {"task": card.task, "role": card.role, **({"asset": card.asset} if card.asset else {})}
        for key, value in tags.items():
            self._client.set_registered_model_tag(card.name, f"almenara.{key}", value)
        self._client.set_model_version_tag(card.name, version, "almenara.run_id", run_id)


def _runtime_code(destination: Path) -> Path:
    """Copy the modules that a package needs to judge raw input, and nothing else of ours."""
    source = Path(__file__).parent
    destination.mkdir()
    for name in RUNTIME_MODULES:
        if (source / name).is_dir():
            shutil.copytree(source / name, destination / name, ignore=TRAINING_ONLY)
        else:
            shutil.copy2(source / name, destination / name)
    return destination


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run a user id without a name; Python before 3.13 says KeyError
        return "unknown"
