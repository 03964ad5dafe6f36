"""The served API over HTTP, started from its disk cache: models, limits of every route, what it tells of itself."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.api import RunningApi, healthy_signal, wait_until
from tests.support.posting import (
    DARK_JPEG,
    GOOD_JPEG,
    JPEG,
    VISION,
    full_service,
    post_picture,
    post_window,
    problem_of,
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    with full_service(tmp_path_factory.mktemp("api") / "var") as running:
        yield running


def test_models_tell_how_often_and_how_soon_they_answered(api: RunningApi) -> None:
    def usage(name: str) -> dict[str, Any]:
        [row] = [row for row in api.http.get("/v1/models").json()["models"] if row["name"] == name]
        return dict(row["usage"])

    before = usage("darkness")["requests"]
    post_picture(api, GOOD_JPEG)
    post_picture(api, b"no picture")
    after = usage("darkness")
    assert after["requests"] == before + 1
    assert 0 < after["latency"]["p50_ms"] <= after["latency"]["p99_ms"]


def test_an_unknown_model_names_the_models_there_are(api: RunningApi) -> None:
    answer = api.http.post("/v1/vision/nothing/predict", content=GOOD_JPEG, headers=JPEG)
    assert problem_of(answer) == (404, "model-unknown")
    assert "darkness" in answer.json()["remedy"]


@pytest.mark.parametrize(
    "path",
    ["/v1/vision/bearing/predict", "/v1/vibration/darkness/predict", "/v1/vibration/bearing-baseline-pump-1/predict"],
)
def test_a_model_of_another_task_says_where_to_post(api: RunningApi, path: str) -> None:
    answer = api.http.post(path, content=GOOD_JPEG, headers=JPEG)
    assert problem_of(answer) == (409, "model-task")
    assert "/v1/" in answer.json()["remedy"]


def test_an_unaccepted_media_type_names_the_accepted_ones(api: RunningApi) -> None:
    answer = api.http.post(VISION, content=GOOD_JPEG, headers={"content-type": "application/pdf"})
    assert problem_of(answer) == (415, "media-type")
    assert "image/jpeg" in answer.json()["remedy"]


def test_a_body_that_streams_past_the_limit_is_cut_off(api: RunningApi) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield b"\xff" * 50_000

    assert problem_of(api.http.post(VISION, content=chunks(), headers=JPEG)) == (413, "body-too-large")


def test_a_client_that_leaves_halfway_disturbs_nobody(api: RunningApi) -> None:
    with socket.create_connection((api.http.base_url.host, api.http.base_url.port or 80)) as connection:
        head = f"POST {VISION} HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 5000\r\n"
        connection.sendall(f"{head}X-Request-ID: gone\r\n\r\n".encode() + GOOD_JPEG[:100])
        time.sleep(0.2)
    wait_until(
        lambda: any(line["request_id"] == "gone" and line.get("status") == 499 for line in api.lines()), 30, api.log
    )
    assert post_picture(api, GOOD_JPEG).status_code == 200


def test_many_requests_at_once_are_all_answered(api: RunningApi) -> None:
    with ThreadPoolExecutor(24) as clients:
        pictures = [clients.submit(post_picture, api, body) for body in (GOOD_JPEG, DARK_JPEG) * 24]
        windows = [clients.submit(post_window, api, healthy_signal(seed)) for seed in range(24)]
        labels = [future.result().json()["label"] for future in pictures]
        assert [future.result().status_code for future in windows] == [200] * 24
    assert labels == ["normal", "anomaly"] * 24


def test_the_models_in_service_are_listed(api: RunningApi) -> None:
    rows = {row["name"]: row for row in api.http.get("/v1/models").json()["models"]}
    assert rows["darkness"]["version"] == "1"
    assert rows["darkness"]["alias"] == "champion"
    assert rows["darkness"]["loaded_since"]
    assert rows["darkness"]["refused"] is None
    assert rows["bearing-baseline-pump-1"]["asset"] == "pump-1"
    ready = api.http.get("/health/ready").json()
    assert (ready["status"], ready["registry"], len(ready["models"])) == ("ready", "away", 4)


def test_metrics_tell_requests_stages_problems_and_models(api: RunningApi) -> None:
    post_picture(api, GOOD_JPEG, heatmap="png")
    post_picture(api, b"")
    text = api.http.get("/metrics").text
    assert 'almenara_requests_total{method="POST",route="/v1/vision/{model}/predict",status="200"}' in text
    for stage in ("read", "queue", "decode", "inference", "render"):
        assert f'almenara_stage_seconds_count{{stage="{stage}",task="vision"}}' in text
    assert 'almenara_problems_total{code="image-empty"}' in text
    assert 'almenara_model_served{name="darkness",version="1"} 1.0' in text
    assert "almenara_registry_up 0.0" in text


def test_the_openapi_documents_bodies_and_problems(api: RunningApi) -> None:
    paths = api.http.get("/openapi.json").json()["paths"]
    vision = paths["/v1/vision/{model}/predict"]["post"]
    assert set(vision["requestBody"]["content"]) == {"image/jpeg", "image/png", "image/webp", "multipart/form-data"}
    assert "application/problem+json" in vision["responses"]["413"]["content"]
    vibration = paths["/v1/vibration/{model}/predict"]["post"]["requestBody"]["content"]
    assert "example" in vibration["application/json"]["schema"]
    assert api.http.get("/docs").status_code == 200


def test_the_log_is_json_and_names_the_request(api: RunningApi) -> None:
    answer = api.http.post(VISION, content=b"", headers=JPEG | {"x-request-id": "from-the-client"})
    assert answer.headers["x-request-id"] == "from-the-client"
    line = api.line_of("from-the-client")
    assert (line["status"], line["problem"], line["path"]) == (400, "image-empty", VISION)
