"""Pages for people: what the links of messages open in a browser. They only show."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import HTMLResponse

from almenara.alarms.links import Sign
from almenara.alarms.messages import Pages
from almenara.alarms.queries import AlarmFilter
from almenara_api.problems import responses
from almenara_api.routes.alarms import AlarmId
from almenara_api.services import ServicesDependency, require_key_or_link

router = APIRouter(prefix="/alarms", tags=["pages"])

_HISTORY, _STANDING = 100, 200
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'",
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "X-Content-Type-Options": "nosniff",
}


def _pages(
    services: ServicesDependency,
    lang: Annotated[Literal["en", "es"] | None, Query(description="else as Accept-Language says")] = None,
    accept_language: Annotated[str, Header()] = "",
) -> Pages:
    return services.pages[lang or preferred(accept_language, tuple(services.pages))]


@router.get(
    "",
    summary="The alarms that stand, as a page",
    response_class=HTMLResponse,
    responses=responses(401, 403, 422, 429, 503),
)
async def standing(
    services: ServicesDependency,
    pages: Annotated[Pages, Depends(_pages)],
    sign: Annotated[Sign | None, Depends(require_key_or_link)],
) -> HTMLResponse:
    """The newest 200."""
    chosen = AlarmFilter(standing=True)
    found = await services.alarms.run(partial(services.office.store.alarms, chosen, limit=_STANDING + 1))
    shown = pages.standing(found[:_STANDING], datetime.now(UTC), sign, more=len(found) > _STANDING)
    return HTMLResponse(shown, headers=_HEADERS)


@router.get(
    "/{alarm_id}",
    summary="One alarm, as a page",
    response_class=HTMLResponse,
    responses=responses(401, 403, 404, 422, 429, 503),
)
async def alarm(
    services: ServicesDependency,
    alarm_id: AlarmId,
    pages: Annotated[Pages, Depends(_pages)],
    sign: Annotated[Sign | None, Depends(require_key_or_link)],
) -> HTMLResponse:
    """As it stands now, with its pictures and its newest 100 transitions."""
    store = services.office.store
    found = await services.alarms.run(partial(store.alarm, alarm_id))
    history = await services.alarms.run(partial(store.history, alarm_id, limit=_HISTORY))
    return HTMLResponse(pages.alarm(found, history, datetime.now(UTC), sign), headers=_HEADERS)


def preferred(accepted: str, languages: Sequence[str]) -> str:
    """The language that an Accept-Language header wants most, else the first."""

    def weight(language: str) -> float:
        ranges = (each.replace(" ", "").lower().partition(";q=") for each in accepted.split(","))
        return max((_number(q) for name, _, q in ranges if name.partition("-")[0] == language), default=0.0)

    return max(languages, key=weight)


def _number(q: str) -> float:
    try:
        return float(q or 1)
    except ValueError:
        return 0.0
