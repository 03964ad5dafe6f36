"""Every error is problem+json with a stable type, its fact and its remedy."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import FastAPI, Query
from httpx import ASGITransport, AsyncClient, Response

from almenara.errors import InputError
from almenara.settings import Settings
from almenara_api import problems
from almenara_api.app import create_app
from almenara_api.metrics import Metrics
from almenara_api.middleware import BodyLimit, RequestContext

Client = Callable[..., Response]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def client(metrics: Metrics) -> Client:
    app = FastAPI()
    problems.install(app)
    app.add_middleware(BodyLimit, max_bytes=100)
    app.add_middleware(RequestContext, metrics=metrics, refusing=lambda: False, busy=lambda: None)

    @app.get("/bad")
    async def bad() -> None:
        raise InputError("image-truncated", "The JPEG ends early.", "Send all of it.")

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("secret path /etc/almenara")

    @app.get("/number")
    async def number(value: Annotated[int, Query(ge=1)]) -> int:
        return value

    async def call(method: str, path: str, headers: dict[str, str]) -> Response:
        async with AsyncClient(transport=ASGITransport(app), base_url="http://almenara") as http:
            return await http.request(method, path, headers=headers)

    return lambda path, method="GET", **headers: asyncio.run(call(method, path, headers))


def test_an_input_error_becomes_a_problem_with_fact_and_remedy(client: Client) -> None:
    answer = client("/bad", **{"X-Request-ID": "abc-1"})
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "urn:almenara:problem:image-truncated",
        "title": "Image truncated",
        "status": 400,
        "detail": "The JPEG ends early.",
        "remedy": "Send all of it.",
        "instance": "urn:almenara:request:abc-1",
    }


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("body-too-large", 413),
        ("image-too-large", 413),
        ("recording-too-long", 413),
        ("image-type", 415),
        ("recording-type", 415),
        ("image-empty", 400),
        ("window-not-finite", 422),
        ("unknown-bearing", 422),
        ("a-code-of-tomorrow", 422),
        ("package-graph", 500),
        ("card-uncalibrated", 500),
    ],
)
def test_the_code_decides_the_status(code: str, status: int) -> None:
    assert problems.problem_of(InputError(code, "fact")).status == status


def test_an_unexpected_exception_tells_the_client_nothing_and_the_log_everything(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = client("/broken")
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:almenara:problem:internal-error"
    assert "secret" not in answer.text
    assert "secret path" in caplog.text


@pytest.mark.parametrize(("refusing", "code"), [(False, "internal-error"), (True, "shutting-down")])
def test_a_page_of_an_allowed_origin_reads_what_no_route_answered(tmp_path: Path, refusing: bool, code: str) -> None:
    origin = "https://panel.example"
    app = create_app(Settings(var_dir=tmp_path, cors_origins=(origin,)))
    app.state.refusing = lambda: refusing

    async def ask() -> Response:
        async with AsyncClient(transport=ASGITransport(app), base_url="http://almenara") as http:
            return await http.get("/v1/models", headers={"Origin": origin})  # never started: it has no services

    answer = asyncio.run(ask())
    assert answer.json()["type"] == f"urn:almenara:problem:{code}"
    assert answer.headers["access-control-allow-origin"] == origin
    assert "X-Request-ID" in answer.headers["access-control-expose-headers"]


def test_a_wrong_parameter_names_the_parameter_and_what_came(client: Client) -> None:
    problem = client("/number?value=0").json()
    assert problem["type"] == "urn:almenara:problem:parameters-invalid"
    assert "query.value" in problem["detail"]
    assert "'0'" in problem["detail"]


@pytest.mark.parametrize(
    ("method", "path", "code"), [("GET", "/nowhere", "not-found"), ("POST", "/bad", "method-not-allowed")]
)
def test_a_wrong_route_is_a_problem_too(client: Client, method: str, path: str, code: str) -> None:
    assert client(path, method).json()["type"] == f"urn:almenara:problem:{code}"


def test_an_unfit_request_id_is_replaced(client: Client) -> None:
    given = client("/number?value=1", **{"X-Request-ID": 'a b"{}'}).headers["x-request-id"]
    assert len(given) == 32
    assert given.isalnum()


def test_problems_are_counted_by_code_and_requests_by_route(client: Client, metrics: Metrics) -> None:
    client("/bad")
    client("/number?value=3")
    text = metrics.render().decode()
    assert 'almenara_problems_total{code="image-truncated"} 1.0' in text
    assert 'almenara_requests_total{method="GET",route="/number",status="200"} 1.0' in text
