"""Traces for an OpenTelemetry collector: a span for each request, and one for each of its stages.

Imported only when the standard variable OTEL_EXPORTER_OTLP_ENDPOINT names a collector; every other setting is a
standard OTEL_* variable too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from fastapi import FastAPI
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import Span, get_current_span

from almenara import __version__
from almenara_api.logs import set_trace_id
from almenara_api.metrics import Metrics

_LOG = logging.getLogger("almenara_api.tracing")
_UNTRACED = ",".join(rf"://[^/]+{path}$" for path in ("/(v2/)?health/(live|ready)", "/metrics", "/v1/alarms/events"))
_ADDRESSES = ("http.url", "http.target", "url.full")
_SECRETS = ["authorization", "cookie", "set-cookie", "x-api-key"]
_GOODBYE_SECONDS = 2.0


class _Exporter(OTLPSpanExporter):
    """Says once that the collector is away and once that it is back, instead of at every batch."""

    _away = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        away = result is not SpanExportResult.SUCCESS
        if away and not self._away:
            _LOG.warning("The collector of traces does not take them; the spans are dropped until it does.")
        elif self._away and not away:
            _LOG.info("The collector of traces takes them again.")
        self._away = away
        return result


class _Spans:
    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("almenara_api", __version__)

    def stage(self, task: str, stage: str, /) -> AbstractContextManager[object]:
        return self._tracer.start_as_current_span(
            stage,
            attributes={"almenara.task": task},
            record_exception=False,  # its text may quote the body
            set_status_on_exception=False,
        )

    def model(self, name: str, version: str, /) -> None:
        get_current_span().set_attributes({"almenara.model.name": name, "almenara.model.version": version})


def install(app: FastAPI, metrics: Metrics) -> Callable[[], None]:
    """Trace the requests of an app and their stages.

    Spans hold route, status and model, and neither bodies nor query strings nor keys. They are sent from a thread of
    their own, in batches; what its bounded queue cannot hold is dropped.

    Args:
        app: not started yet.
        metrics: whose stages become spans.

    Returns:
        What sends the last spans and ends the thread; it takes 2 s at most.
    """
    for chatty in ("opentelemetry.exporter", "opentelemetry.sdk"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)  # a line for each failure; the exporter's own are enough
    named = Resource.create({"service.name": "almenara-api", "service.version": __version__})
    provider = TracerProvider(resource=named.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_Exporter()))
    metrics.spans = _Spans(provider)
    FastAPIInstrumentor.instrument_app(
        app,
        server_request_hook=_begin,
        tracer_provider=provider,
        meter_provider=NoOpMeterProvider(),
        excluded_urls=_UNTRACED,
        http_capture_headers_sanitize_fields=_SECRETS,
        exclude_spans=["receive", "send"],
    )

    def close() -> None:
        last = threading.Thread(target=provider.shutdown, name="last-spans", daemon=True)
        last.start()
        last.join(_GOODBYE_SECONDS)

    return close


def _begin(span: Span, _: MutableMapping[str, Any]) -> None:
    """Name the trace in the log, and take the query from the span: it may hold a link's token or a person's name."""
    if not isinstance(span, ReadableSpan):
        return  # sampled out
    set_trace_id(f"{span.get_span_context().trace_id:032x}")
    kept = span.attributes or {}
    span.set_attributes({name: str(kept[name]).partition("?")[0] for name in _ADDRESSES if name in kept})
    if "url.query" in kept:
        span.set_attribute("url.query", "")
