"""The served API against its own OpenAPI document: whatever is sent, the answer is one that the document tells of.

ALMENARA_API_EXAMPLES raises the number of requests that are made up for each operation.
"""

from __future__ import annotations

import io
import json
import os
import wave
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from almenara.alarms.records import Report
from almenara.vision import images
from almenara_api.app import create_app
from tests.support.api import (
    cache_champions,
    faulty_signal,
    healthy_features,
    healthy_signal,
    reported,
    running_api,
)
from tests.support.packages import classifier_candidate, novelty_candidate, vision_candidate

EXAMPLES = int(os.environ.get("ALMENARA_API_EXAMPLES", "8"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
SOURCE, ASSET = "line-2/outflow", "pump-1"
ALARM = "0d3f8f5c-6a53-4c39-9c1e-2f6b1c1d7a11"
PATIENCE = 5  # seconds; of most requests, for most of what is made up is less than any answer takes
STREAM = "/v1/alarms/events"  # it never ends; test_api_alarm_events.py reads it

PICTURE = np.full((24, 32, 3), 90, dtype=np.uint8)
SIGNAL = healthy_signal(0, 6000)


def npy(signal: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, signal)
    return file.getvalue()


def wav(signal: np.ndarray) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(12_000)
        recording.writeframes((signal * 10_000).astype("<i2").tobytes())
    return file.getvalue()


BODIES = {
    "image/jpeg": images.encode_jpeg(PICTURE),
    "image/png": images.encode_png(PICTURE),
    "application/x-npy": npy(SIGNAL),
    "application/octet-stream": faulty_signal(1, 6000).astype("<f4").tobytes(),
    "audio/wav": wav(SIGNAL),
    "text/csv": b"g\n" + b"\n".join(b"%.6f" % each for each in SIGNAL),
}


def _alarm() -> Report:
    """One that a worker raised, so that there is a true alarm to ask for; it has the id that is asked for."""
    report = reported(SOURCE, datetime.now(UTC))
    assert report.alarm is not None
    alarm = report.alarm.model_copy(update={"id": ALARM})
    return Report(transition=report.transition.model_copy(update={"alarm_id": ALARM}), alarm=alarm)


def _document() -> dict[str, Any]:
    """The app's own, with examples that make most requests name a model, an alarm and a source that there are."""
    document = create_app().openapi()
    for path, operations in document["paths"].items():
        model = "darkness" if "/vision/" in path else "bearing"
        known = {
            "model": model,
            "name": "frame.jpg" if "alarm" in path else model,
            "alarm_id": ALARM,
            "asset": ASSET,
            "X-Request-Timeout": PATIENCE,
            "sampling_rate_hz": 12_000,
            "shaft_rpm": 1772,
            "bearing": "6205-2RS",
        }
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] in known:
                    parameter["example"] = known[parameter["name"]]
    return document


def _config() -> SchemathesisConfig:
    """Always the same requests."""
    known = {
        "models": ["darkness", "bearing"],
        "alarms": [ALARM],
        "sources": [SOURCE, ASSET],
        "patience": [PATIENCE],
        "rates": [12_000],
        "speeds": [1772],
        "bearings": ["6205-2RS"],
    }
    places = {
        "path.model": "models",
        "path.alarm_id": "alarms",
        "body.source": "sources",
        "query.source": "sources",
        "header.X-Request-Timeout": "patience",
        "query.sampling_rate_hz": "rates",
        "query.shaft_rpm": "speeds",
        "query.bearing": "bearings",
        "query.asset": "sources",
    }
    return SchemathesisConfig.from_dict(
        {
            "seed": 20260801,
            "checks": {"not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", 503]}},
            "dictionaries": {name: {"values": values} for name, values in known.items()},
            "parameters": {place: {"dictionary": name, "probability": 0.8} for place, name in places.items()},
        }
    )


for kind, valid in BODIES.items():
    schemathesis.openapi.media_type(kind, st.one_of(st.just(valid), st.binary(max_size=400)))
schema = schemathesis.openapi.from_dict(_document(), config=_config()).exclude(path=STREAM)
sent: Counter[tuple[str, int]] = Counter()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[str]:
    """Of a service with a model of each kind and an alarm; says at the end how much was asked."""
    var = tmp_path_factory.mktemp("openapi") / "var"
    cache_champions(var, [vision_candidate(), classifier_candidate(), novelty_candidate(healthy_features())])
    limits = {"ALMENARA_MAX_BODY_BYTES": "300000", "ALMENARA_VIBRATION_ON_DELAY_SECONDS": "0.1"}
    with running_api(var, limits) as api:
        body = {"origin": "worker-1", "reports": [_alarm().model_dump(mode="json")]}
        assert api.http.post("/v1/alarms/reports", json=body).json() == {"accepted": 1}
        yield str(api.http.base_url)
        lines = [json.loads(line) for line in api.log.read_text().split("\n") if line.startswith("{")]
        failed = [line for line in lines if line["level"] == "error"]
    statuses = sorted(Counter(status for _, status in sent.elements()).items())
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        line = f"{sent.total()} requests, answered {statuses}; none to {STREAM}, which streams without end"
        pytestconfig.get_terminal_writer().line(f"\n{line}")
    assert not failed, failed[:3]


@pytest.mark.slow
@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_every_answer_is_one_that_the_document_tells_of(case: schemathesis.Case[Any], address: str) -> None:
    response = case.call_and_validate(base_url=address, checks=CHECKS, timeout=30)
    sent[case.operation.label, response.status_code] += 1


def test_the_document_tells_what_every_route_of_its_kind_may_answer() -> None:
    for path, operations in create_app().openapi()["paths"].items():
        for method, operation in operations.items():
            told = operation["responses"]
            expected = {
                *(("404",) if "{" in path else ()),
                *(("413", "415", "422") if "requestBody" in operation else ()),
            }
            assert expected <= set(told), (method, path)
            for status in told:
                if status >= "400":
                    assert list(told[status]["content"]) == ["application/problem+json"], (method, path, status)
