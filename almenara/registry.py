"""Registered models in MLflow: gate and register, promote, roll back, resolve and fetch."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel
from pydantic import ValidationError

from almenara import comparison, gates, runtime_code, servable, tracking
from almenara.contracts import Candidate, Card, ModelRef
from almenara.errors import InputError, RegistryError
from almenara.history import Change, changes, now, require_reason, user

CHAMPION = "champion"
CHALLENGER = "challenger"
HISTORY_TAG = "almenara.former_champions"  # of the registered model: versions, latest last


class CardError(RegistryError):
    """The card of a version is gone or cannot be read, though the registry answers."""


@dataclass(frozen=True)
class Served:
    """A registered model of ours with a version behind the alias.

    Attributes:
        created_ms: when the registry made the model, milliseconds since 1970; tells one that was made anew under an
            old name, whose versions count from 1 again.
        challenger: the version behind that alias, when it is another one; it judges in the champion's shadow.
    """

    name: str
    version: str
    alias: str
    task: str
    role: str
    asset: str | None
    created_ms: int = 0
    challenger: str | None = None


@dataclass(frozen=True)
class Listed:
    """A row of `almenara models list`."""

    name: str
    task: str
    role: str
    asset: str | None
    champion: str | None
    created_ms: int = 0
    challenger: str | None = None


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

    def register(self, candidate: Candidate, experiment: str, *, work: str = "train") -> ModelRef:
        """Run the export gates, log the run and register a new version; nothing is registered when a gate fails.

        Args:
            candidate: what to register.
            experiment: MLflow experiment of the run.
            work: what was done, the first word of the run's name.

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
                    self.tracking_uri, experiment, f"{work} {card.name}", {"almenara.task": card.task}
                ) as run_id,
                tracking.registry_errors(self.tracking_uri),
            ):
                tracking.log_candidate(candidate)
                mlflow.log_metrics({f"gate.{key}": value for key, value in measured.items()})
                logged = mlflow.pyfunc.log_model(
                    name="model",
                    python_model=str(Path(__file__).with_name("pyfunc.py")),
                    artifacts={"package": str(package)},
                    code_paths=[str(runtime_code.copy(Path(folder, "almenara")))],
                    pip_requirements=runtime_code.requirements(),
                )
                self._ensure_model(card.name)
                made = self._client.create_model_version(
                    card.name, logged.model_uri, run_id, model_id=logged.model_id, await_creation_for=0
                )
                self._tag(candidate, str(made.version), run_id)
        return ModelRef(name=card.name, version=str(made.version))

    def promote(self, name: str, version: str, *, reason: str, force: bool = False) -> ModelRef:
        """Put the champion alias on a version that is not worse than the champion; who, when and why are its tags.

        The first champion of a name is compared with nothing. A challenger that is promoted is no challenger any more.

        Raises:
            PromotionError: the version is worse than the champion, or cannot be compared with it, and `force` is
                not set; with it, what stood against it becomes the version's tag `almenara.forced`.
            InputError: no reason was given, or one of more than 1,000 characters.
        """
        require_reason(reason)
        with tracking.registry_errors(self.tracking_uri):
            before = self._champion(name)
            self._require_version(name, version)
            objection = None if before in (None, version) else self._objection(name, before, version)
            if objection is not None and not force:
                raise objection
            if objection is not None:
                self._client.set_model_version_tag(name, version, "almenara.forced", objection.fact)
            elif before != version:
                self._client.delete_model_version_tag(name, version, "almenara.forced")
            for key, value in {"promoted_by": user(), "promoted_at": now(), "reason": reason}.items():
                self._client.set_model_version_tag(name, version, f"almenara.{key}", value)
            history = self._history(name)
            if before not in (None, version) and history[-1:] != [before]:
                self._remember(name, [*history, before])
            self._crown(name, version)
        return ModelRef(name=name, version=version, alias=CHAMPION)

    def challenge(self, name: str, version: str) -> ModelRef:
        """Put the challenger alias on a version, which the API runs beside the champion without telling its verdicts.

        Raises:
            InputError: it is the champion.
        """
        with tracking.registry_errors(self.tracking_uri):
            self._require_version(name, version)
            if version == self._champion(name):
                raise InputError(
                    "challenger-is-champion",
                    f"Version {version} is the champion of {name} and cannot challenge itself.",
                    f"Name another of its versions: {', '.join(self.versions(name))}.",
                )
            self._client.set_registered_model_alias(name, CHALLENGER, version)
            self._note(name, version, "challenged")
        return ModelRef(name=name, version=version, alias=CHALLENGER)

    def withdraw(self, name: str) -> str | None:
        """Take the challenger alias away and return the version that had it, None when there was none."""
        with tracking.registry_errors(self.tracking_uri):
            version = self._aliases(name).get(CHALLENGER)
            if version is not None:
                self._client.delete_registered_model_alias(name, CHALLENGER)
                self._note(name, version, "withdrawn")
        return version

    def rollback(self, name: str, *, reason: str) -> ModelRef:
        """Give the alias back to the champion before this one; versions that were deleted since are passed over."""
        require_reason(reason)
        with tracking.registry_errors(self.tracking_uri):
            known = self.versions(name)
            current, history = self._champion(name), [each for each in self._history(name) if each in known]
            while history and history[-1] == current:
                history.pop()
            if current is None or not history:
                raise RegistryError(
                    f"{name} has no champion before version {current or '(none)'} to roll back to.",
                    f"Promote a version by hand: almenara models promote {name} VERSION --reason …",
                )
            previous = history[-1]
            self._note(name, current, "rolled_back", reason)
            self._note(name, previous, "restored", reason)
            self._remember(name, history)
            self._crown(name, previous)
        return ModelRef(name=name, version=previous, alias=CHAMPION)

    def compare(self, name: str, a: str | None = None, b: str | None = None) -> comparison.Comparison:
        """Two versions side by side by what their cards say.

        Args:
            name: registered name.
            a: a version; the champion when None.
            b: another one; the newest that is not `a` when None.

        Raises:
            InputError: there is nothing to compare with.
        """
        known = self.versions(name)
        first = a or self.champion(name).version
        second = b or next((each for each in reversed(known) if each != first), first)
        if first == second:
            raise InputError(
                "nothing-to-compare",
                f"Version {first} of {name} is compared with itself.",
                f"Name two of its versions; there are: {', '.join(known)}.",
            )
        return comparison.compare(self._evaluated(name, first), self._evaluated(name, second))

    def history(self, name: str) -> list[Change]:
        """What happened to the aliases of a name, oldest first, as the tags of its versions tell."""
        with tracking.registry_errors(self.tracking_uri):
            found = self._client.search_model_versions(f"name = '{name}'")
        told = [change for each in found for change in changes(str(each.version), each.tags)]
        return sorted(told, key=lambda change: (change.at, int(change.version)))

    def served(self) -> list[Served]:
        """Our registered models that have a champion, with their challengers, in one request a hundred models."""
        return [
            Served(
                name=row.name,
                version=row.champion,
                alias=CHAMPION,
                task=row.task,
                role=row.role,
                asset=row.asset,
                created_ms=row.created_ms,
                challenger=None if row.challenger == row.champion else row.challenger,
            )
            for row in self.models()
            if row.champion is not None
        ]

    def foreign_champions(self) -> dict[str, tuple[str, int]]:
        """By name of the registered models that are not ours: champion version, and when the model was made, in ms."""
        with tracking.registry_errors(self.tracking_uri):
            return {
                model.name: (str(model.aliases[CHAMPION]), model.creation_timestamp or 0)
                for model in self._registered()
                if "almenara.task" not in model.tags and CHAMPION in model.aliases
            }

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
                    challenger=_text(model.aliases.get(CHALLENGER)),
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

    def card(self, name: str, version: str) -> Card:
        """The card of a version; its graph is not downloaded.

        Raises:
            CardError: it is gone or cannot be read.
        """
        self._require_version(name, version)
        package = f"models:/{name}/{version}/artifacts/package"
        try:
            with tracking.registry_errors(self.tracking_uri), tempfile.TemporaryDirectory() as folder:
                tracking.connect(self.tracking_uri)
                card = mlflow.artifacts.download_artifacts(f"{package}/{servable.CARD_FILE}", dst_path=folder)
                found = Path(card).read_bytes()
        except RegistryError as error:
            if not _gone(error) and self._holds_card(package):
                raise
            gone = f"The card of {name} version {version} is gone from the registry."
            raise CardError(gone, "Register the model again.") from error
        try:
            return Card.model_validate_json(found)
        except ValidationError as error:
            raise CardError(
                f"The card of {name} version {version} cannot be read: {error.errors()[0]['msg']}.",
                "A newer Almenara wrote it, or it was edited: upgrade almenara or register the model again.",
            ) from error

    def fetch(self, name: str, version: str, destination: Path, part: str = "artifacts/package") -> Path:
        """Download a version's package, or all of it (part ""), into a new folder and return it; no code is loaded."""
        with tracking.registry_errors(self.tracking_uri), tempfile.TemporaryDirectory() as folder:
            tracking.connect(self.tracking_uri)
            found = mlflow.artifacts.download_artifacts(f"models:/{name}/{version}/{part}", dst_path=folder)
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

    def _aliases(self, name: str) -> dict[str, str]:
        """Alias -> version."""
        return {alias: str(version) for alias, version in self._client.get_registered_model(name).aliases.items()}

    def _champion(self, name: str) -> str | None:
        return self._aliases(name).get(CHAMPION)

    def _crown(self, name: str, version: str) -> None:
        if self._aliases(name).get(CHALLENGER) == version:
            self._client.delete_registered_model_alias(name, CHALLENGER)
        self._client.set_registered_model_alias(name, CHAMPION, version)

    def _note(self, name: str, version: str, change: str, reason: str = "") -> None:
        self._client.set_model_version_tag(name, version, f"almenara.{change}", f"{now()} {user()}: {reason}")

    def _evaluated(self, name: str, version: str) -> comparison.Evaluated:
        card = self.card(name, version)
        with tracking.registry_errors(self.tracking_uri):
            run_id = self._client.get_model_version(name, version).run_id
            return comparison.Evaluated(version, card, self._client.get_run(run_id).data.params)

    def _objection(self, name: str, champion: str, version: str) -> comparison.PromotionError | None:
        try:
            return comparison.objection(self.compare(name, champion, version))
        except RegistryError as error:
            if not (isinstance(error, CardError) or _gone(error)):
                raise
            return comparison.unreadable(name, champion, version, error)  # files that are gone keep no champion

    def _holds_card(self, package: str) -> bool:
        with tracking.registry_errors(self.tracking_uri):
            listed = mlflow.artifacts.list_artifacts(artifact_uri=package)
        return any(Path(each.path).name == servable.CARD_FILE for each in listed)

    def _require_version(self, name: str, version: str) -> None:
        if version not in (known := self.versions(name)):
            raise RegistryError(f"{name} has no version {version}.", f"There are: {', '.join(known) or 'none'}.")

    def _history(self, name: str) -> list[str]:
        """Former champions, latest last; after a rollback that is the champion, and passed over by the next."""
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
                raise RegistryError(
                    f"{card.name} is {known}; {wanted} needs another name.",
                    "Choose one with --name, or in the card that is imported.",
                )

    def _ensure_model(self, name: str) -> None:
        if not self._client.search_registered_models(filter_string=f"name = '{name}'"):
            self._client.create_registered_model(name)

    def _tag(self, candidate: Candidate, version: str, run_id: str) -> None:
        card = candidate.card
        tags = {"task": card.task, "role": card.role, **({"asset": card.asset} if card.asset else {})}
        for key, value in tags.items():
            self._client.set_registered_model_tag(card.name, f"almenara.{key}", value)
        self._client.set_model_version_tag(card.name, version, "almenara.run_id", run_id)


def _gone(error: RegistryError) -> bool:
    """Whether the registry answered that it holds no such thing."""
    return getattr(error.__cause__, "error_code", "") == "RESOURCE_DOES_NOT_EXIST"


def _text(value: object) -> str | None:
    return None if value is None else str(value)
