"""The application: routes, middleware and lifetime put together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import ModuleType

from fastapi import Depends, FastAPI
from starlette.middleware.cors import CORSMiddleware

from almenara import __version__
from almenara.api_keys import Scope
from almenara.errors import ConfigurationError, InputError
from almenara.settings import Settings
from almenara_api import documentation, problems
from almenara_api.access import Access
from almenara_api.metrics import Metrics
from almenara_api.middleware import BodyLimit, RequestContext
from almenara_api.patience import keep_deadline
from almenara_api.routes import (
    alarms,
    assets,
    events,
    pages,
    platform,
    record,
    scoring,
    suppression,
    v2,
    vibration,
    vision,
    webhooks,
)
from almenara_api.services import Services, require
from almenara_api.tensors import HEADER_LENGTH

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
            await asyncio.to_thread(end_traces)

    app = FastAPI(
        title="Almenara",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    # A server that can tell replaces them before the start: streams end once it stops, and then nothing new is begun.
    app.state.stopping = app.state.refusing = lambda: False
    problems.install(app)
    app.add_middleware(BodyLimit, max_bytes=chosen.max_body_bytes)
    app.add_middleware(
        RequestContext,
        metrics=metrics,
        refusing=lambda: app.state.refusing(),  # noqa: PLW0108  as it is then
        busy=lambda: app.state.services.pool.refusal(),  # noqa: PLW0108  made at the start
    )
    if chosen.cors_origins:  # around the context, whose own answers need the headers, too
        app.add_middleware(
            CORSMiddleware,
            allow_origins=chosen.cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=[
                "X-API-Key",
                "X-Request-ID",
                "Content-Type",
                "Last-Event-ID",
                "Idempotency-Key",
                "X-Request-Timeout",
                HEADER_LENGTH,
            ],
            expose_headers=["X-Request-ID", "Retry-After", "Link", "Idempotent-Replayed", HEADER_LENGTH],
        )
    end_traces = _traces(app, metrics)
    scopes: tuple[tuple[Scope | None, tuple[ModuleType, ...]], ...] = (
        ("predict", (vision, vibration, scoring)),
        ("report", (record,)),
        ("operate", (events, suppression, alarms, assets)),  # {alarm_id} would hide /events
        (None, (platform,)),
    )
    deadline = Depends(keep_deadline(chosen.request_timeout_seconds))
    for scope, subjects in scopes:
        needs = [Depends(require(scope)), *([deadline] if scope == "predict" else [])]
        for subject in subjects:
            app.include_router(subject.router, dependencies=needs, responses=problems.responses(401, 403, 429))
    app.include_router(v2.infer_router, dependencies=[Depends(require("predict")), deadline])
    app.include_router(v2.router, dependencies=[Depends(require(None))])
    for router in (alarms.linked_router, pages.router, platform.open_router, webhooks.open_router, v2.open_router):
        app.include_router(router)
    documentation.install(app)
    return app


def _traces(app: FastAPI, metrics: Metrics) -> Callable[[], None]:
    """Trace the requests when a collector is named; what sends the last of them."""
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return lambda: None
    from almenara_api import tracing  # half a second of libraries

    return tracing.install(app, metrics)
