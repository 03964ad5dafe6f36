"""The application: routes, middleware and lifetime put together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType

from fastapi import Depends, FastAPI
from starlette.middleware.cors import CORSMiddleware

from almenara import __version__
from almenara.api_keys import Scope
from almenara.errors import ConfigurationError, InputError
from almenara.settings import Settings
from almenara_api import problems
from almenara_api.access import Access
from almenara_api.metrics import Metrics
from almenara_api.middleware import BodyLimit, RequestContext
from almenara_api.routes import alarms, events, pages, platform, record, suppression, vibration, vision
from almenara_api.services import Services, require

_DESCRIPTION = """Industrial anomaly detection: post a picture or a vibration window, get a verdict that says what, how
sure, why, and which model version said it. Errors are problem+json (RFC 9457) with the fact and the remedy."""


def create_app(settings: Settings | None = None, access: Access | None = None) -> FastAPI:
    """The API on the given settings, else on those of the environment; it connects when it is started.

    `access` is who may use it, by default as the settings have it.

    Any ASGI server runs it: `uvicorn --factory almenara_api.app:create_app`.
    """
    chosen = settings or Settings()
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            services = await asyncio.to_thread(Services.start, chosen, metrics, app.state.stopping, access)
        except (ConfigurationError, InputError) as error:
            app.state.failure = error  # the server only says that the start failed
            raise
        app.state.services = services
        try:
            yield
        finally:
            await services.feed.close()
            await asyncio.to_thread(services.close)

    app = FastAPI(title="Almenara", version=__version__, description=_DESCRIPTION, lifespan=lifespan, redoc_url=None)
    app.state.stopping = lambda: False  # a server that can tell replaces it before the start, so that streams end
    problems.install(app)
    app.add_middleware(BodyLimit, max_bytes=chosen.max_body_bytes)
    if chosen.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=chosen.cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["X-API-Key", "X-Request-ID", "Content-Type", "Last-Event-ID"],
            expose_headers=["X-Request-ID", "Retry-After", "Link"],
        )
    app.add_middleware(RequestContext, metrics=metrics)
    scopes: tuple[tuple[Scope | None, tuple[ModuleType, ...]], ...] = (
        ("predict", (vision, vibration)),
        ("report", (record,)),
        ("operate", (events, suppression, alarms)),  # {alarm_id} would hide /events
        (None, (platform,)),
    )
    for scope, subjects in scopes:
        for subject in subjects:
            app.include_router(
                subject.router, dependencies=[Depends(require(scope))], responses=problems.responses(401, 403, 429)
            )
    for router in (alarms.linked_router, pages.router, platform.open_router):
        app.include_router(router)
    return app
