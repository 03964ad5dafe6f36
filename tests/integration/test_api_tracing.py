"""Traces of the served API, taken by a real OTLP receiver over HTTP; and none where no collector is named."""

from __future__ import annotations

import gzip
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from almenara.vision import images
from tests.support.api import (
    RunningApi,
    cache_champions,
    faulty_signal,
    healthy_features,
    running_api,
    wait_until,
)
from tests.support.broken_bodies import VALID, VISION, picture
from tests.support.packages import classifier_candidate, novelty_candidate, vision_candidate

JPEG = {"content-type": "image/jpeg"}
KEY = "a-key-that-nobody-may-read"
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100"}
"""Milliseconds between batches."""


class Collector:
    """What arrived: spans by name, and the raw bytes."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, str]] = []
        self.raw = b""
        self.url = ""

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        self.raw += body
        for each in request.resource_spans:
            self.resources.append({pair.key: pair.value.string_value for pair in each.resource.attributes})
            self.spans += [span for scope in each.scope_spans for span in scope.spans]

    def of_trace(self, trace_id: object) -> list[Span]:
        return [span for span in list(self.spans) if span.trace_id.hex() == trace_id]


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/traces"
            collector.take(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    collector.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningApi, Collector]]:
    var = tmp_path_factory.mktemp("traces") / "var"
    cache_champions(var, [vision_candidate(), classifier_candidate(), novelty_candidate(healthy_features())])
    with collecting() as collector:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "ALMENARA_API_KEY": KEY, **SOON}
        with running_api(var, settings) as api:
            api.http.headers["x-api-key"] = KEY
            yield api, collector


def attributes(span: Span) -> dict[str, str]:
    return {pair.key: pair.value.string_value or str(pair.value.int_value) for pair in span.attributes}


def trace_of(traced: tuple[RunningApi, Collector], request_id: str) -> list[Span]:
    """The spans of a request, its own first; its log line names the trace."""
    api, collector = traced

    def own() -> list[dict[str, object]]:
        return [line for line in api.lines() if (line["request_id"], line["message"]) == (request_id, "request")]

    wait_until(lambda: bool(own()), 20, api.log)  # it is written after the answer
    trace_id = own()[0]["trace_id"]
    wait_until(lambda: any(span.kind == Span.SPAN_KIND_SERVER for span in collector.of_trace(trace_id)), 20, api.log)
    return sorted(collector.of_trace(trace_id), key=lambda span: span.kind != Span.SPAN_KIND_SERVER)


def test_a_picture_has_a_span_and_its_stages_are_children(traced: tuple[RunningApi, Collector]) -> None:
    api, collector = traced
    answer = api.http.post(f"{VISION}?heatmap=png", content=VALID["image/jpeg"], headers=JPEG)
    assert answer.status_code == 200
    request, *stages = trace_of(traced, answer.headers["x-request-id"])
    assert request.name == "POST /v1/vision/{model}/predict"
    told = attributes(request)
    assert told["http.route"] == "/v1/vision/{model}/predict"
    assert told["http.status_code"] == "200"
    assert (told["almenara.model.name"], told["almenara.model.version"]) == ("darkness", "1")
    assert {"read", "decode", "inference", "render"} <= {span.name for span in stages}
    for span in stages:
        assert span.parent_span_id == request.span_id
        assert attributes(span) == {"almenara.task": "vision"}
        assert request.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
    assert collector.resources[0]["service.name"] == "almenara-api"


def test_a_window_of_an_asset_tells_its_stages_too(traced: tuple[RunningApi, Collector]) -> None:
    api, _ = traced
    known: dict[str, str | float] = {"sampling_rate_hz": 12_000, "shaft_rpm": 1772, "bearing": "6205-2RS"}
    raw = {"content-type": "application/octet-stream"}
    answer = api.http.post(
        "/v1/vibration/bearing/predict",
        content=faulty_signal(1).tobytes(),
        params={**known, "asset": "pump-1"},
        headers=raw,
    )
    assert answer.status_code == 200, answer.text
    request, *stages = trace_of(traced, answer.headers["x-request-id"])
    assert attributes(request)["almenara.model.name"] == "bearing"
    assert {"read", "decode", "inference", "alarm"} <= {span.name for span in stages}


def test_a_trace_that_the_client_began_is_continued(traced: tuple[RunningApi, Collector]) -> None:
    api, _ = traced
    theirs = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    answer = api.http.get("/v1/models", headers=theirs)
    request, *_ = trace_of(traced, answer.headers["x-request-id"])
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (theirs["traceparent"][3:35], "b7ad6b7169203331")


def test_bodies_queries_and_keys_are_in_no_span(traced: tuple[RunningApi, Collector]) -> None:
    api, collector = traced
    secrets = ["a-token-of-a-link", "maria-the-operator", "not-a-number-at-all"]
    addressed = api.http.get("/alarms", params={"token": secrets[0]})
    ended = api.http.delete("/v1/alarms/silences/none", params={"user": secrets[1]})
    refused = api.http.post("/v1/vibration/bearing/predict", json={"signal": [secrets[2]], "sampling_rate_hz": 12_000})
    assert (addressed.status_code, ended.status_code, refused.status_code) == (403, 404, 422)
    for answer in (addressed, ended, refused):
        trace_of(traced, answer.headers["x-request-id"])
    assert b"/v1/alarms/silences/none" in collector.raw
    for secret in (*secrets, KEY):
        assert secret.encode() not in collector.raw


def test_health_and_metrics_leave_no_span(traced: tuple[RunningApi, Collector]) -> None:
    api, collector = traced
    for path in ("/health/live", "/health/ready", "/metrics"):
        assert api.http.get(path).status_code == 200
    trace_of(traced, api.http.get("/v1/models").headers["x-request-id"])  # later, so theirs would be there
    assert not [span.name for span in collector.spans if "health" in span.name or "metrics" in span.name]


def test_bytes_that_are_no_text_in_an_address_fail_nothing(traced: tuple[RunningApi, Collector]) -> None:
    api, _ = traced
    place = (api.http.base_url.host, api.http.base_url.port or 80)
    for address in (
        b"/alarms?lang=%ff%fe",
        b"/alarms?lang=\xff\xfe",
        b"/v1/alarms/\xff\xfe",
        b"/alarms?" + b"x" * 20_000,
    ):
        with socket.create_connection(place, timeout=30) as connection:
            connection.sendall(b"GET " + address + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert b" 4" in connection.recv(100)[:12]


@pytest.mark.slow
def test_a_collector_that_is_away_delays_nothing_and_is_told_once(tmp_path: Path) -> None:
    var = tmp_path / "var"
    cache_champions(var, [vision_candidate()])
    with collecting() as gone:
        port = int(gone.url.rpartition(":")[2])
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": gone.url, "OTEL_EXPORTER_OTLP_TIMEOUT": "1", **SOON}
    file = images.encode_jpeg(images.decode(picture(".jpg"), max_pixels=10_000))
    with running_api(var, settings) as api:

        def told(part: str) -> list[object]:
            return [line["message"] for line in api.lines() if part in str(line["message"])]

        for _ in range(600):  # more than a batch
            assert api.http.post(VISION, content=file, headers=JPEG).status_code == 200
        wait_until(lambda: bool(told("does not take them")), 30, api.log)
        time.sleep(2.5)  # further batches fail meanwhile
        assert len(told("collector")) == 1
        assert not [line for line in api.lines() if str(line["logger"]).startswith("opentelemetry")]
        with collecting(port) as back:
            end = time.monotonic() + 30
            while not back.spans and time.monotonic() < end:
                api.http.get("/v1/models")
                time.sleep(0.2)
            assert back.spans
            wait_until(lambda: bool(told("takes them again")), 10, api.log)
        api.http.get("/v1/models")
    assert api.process.returncode == 0


@pytest.mark.slow
def test_without_a_collector_no_library_of_traces_is_loaded() -> None:
    script = "import sys, almenara_api.__main__ as m; m.create_app(); print('opentelemetry.sdk' in sys.modules)"
    for endpoint, loaded in ((None, "False"), ("http://127.0.0.1:9", "True")):
        named = {} if endpoint is None else {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
        run = subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, **named}, capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == loaded
