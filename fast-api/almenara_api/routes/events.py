"""The stream of everything that happens to alarms."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from almenara.alarms.records import Report
from almenara_api.feed import Change
from almenara_api.problems import responses
from almenara_api.services import ServicesDependency

router = APIRouter(prefix="/v1/alarms", tags=["alarms"])

RECONNECT_MILLISECONDS = 2000


async def _subscribe(
    services: ServicesDependency,
    last_event_id: Annotated[
        int | None, Header(ge=0, le=2**63 - 1, description="resume after this event; by default from now on")
    ] = None,
) -> AsyncIterator[AsyncIterator[Change | None]]:
    """Before the answer begins, so that a refusal is a problem and not a broken stream."""
    async with services.feed.subscribe(last_event_id) as changes:
        yield changes


@router.get(
    "/events",
    response_class=EventSourceResponse,
    summary="What happens to alarms, as server-sent events",
    responses=responses(401, 422, 503)
    | {200: {"description": "`id` is the cursor, `event` the change, `data` a report", "model": Report}},
)
async def events(
    request: Request,
    services: ServicesDependency,
    changes: Annotated[AsyncIterator[Change | None], Depends(_subscribe)],
) -> AsyncIterator[ServerSentEvent]:
    """Every transition, in order; send `Last-Event-ID` to resume without a gap.

    The stream ends with a comment when the client does not keep up: connect again with the last id. An event may come
    twice after that; `data.transition.key` tells. A comment comes at least every 15 s. Nothing more comes once the key
    is revoked or over.
    """
    yield ServerSentEvent(comment="listening", retry=RECONNECT_MILLISECONDS)
    async for change in changes:
        if not services.access.holds(request.state.caller):
            yield ServerSentEvent(comment="the key is not good any more")
            return
        if change is None:
            yield ServerSentEvent(comment="too slow: connect again with Last-Event-ID")
            return
        number, report = change
        yield ServerSentEvent(id=str(number), event=report.transition.change, data=report)
