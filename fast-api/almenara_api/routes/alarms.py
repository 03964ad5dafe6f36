"""The alarms: which there are, what happened to them, their evidence, and what people say of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from almenara.alarms import AlarmRecord, Phase, Priority, Transition
from almenara.alarms.kpi import Kpi
from almenara.alarms.queries import AlarmFilter
from almenara.alarms.records import SourceStatus
from almenara.contracts import AlarmKind
from almenara.errors import InputError
from almenara_api import judging
from almenara_api.alarm_bodies import NO_NUL, Acknowledgement, Moment, Reset
from almenara_api.problems import responses
from almenara_api.services import ServicesDependency, require_key_or_link

router = APIRouter(prefix="/v1/alarms", tags=["alarms"])
linked_router = APIRouter(prefix="/v1/alarms", tags=["alarms"])
"""What a signed link opens too."""

AlarmId = Annotated[str, Path(max_length=36, pattern=NO_NUL, description="UUID of the alarm")]
_ACTED = responses(401, 404, 409, 413, 415, 422, 503)
_SHOWN = frozenset({"image/jpeg", "image/png", "application/json"})


@router.get("", summary="The alarms, newest first", responses=responses(401, 404, 422, 503))
async def alarms(
    services: ServicesDependency,
    request: Request,
    response: Response,
    source: Annotated[str | None, Query(max_length=200, pattern=NO_NUL, description="glob, such as line-2/*")] = None,
    kind: AlarmKind | None = None,
    phase: Annotated[tuple[Phase, ...], Query(max_length=len(Phase))] = (),
    priority: Priority | None = None,
    standing: Annotated[bool | None, Query(description="true: still open; false: over")] = None,
    since: Annotated[Moment | None, Query(description="raised at or after")] = None,
    until: Annotated[Moment | None, Query(description="raised before")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[
        str | None, Query(max_length=36, pattern=NO_NUL, description="alarms after this one in the list")
    ] = None,
) -> list[AlarmRecord]:
    """Those of the assets, and those that workers report. When there are more, the header `Link` leads to them."""
    chosen = AlarmFilter(
        source=source, kind=kind, phases=phase, priority=priority, standing=standing, since=since, until=until
    )
    found = await services.alarms.run(partial(services.office.store.alarms, chosen, limit=limit + 1, before=before))
    if len(found) > limit:
        query = [pair for pair in request.query_params.multi_items() if pair[0] != "before"]
        after = urlencode([*query, ("before", found[limit - 1].id)])
        response.headers["Link"] = f'<{request.url.path}?{after}>; rel="next"'
    return found[:limit]


@router.get("/sources", summary="Where every source stands", responses=responses(401, 503))
async def sources(services: ServicesDependency) -> list[SourceStatus]:
    """Cameras and assets of this service and of every worker, by name."""
    return await services.alarms.run(services.office.store.sources)


@router.get("/kpi", summary="How the alarms are doing", responses=responses(401, 422, 503))
async def kpi(
    services: ServicesDependency,
    hours: Annotated[float, Query(gt=0, le=judging.MOST_HOURS, description="until now")] = 24,
    operators: Annotated[int, Query(ge=1, le=1000, description="people who look after the alarms")] = 1,
    since: Annotated[Moment | None, Query(description="instead of hours")] = None,
    until: Annotated[Moment | None, Query(description="by default now")] = None,
) -> Kpi:
    """Figures of alarm management after ISA-18.2 and EEMUA 191: load per operator, floods, chatter, worst sources."""
    end = (until or datetime.now(UTC)).astimezone(UTC)
    begin = end - timedelta(hours=hours) if since is None else since.astimezone(UTC)
    if not timedelta(0) < end - begin <= timedelta(hours=judging.MOST_HOURS):
        raise InputError("kpi-time", "since is not before until, or more than 31 days.", "Ask for a shorter time.")
    return await services.figures.run(partial(judging.figures, services.office.store, begin, end, operators))


@router.get("/{alarm_id}", summary="One alarm", responses=responses(401, 404, 422, 503))
async def alarm(services: ServicesDependency, alarm_id: AlarmId) -> AlarmRecord:
    """As it stands now."""
    return await services.alarms.run(partial(services.office.store.alarm, alarm_id))


@router.get("/{alarm_id}/history", summary="What happened to an alarm", responses=responses(401, 404, 422, 503))
async def history(
    services: ServicesDependency, alarm_id: AlarmId, limit: Annotated[int, Query(ge=1, le=1000)] = 1000
) -> list[Transition]:
    """Its newest transitions, oldest first."""
    return await services.alarms.run(partial(services.office.store.history, alarm_id, limit=limit))


_FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file", "content": {"image/jpeg": {}, "application/octet-stream": {}}}
}


@linked_router.get(
    "/{alarm_id}/evidence/{name}",
    summary="One file of an alarm's evidence",
    response_class=Response,
    dependencies=[Depends(require_key_or_link)],
    responses=responses(401, 403, 404, 422, 429, 503) | _FILE,
)
async def evidence(
    services: ServicesDependency, alarm_id: AlarmId, name: Annotated[str, Path(max_length=100)]
) -> Response:
    """Opened with the API's key, or by a link of a message, which holds for seven days."""
    file, content = await services.files.run(partial(judging.read_evidence, services.office, alarm_id, name))
    kind = file.media_type if file.media_type in _SHOWN else "application/octet-stream"
    headers = {
        "Cache-Control": "private, max-age=86400",
        "Content-Security-Policy": "sandbox",
        "ETag": f'"{file.sha256}"',
        "X-Content-Type-Options": "nosniff",
    }
    return Response(content, media_type=kind, headers=headers)


@router.post("/{alarm_id}/acknowledge", summary="Somebody has seen it", responses=_ACTED)
async def acknowledge(services: ServicesDependency, alarm_id: AlarmId, body: Acknowledgement) -> AlarmRecord:
    """Acknowledging twice changes nothing but the verdict; the last one counts."""
    seen = await services.write(
        partial(services.office.store.acknowledge, alarm_id, body.user, body.comment, verdict=body.verdict)
    )
    if body.verdict is not None:
        await services.files.run(partial(judging.sort_normal, services.office, services.normals, seen))
    return seen


@router.post("/{alarm_id}/reset", summary="End a latched alarm", responses=_ACTED)
async def reset(services: ServicesDependency, alarm_id: AlarmId, body: Reset) -> AlarmRecord:
    """Only an alarm that has returned and was acknowledged can be reset."""
    return await services.write(partial(services.office.store.reset, alarm_id, body.user, body.comment))
