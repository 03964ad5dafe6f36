"""What the routes share: made once at start, found by every request, closed at the end."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Annotated, TypeVar

from fastapi import Depends, Path, Query, Request, Security
from fastapi.security import APIKeyHeader

from almenara import servable
from almenara.alarms.channels.opening import load_checked
from almenara.alarms.config import AlarmsConfig
from almenara.alarms.links import Links, Sign
from almenara.alarms.messages import LANGUAGES, Pages
from almenara.alarms.office import AlarmOffice
from almenara.api_keys import Scope
from almenara.contracts import Task
from almenara.errors import ConfigurationError
from almenara.settings import Settings
from almenara_api.access import Access, name_of
from almenara_api.assets import AssetWatch
from almenara_api.cache import ModelCache, PyfuncCache
from almenara_api.feed import ChangeFeed, newest
from almenara_api.inference import InferencePool
from almenara_api.loading import Loaded
from almenara_api.metrics import Metrics
from almenara_api.pools import AlarmPool
from almenara_api.problems import Problem, shutting_down
from almenara_api.pyfuncs import PyfuncModels
from almenara_api.record import Wanted
from almenara_api.shadow import Shadow
from almenara_api.store import ModelStore, Snapshot
from almenara_api.usage import UsageCount
from almenara_api.watch import AlarmWatch

if TYPE_CHECKING:
    from almenara.registry import Registry

_HOW_TO_REGISTER = (
    "Train one and it is promoted when it passes its gates: `almenara train vision --data FOLDER` or "
    "`almenara train vibration --data FOLDER`; or promote a version: `almenara models promote NAME VERSION --reason …`."
)
_API_KEY = APIKeyHeader(name="X-API-Key", auto_error=False, description="needed when the service has keys")
OfferedKey = Annotated[str | None, Security(_API_KEY)]

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Services:
    """Everything behind the routes."""

    settings: Settings
    access: Access
    metrics: Metrics
    models: ModelStore
    pyfuncs: PyfuncModels
    shadow: Shadow
    pool: InferencePool
    office: AlarmOffice
    assets: AssetWatch
    alarms: AlarmPool
    figures: AlarmPool
    files: AlarmPool
    feed: ChangeFeed
    wanted: Wanted
    watch: AlarmWatch
    usage: UsageCount
    pages: Mapping[str, Pages]
    stopping: Callable[[], bool]

    @classmethod
    def start(
        cls,
        settings: Settings,
        metrics: Metrics,
        stopping: Callable[[], bool] = lambda: False,
        access: Access | None = None,
    ) -> Services:
        """Open the alarm database and begin to follow the registry.

        Args:
            settings: of the service.
            metrics: its instruments.
            stopping: whether the server is about to end.
            access: who may use it; by default as the settings have it.

        Raises:
            ConfigurationError: the alarm database, alarms.yaml, the file of keys or the var directory cannot be used.
        """
        access = access or Access(settings)
        office = open_office(settings)
        patience = settings.request_timeout_seconds
        alarms = AlarmPool(patience)
        feed = ChangeFeed(
            lambda after, limit: alarms.run(partial(office.store.changes_after, after, limit)),
            lambda: alarms.run(partial(newest, office.store.changes_after)),
            stopping,
        )
        models = ModelStore(
            lambda: _open_registry(settings.tracking_uri),
            ModelCache(settings.model_cache_dir, settings.tracking_uri),
            settings.model_poll_seconds,
            on_change=metrics.show_models,
        )
        pool = InferencePool(settings.max_queue, settings.request_timeout_seconds, metrics)
        assets = AssetWatch(office, settings, metrics)
        services = cls(
            settings,
            access,
            metrics,
            models,
            PyfuncModels(
                settings.pyfunc_models,
                lambda: _open_registry(settings.tracking_uri),
                PyfuncCache(settings.model_cache_dir / ".pyfunc", settings.tracking_uri),
                settings.model_poll_seconds,
            ),
            Shadow(
                lambda: models.snapshot.challengers,
                lambda: metrics.jobs_in_flight() < (os.cpu_count() or 1),
                metrics.shadow,
            ),
            pool,
            office,
            assets,
            alarms,
            figures=AlarmPool(patience, name="figures", waits_for="the figures", workers=1, max_queue=4),
            files=AlarmPool(patience, name="evidence", waits_for="the evidence", workers=2, max_queue=16),
            feed=feed,
            wanted=Wanted(office.store, office.evidence),
            watch=AlarmWatch(office, settings.var_dir.resolve(), metrics.alarms),
            usage=UsageCount(),
            pages=_open_pages(office.config),
            stopping=stopping,
        )
        services.models.start()
        if settings.pyfunc_models:
            services.pyfuncs.start()
        services.shadow.start()
        services.wanted.start()
        services.office.start()
        services.assets.start()
        services.watch.start()
        return services

    def close(self) -> None:
        """Stop every thread; jobs that run end first."""
        self.models.stop()
        self.pyfuncs.stop()
        self.shadow.close()
        self.pool.close()
        self.wanted.close()
        self.watch.close()
        self.assets.close()
        for alarm_pool in (self.figures, self.files, self.alarms):
            alarm_pool.close()
        self.office.close()

    @property
    def normals(self) -> FilePath:
        """Folder of the confirmed normals."""
        return self.settings.confirmed_normal_dir

    async def write(self, call: Callable[[], _Result]) -> _Result:
        """Make a call that writes to the alarm database, which a full disk must not prevent."""
        return await self.alarms.run(partial(self.office.committing, call))

    def vision_model(self, name: str) -> servable.VisionModel:
        """The vision model in service under a name, else the Problem that says why there is none."""
        model = self._loaded(name, "vision").model
        if isinstance(model, servable.VisionModel):
            return model
        raise _wrong_task(name, "vision")

    def vibration_model(self, name: str) -> servable.VibrationModel:
        """The bearing classifier in service under a name, else the Problem that says why there is none."""
        model = self._loaded(name, "vibration").model
        if isinstance(model, servable.VibrationModel):
            return model
        raise _wrong_task(name, "vibration")

    def baseline(self, asset: str | None, classifier: str) -> servable.NoveltyModel | None:
        """The asset's commissioned baseline.

        Of several the one that was trained beside the classifier, ``CLASSIFIER-baseline-…``, else the first by name.
        """
        loaded = self.models.snapshot.loaded
        own = f"{classifier}-baseline-"
        names = sorted(loaded, key=lambda name: (not name.startswith(own), name))
        for name in names if asset is not None else ():
            model = loaded[name].model
            if isinstance(model, servable.NoveltyModel) and loaded[name].entry.asset == asset:
                return model
        return None

    def not_ready(self) -> Problem | None:
        """Why no more requests should be sent here, or None while they should."""
        return shutting_down() if self.stopping() else self.without_models()

    def without_models(self) -> Problem | None:
        """Why no model is in service, or None when there is one."""
        snapshot = self.models.snapshot
        return None if snapshot.loaded or self.pyfuncs.in_service else _nothing_loaded(snapshot)

    def loaded(self, name: str) -> Loaded:
        """What is in service under a name, whatever it judges, else the Problem that says why there is nothing."""
        return self._loaded(name, None)

    def _loaded(self, name: str, task: Task | None) -> Loaded:
        snapshot = self.models.snapshot
        if name in snapshot.loaded:
            found = snapshot.loaded[name]
            self.metrics.spans.model(name, found.entry.version)
            return found
        if name in snapshot.refused:
            refusal = snapshot.refused[name]
            raise Problem(
                503,
                "model-refused",
                f"Version {refusal.entry.version} of {name} is the champion and cannot be served: {refusal.reason}",
                f"Register it again, or go back: almenara models rollback {name}.",
            )
        if name in snapshot.loading:
            raise _models_loading()
        if snapshot.registry == "up" and not snapshot.champions:
            raise _no_champion(404)  # nothing that the client can wait for
        if not snapshot.loaded and snapshot.registry != "up":
            raise _nothing_loaded(snapshot)
        there = sorted(
            name
            for name, found in snapshot.loaded.items()
            if task is None or (found.entry.task == task and found.entry.role != "novelty")
        )
        raise Problem(
            404,
            "model-unknown",
            f"No model named {name!r} is in service.",
            f"The {task or 'registered'} models in service: {', '.join(there) or 'none'}.",
        )


async def find_services(request: Request) -> Services:
    """The services of the running app; a coroutine, since FastAPI calls anything else in a thread."""
    services: Services = request.app.state.services
    return services


ServicesDependency = Annotated[Services, Depends(find_services)]
ModelName = Annotated[str, Path(alias="model", max_length=100, description="registered model name")]


def open_office(settings: Settings) -> AlarmOffice:
    """The office of this service's alarms; its links are signed when there is a key.

    Raises:
        ConfigurationError: the alarm database, alarms.yaml or the var directory cannot be used.
    """
    links = _links(settings)
    try:
        return AlarmOffice(
            settings.alarms_database_url,
            settings.var_dir.resolve(),
            config=load_checked(settings.alarms_file),
            token=None if links is None else links.sign,
        )
    except OSError as error:
        raise ConfigurationError(
            f"{settings.var_dir.resolve()} cannot be written: {error.strerror}.",
            "Correct its rights, or set ALMENARA_VAR_DIR.",
        ) from error


def require(scope: Scope | None) -> Callable[..., Awaitable[None]]:
    """A dependency that refuses a request without a key of that scope, where keys are needed; None: any key will do."""

    async def admit(request: Request, services: ServicesDependency, key: OfferedKey = None) -> None:
        _admit(request, services, key, scope)

    return admit


def _admit(request: Request, services: Services, key: str | None, scope: Scope | None) -> None:
    """Admit a request; the log names who was refused, too."""
    caller = services.access.identify(key)
    request.state.caller, request.state.key = caller, name_of(caller)
    services.access.admit(caller, scope)


async def require_key_or_link(
    request: Request,
    services: ServicesDependency,
    key: OfferedKey = None,
    token: Annotated[str | None, Query(max_length=100, description="of a signed link")] = None,
) -> Sign | None:
    """As `require("operate")`, but a link that was signed for the path opens it too.

    Returns what signs links for the answer, which end with the link that opened it; None when no link needs a token.
    """
    links = _links(services.settings)
    if links is None or token is None:
        _admit(request, services, key, "operate")
        return None if links is None else links.sign
    if not links.valid(request.url.path, token):
        raise Problem(
            403,
            "link-invalid",
            "The link is not valid for this address, or its seven days are over.",
            "Take the link of a newer message, or open the alarm with the API's key.",
        )
    return partial(links.pass_on, token)


def _links(settings: Settings) -> Links | None:
    return None if settings.api_key is None else Links(settings.api_key.get_secret_value())


def _open_pages(config: AlarmsConfig) -> Mapping[str, Pages]:
    """By language, that of alarms.yaml first."""
    return {language: Pages(language, time_zone=config.time_zone) for language in (config.language, *LANGUAGES)}


def _open_registry(tracking_uri: str) -> Registry:
    """The registry; imported in the store's own thread because MLflow takes seconds.

    The next poll is the retry, so MLflow's own retries are off whatever the parent process prefers for itself.
    """
    os.environ.update({"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"})
    from almenara.registry import Registry

    return Registry(tracking_uri)


def _nothing_loaded(snapshot: Snapshot) -> Problem:
    if snapshot.refused:
        reasons = "; ".join(
            f"{each.entry.name} {each.entry.version}: {each.reason}" for each in snapshot.refused.values()
        )
        return Problem(
            503, "model-refused", f"No champion can be served. {reasons}", "Register the model again, or roll back."
        )
    if snapshot.registry == "starting":
        return _models_loading()
    if snapshot.registry == "away":
        return Problem(
            503,
            "registry-away",
            f"No model is in service, and the registry cannot be asked: {snapshot.away_reason}",
            "Start the registry, or correct MLFLOW_TRACKING_URI; nothing was cached from it before.",
            headers={"Retry-After": "5"},
        )
    return _models_loading() if snapshot.loading else _no_champion(503)


def _models_loading() -> Problem:
    return Problem(
        503,
        "models-loading",
        "The models are being loaded from the registry.",
        "Ask again in a few seconds.",
        headers={"Retry-After": "2"},
    )


def _no_champion(status: int) -> Problem:
    return Problem(status, "no-champion", "No registered model has the alias champion.", _HOW_TO_REGISTER)


def _wrong_task(name: str, task: Task) -> Problem:
    return Problem(
        409,
        "model-task",
        f"{name} is no model that judges single {task} inputs.",
        "GET /v1/models lists task and role of each: vision models answer at /v1/vision/NAME/predict, bearing "
        "classifiers at /v1/vibration/NAME/predict, and a baseline is used by naming its asset, ?asset=NAME.",
    )
