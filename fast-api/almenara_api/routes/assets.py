"""The assets whose vibration was judged, and how each has changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response

from almenara.contracts import Reading
from almenara_api.alarm_bodies import NO_NUL, Moment
from almenara_api.problems import responses
from almenara_api.services import ServicesDependency
from almenara_api.trend import Asset

router = APIRouter(prefix="/v1/assets", tags=["assets"])

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@router.get("", summary="The assets whose vibration was judged", responses=responses(401, 422, 503))
async def assets(
    services: ServicesDependency,
    request: Request,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str, Query(max_length=200, pattern=NO_NUL, description="assets after this name")] = "",
) -> list[Asset]:
    """By name, each with its channels. When there are more, the header `Link` leads to them."""
    found = await services.alarms.run(partial(services.assets.trend.assets, after=after, limit=limit + 1))
    if len(found) > limit:
        _link(request, response, "after", found[limit - 1].asset)
    return found[:limit]


@router.get("/{asset:path}/trend", summary="An asset's verdicts, newest first", responses=responses(401, 404, 422, 503))
async def trend(
    services: ServicesDependency,
    request: Request,
    response: Response,
    asset: Annotated[str, Path(max_length=200, pattern=NO_NUL, description="as posted; a / in it may be %2F")],
    channel: Annotated[
        str | None, Query(max_length=100, pattern=NO_NUL, description="of one sensor; empty: of those without a name")
    ] = None,
    since: Annotated[Moment | None, Query(description="measured at or after")] = None,
    until: Annotated[Moment | None, Query(description="measured before")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[
        str | None, Query(pattern=r"^\d{1,17}-\d{1,18}$", description="place in the list, as the header Link has it")
    ] = None,
) -> list[Reading]:
    """The one measured last comes first; none for an asset that is not known. The header `Link` leads to older ones."""
    read = partial(
        services.assets.trend.readings,
        asset,
        channel=channel,
        since=since,
        until=until,
        before=None if before is None else _place(before),
        limit=limit + 1,
    )
    found = await services.alarms.run(read)
    if len(found) > limit:
        last = found[limit - 1]
        _link(request, response, "before", f"{(last.measured_at - _EPOCH) // _MICROSECOND}-{last.id}")
    return found[:limit]


def _place(text: str) -> tuple[datetime, int]:
    microseconds, number = map(int, text.split("-"))
    return _EPOCH + microseconds * _MICROSECOND, number


def _link(request: Request, response: Response, name: str, value: str) -> None:
    query = [pair for pair in request.query_params.multi_items() if pair[0] != name]
    more = urlencode([*query, (name, value)])
    response.headers["Link"] = f'<{request.scope["raw_path"].decode()}?{more}>; rel="next"'
