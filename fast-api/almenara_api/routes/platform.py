"""What is in service, and how the service itself is doing."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Field

from almenara.contracts import Contract
from almenara_api.problems import TYPE_PREFIX, responses
from almenara_api.pyfuncs import PyfuncStatus
from almenara_api.services import Services, ServicesDependency
from almenara_api.shadow import Comparison
from almenara_api.store import ModelStatus, RefusedVersion
from almenara_api.usage import Usage

router = APIRouter(prefix="/v1", tags=["platform"])
open_router = APIRouter(tags=["health"])


class Live(Contract):
    """The process answers."""

    status: Literal["live"] = "live"


class Challenger(Contract):
    """The version behind the alias `challenger`; its verdicts are compared, never answered."""

    version: str | None = None
    loaded_since: datetime | None = None
    refused: RefusedVersion | None = None
    comparison: Comparison | None = Field(default=None, description="null while it is not loaded")


class ModelRow(ModelStatus):
    """A model as `/v1/models` tells of it."""

    usage: Usage
    challenger: Challenger | None = Field(default=None, description="null while the registry names none")


class Missing(Contract):
    """Why no model is in service."""

    type: str = Field(description="stable, machine readable, as of problems")
    detail: str
    remedy: str = Field(description="how to get a model into service")


class Models(Contract):
    """What is in service, what was refused, and what is missing."""

    registry: Literal["up", "away", "starting"]
    models: tuple[ModelRow, ...]
    pyfunc: tuple[PyfuncStatus, ...] = Field(description="models of others, as ALMENARA_PYFUNC_MODELS lists them")
    missing: Missing | None = Field(description="null while a model is in service")


class Ready(Contract):
    """At least one model is in service."""

    status: Literal["ready"] = "ready"
    registry: Literal["up", "away", "starting"]
    models: tuple[ModelStatus, ...]


@router.get("/models", summary="What is in service, and what was refused", responses=responses(401))
async def models(services: ServicesDependency) -> Models:
    """Every model whose alias `champion` is set, by name; `refused` tells why a newer version is not served.

    An empty registry is a normal start: `missing` says how the first model is registered.
    """
    why = services.without_models()
    missing = None if why is None else Missing(type=TYPE_PREFIX + why.code, detail=why.fact, remedy=why.remedy)
    rows = tuple(
        ModelRow(
            **dict(status),
            usage=services.usage.of(status.name, status.version),
            challenger=_challenger(services, status.name),
        )
        for status in services.models.statuses()
    )
    return Models(
        registry=services.models.snapshot.registry,
        models=rows,
        pyfunc=tuple(services.pyfuncs.statuses()),
        missing=missing,
    )


def _challenger(services: Services, name: str) -> Challenger | None:
    snapshot = services.models.snapshot
    loaded, refusal = snapshot.challengers.get(name), snapshot.refused_challengers.get(name)
    if loaded is None and refusal is None:
        return None
    return Challenger(
        version=loaded.entry.version if loaded else None,
        loaded_since=loaded.since if loaded else None,
        refused=refusal.told if refusal else None,
        comparison=services.shadow.comparison(loaded) if loaded else None,
    )


@open_router.get("/health/live", summary="Does the process answer?")
async def live() -> Live:
    """Always 200."""
    return Live()


@open_router.get("/health/ready", summary="Is a model in service?", responses=responses(503), response_model=Ready)
async def ready(services: ServicesDependency) -> Ready:
    """200 with the models in service, else 503 with what is missing and how to get it."""
    missing = services.not_ready()
    if missing is not None:
        raise missing
    return Ready(registry=services.models.snapshot.registry, models=tuple(services.models.statuses()))


@open_router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(services: ServicesDependency) -> Response:
    """Prometheus exposition text."""
    return Response(services.metrics.render(), media_type=CONTENT_TYPE_LATEST)
