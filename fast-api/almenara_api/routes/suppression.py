"""When nobody is told of a source: shelving, service, silences."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query

from almenara.alarms import AlarmStore, Phase
from almenara.alarms.records import Silence, SourceStatus
from almenara_api.alarm_bodies import NO_NUL, AboutSource, Name, NewSilence, Shelving
from almenara_api.problems import responses
from almenara_api.services import Services, ServicesDependency

router = APIRouter(prefix="/v1/alarms", tags=["alarms"])

_ERRORS = responses(401, 404, 413, 415, 422, 503)
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@router.post("/shelve", summary="Tell nobody of a source for a while", responses=_ERRORS)
async def shelve(services: ServicesDependency, body: Shelving) -> SourceStatus:
    """The source is judged as before and what happens is logged; an alarm that still stands afterwards is told then."""
    return await _act(
        services, body, lambda store: store.shelve(body.source, body.user, body.seconds, comment=body.comment)
    )


@router.post("/unshelve", summary="Tell of a source again", responses=_ERRORS)
async def unshelve(services: ServicesDependency, body: AboutSource) -> SourceStatus:
    """Ends a shelving before its time."""
    return await _act(services, body, lambda store: store.unshelve(body.source, body.user, comment=body.comment))


@router.post("/out-of-service", summary="Stop judging a source", responses=_ERRORS)
async def remove_from_service(services: ServicesDependency, body: AboutSource) -> SourceStatus:
    """Its readings change nothing until somebody returns it to service."""
    return await _act(
        services, body, lambda store: store.remove_from_service(body.source, body.user, comment=body.comment)
    )


@router.post("/in-service", summary="Judge a source again", responses=_ERRORS)
async def return_to_service(services: ServicesDependency, body: AboutSource) -> SourceStatus:
    """It is unknown until its next reading."""
    return await _act(
        services, body, lambda store: store.return_to_service(body.source, body.user, comment=body.comment)
    )


@router.get("/silences", summary="Silences in force now or later", responses=responses(401, 503))
async def silences(services: ServicesDependency) -> list[Silence]:
    """By their start."""
    return await services.alarms.run(services.office.store.silences)


@router.post(
    "/silences", summary="Tell nobody of some sources for a planned time", responses=responses(401, 413, 415, 422, 503)
)
async def silence(services: ServicesDependency, body: NewSilence) -> Silence:
    """Alarms are raised and logged; what still stands when it ends is told then."""
    return await services.write(partial(services.office.store.silence, body.silence()))


@router.delete(
    "/silences/{silence_id}", summary="End a silence before its time", responses=responses(401, 404, 422, 503)
)
async def end_silence(
    services: ServicesDependency,
    silence_id: Annotated[str, Path(max_length=36, pattern=NO_NUL)],
    user: Annotated[Name, Query(description="who ends it")],
) -> Silence:
    """Ending one that is over changes nothing."""
    return await services.write(partial(services.office.store.end_silence, silence_id, user))


async def _act(services: Services, body: AboutSource, action: Callable[[AlarmStore], Phase]) -> SourceStatus:
    """Where the source that was acted on stands: this service's, else of several workers' the one that changed last."""
    store = services.office.store

    def act() -> SourceStatus:
        action(store)
        named = [status for status in store.sources() if status.source == body.source]
        return max(named, key=lambda status: (not status.origin, status.since or _LONG_AGO))

    return await services.write(act)
