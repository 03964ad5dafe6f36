"""The plant-wide record, as workers use it: they report what happened, and ask what people did here."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response

from almenara.alarms.records import Directives
from almenara_api import record
from almenara_api.alarm_bodies import NO_NUL, Accepted, Confirmation, Origin, Reports
from almenara_api.bodies import read_body
from almenara_api.problems import responses
from almenara_api.services import ServicesDependency

router = APIRouter(prefix="/v1/alarms", tags=["plant-wide record"])

Sha256 = Annotated[str, Header(alias="X-Content-SHA256", pattern=r"^[0-9a-f]{64}$")]


@router.post("/reports", summary="What happened at a worker", responses=responses(401, 413, 415, 422, 503))
async def report(services: ServicesDependency, body: Reports) -> Accepted:
    """Transitions are known by their key and alarms by their id: the same report again changes nothing."""
    return Accepted(accepted=await services.write(partial(record.merge, services.office.store, body.reports)))


@router.get("/directives", summary="What people did that a worker has to know", responses=responses(401, 422, 503))
async def directives(services: ServicesDependency, origin: Annotated[Origin, Query()]) -> Directives:
    """Acknowledgements, shelvings and the like until the worker confirms them; the silences; which evidence lacks.

    The evidence is looked for meanwhile and named at a later request, each alarm again only after a pause that grows.
    """
    return await services.alarms.run(partial(record.directives, services.office, services.wanted, origin))


@router.post(
    "/directives/confirm",
    status_code=204,
    summary="A worker has carried out directives",
    responses=responses(401, 413, 415, 422, 503),
)
async def confirm(services: ServicesDependency, body: Confirmation) -> None:
    """Ids that are unknown, of another worker, or confirmed already, are passed over."""
    await services.write(partial(services.office.store.confirm_directives, list(body.ids), body.origin))


@router.put(
    "/{alarm_id}/evidence/{name}",
    status_code=204,
    summary="Evidence of an alarm that a worker raised",
    responses=responses(401, 404, 408, 409, 413, 415, 422, 503),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def put_evidence(
    services: ServicesDependency,
    request: Request,
    alarm_id: Annotated[str, Path(max_length=36, pattern=NO_NUL)],
    name: Annotated[str, Path(max_length=100)],
    sha256: Sha256,
) -> Response:
    """At most 16 MiB; content, header and the alarm's own record agree on the hash, else 409 or 422."""
    content = await read_body(request, services.settings.request_timeout_seconds)
    record.check_content(content, sha256)
    keep = partial(record.keep, services.office, services.normals, alarm_id, name, content, sha256)
    await services.files.run(partial(services.office.committing, keep))
    return Response(status_code=204)
