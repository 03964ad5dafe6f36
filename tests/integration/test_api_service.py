"""The served API over HTTP, started from its disk cache: verdicts, bad input, alarms, what it tells of itself."""

from __future__ import annotations

import base64
import io
import json
import socket
import struct
import time
import wave
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from almenara.contracts import VibrationVerdict, VisionVerdict
from almenara.vision import images
from tests.support.api import (
    RunningApi,
    cache_champions,
    faulty_signal,
    healthy_features,
    healthy_signal,
    running_api,
    wait_until,
)
from tests.support.packages import classifier_candidate, novelty_candidate, vision_candidate

VISION = "/v1/vision/darkness/predict"
VIBRATION = "/v1/vibration/bearing/predict"
POSTED: dict[str, str | float] = {"sampling_rate_hz": 12_000, "shaft_rpm": 1772, "bearing": "6205-2RS"}
RAW = {"content-type": "application/octet-stream"}
JPEG = {"content-type": "image/jpeg"}


def picture(grey: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), grey, dtype=np.uint8)


GOOD_JPEG = images.encode_jpeg(picture(200))
DARK_JPEG = images.encode_jpeg(picture(20))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    var = tmp_path_factory.mktemp("api") / "var"
    pump, mill = (
        novelty_candidate(healthy_features(), each, f"bearing-baseline-{each}") for each in ("pump-1", "mill-2")
    )
    cache_champions(var, [vision_candidate(), classifier_candidate(), pump, mill])
    limits = {"VIBRATION_ON_DELAY_SECONDS": "0.2", "MAX_BODY_BYTES": "1000000", "MAX_SAMPLES": "100000"}
    with running_api(var, {f"ALMENARA_{name}": value for name, value in limits.items()}) as running:
        yield running


def post_picture(api: RunningApi, body: bytes, **parameters: str) -> httpx.Response:
    return api.http.post(VISION, content=body, headers=JPEG, params=parameters)


def post_window(api: RunningApi, signal: np.ndarray, **parameters: str | float) -> httpx.Response:
    return api.http.post(
        VIBRATION, content=signal.astype("<f4").tobytes(), headers=RAW, params={**POSTED, **parameters}
    )


def problem_of(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    content = answer.json()
    assert content["status"] == answer.status_code
    assert content["detail"]
    assert content["instance"] == f"urn:almenara:request:{answer.headers['x-request-id']}"
    return answer.status_code, content["type"].removeprefix("urn:almenara:problem:")


# --- verdicts ---------------------------------------------------------------------------------------------


def test_a_dark_picture_is_an_anomaly_and_a_bright_one_is_not(api: RunningApi) -> None:
    dark = VisionVerdict.model_validate_json(post_picture(api, DARK_JPEG).content)
    bright = VisionVerdict.model_validate_json(post_picture(api, GOOD_JPEG).content)
    assert (dark.label, bright.label) == ("anomaly", "normal")
    assert dark.anomaly > 0.5 > bright.anomaly
    assert dark.model.model_dump() == {"name": "darkness", "version": "1", "alias": "champion"}
    assert bright.heatmap is None


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_each_format_is_judged_the_same(api: RunningApi, suffix: str) -> None:
    body = cv2.imencode(suffix, picture(60))[1].tobytes()
    kind = {"content-type": f"image/{suffix[1:].replace('jpg', 'jpeg')}"}
    answer = api.http.post(VISION, content=body, headers=kind)
    assert answer.json()["anomaly"] == pytest.approx(
        post_picture(api, images.encode_jpeg(picture(60))).json()["anomaly"], abs=0.02
    )


def test_a_form_is_judged_like_the_bare_file(api: RunningApi) -> None:
    answer = api.http.post(VISION, files={"file": ("frame.jpg", DARK_JPEG, "image/jpeg")})
    assert answer.json() == post_picture(api, DARK_JPEG).json()


def form(*pictures: bytes) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("file", (f"{number}.jpg", each, "image/jpeg")) for number, each in enumerate(pictures)]


def test_pictures_of_one_form_are_judged_in_their_order_like_single_ones(api: RunningApi) -> None:
    answer = api.http.post(VISION, files=form(DARK_JPEG, GOOD_JPEG, DARK_JPEG))
    assert answer.status_code == 200
    dark, bright = post_picture(api, DARK_JPEG).json(), post_picture(api, GOOD_JPEG).json()
    assert answer.json()["verdicts"] == [dark, bright, dark]


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


def test_a_broken_picture_among_several_is_named_and_refuses_all(api: RunningApi) -> None:
    answer = api.http.post(VISION, files=form(GOOD_JPEG, DARK_JPEG[:200]))
    assert problem_of(answer)[0] == 400
    assert answer.json()["detail"].startswith("file[1]: ")


def test_more_pictures_than_a_request_may_have_are_refused(api: RunningApi) -> None:
    assert len(api.http.post(VISION, files=form(*[GOOD_JPEG] * 64)).json()["verdicts"]) == 64
    assert problem_of(api.http.post(VISION, files=form(*[GOOD_JPEG] * 65))) == (400, "multipart-invalid")


@pytest.mark.parametrize(("heatmap", "kind"), [("png", "image/png"), ("overlay", "image/jpeg")])
def test_the_heatmap_has_the_pictures_size_and_is_bright_where_it_is_dark(
    api: RunningApi, heatmap: str, kind: str
) -> None:
    half_dark = picture(200)
    half_dark[:, 32:] = 20
    posted = post_picture(api, images.encode_jpeg(half_dark), heatmap=heatmap)
    found = VisionVerdict.model_validate_json(posted.content).heatmap
    assert found is not None
    assert found.media_type == kind
    shown = images.decode(base64.b64decode(found.base64), max_pixels=10_000).astype(float)
    assert shown.shape == (48, 64, 3)
    changed = np.abs(shown - (half_dark if heatmap == "overlay" else 0)).mean(axis=(0, 2))
    assert changed[48:].mean() > 2 * changed[:16].mean()


@pytest.mark.parametrize("heatmap", ["png", "overlay"])
def test_the_heatmap_of_a_large_picture_is_shrunk_and_its_verdict_is_not(api: RunningApi, heatmap: str) -> None:
    body = images.encode_jpeg(picture(20, height=2000, width=4000))
    found = post_picture(api, body, heatmap=heatmap).json()
    shown = images.decode(base64.b64decode(found["heatmap"]["base64"]), max_pixels=10_000_000)
    assert shown.shape == (800, 1600, 3)
    assert found | {"heatmap": None} == post_picture(api, body).json()


def test_every_encoding_of_a_window_gives_the_same_verdict(api: RunningApi) -> None:
    signal = healthy_signal(1)
    raw = post_window(api, signal)
    assert VibrationVerdict.model_validate_json(raw.content).novelty is None
    npy = io.BytesIO()
    np.save(npy, signal)
    csv = "\n".join(["acceleration", *(repr(float(sample)) for sample in signal)])
    others = [
        api.http.post(VIBRATION, content=npy.getvalue(), headers={"content-type": "application/x-npy"}, params=POSTED),
        api.http.post(VIBRATION, content=csv, headers={"content-type": "text/csv"}, params=POSTED),
        api.http.post(VIBRATION, json={"signal": signal.tolist(), **POSTED}),
    ]
    for answer in others:
        assert answer.status_code == 200, answer.text
        assert answer.json()["probabilities"] == pytest.approx(raw.json()["probabilities"], abs=1e-5)


def test_a_wav_file_brings_its_own_rate(api: RunningApi) -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(12_000)
        written.writeframes((healthy_signal(1) * 20_000).astype("<i2").tobytes())
    kind = {"content-type": "audio/wav"}
    without = {key: value for key, value in POSTED.items() if key != "sampling_rate_hz"}
    assert api.http.post(VIBRATION, content=file.getvalue(), headers=kind, params=without).status_code == 200
    wrong = api.http.post(
        VIBRATION, content=file.getvalue(), headers=kind, params=POSTED | {"sampling_rate_hz": 48_000}
    )
    assert problem_of(wrong) == (422, "sampling-rate-conflict")


def test_several_signals_get_several_verdicts(api: RunningApi) -> None:
    signals = [healthy_signal(seed).tolist() for seed in range(3)]
    answer = api.http.post(VIBRATION, json={"signals": signals, **POSTED}).json()
    assert [VibrationVerdict.model_validate(each).windows for each in answer["verdicts"]] == [1, 1, 1]
    signals[1] = [0.0] * 12_000
    refused = api.http.post(VIBRATION, json={"signals": signals, **POSTED})
    assert problem_of(refused) == (422, "window-constant")
    assert refused.json()["detail"].startswith("signals[1]:")


# --- bad input --------------------------------------------------------------------------------------------


def bomb() -> bytes:
    """A well-formed PNG header that promises 10000x10000 pixels, and next to no data."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 100_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


BAD_PICTURES = {
    "empty": (b"", 400, "image-empty"),
    "truncated": (GOOD_JPEG[: len(GOOD_JPEG) // 2], 400, "image-truncated"),
    "text": (b"this is no picture at all", 415, "image-type"),
    "bomb": (bomb(), 413, "image-too-large"),
    "too large": (b"\xff" * 1_000_001, 413, "body-too-large"),
}


@pytest.mark.parametrize("case", BAD_PICTURES)
def test_a_bad_picture_is_a_clear_problem_and_the_next_good_one_is_judged(api: RunningApi, case: str) -> None:
    body, status, code = BAD_PICTURES[case]
    answer = post_picture(api, body)
    assert problem_of(answer) == (status, code)
    assert answer.json()["remedy"]
    assert post_picture(api, GOOD_JPEG).status_code == 200


def with_nan() -> np.ndarray:
    signal = healthy_signal(1)
    signal[77] = np.nan
    return signal


BAD_WINDOWS = {
    "NaN": (with_nan(), 422, "window-not-finite"),
    "constant": (np.full(12_000, 0.3), 422, "window-constant"),
    "too short": (healthy_signal(1)[:100], 422, "window-too-short"),
    "empty": (np.array([]), 400, "recording-empty"),
    "too long": (np.tile(healthy_signal(1), 9), 413, "recording-too-long"),
}


@pytest.mark.parametrize("case", BAD_WINDOWS)
def test_a_bad_window_is_a_clear_problem_and_the_next_good_one_is_judged(api: RunningApi, case: str) -> None:
    signal, status, code = BAD_WINDOWS[case]
    assert problem_of(post_window(api, signal)) == (status, code)
    assert post_window(api, healthy_signal(2)).status_code == 200


def test_a_window_without_sampling_rate_is_refused(api: RunningApi) -> None:
    answer = api.http.post(VIBRATION, content=healthy_signal(1).tobytes(), headers=RAW)
    assert problem_of(answer) == (422, "sampling-rate-missing")


def test_a_window_of_another_dtype_is_refused(api: RunningApi) -> None:
    file = io.BytesIO()
    np.save(file, np.array(["a", "b"]))
    answer = api.http.post(
        VIBRATION, content=file.getvalue(), headers={"content-type": "application/x-npy"}, params=POSTED
    )
    assert problem_of(answer)[0] in (415, 422)
    assert problem_of(api.http.post(VIBRATION, content=b"12345", headers=RAW, params=POSTED))[0] in (400, 422)


def test_an_unknown_bearing_names_the_known_ones(api: RunningApi) -> None:
    answer = post_window(api, healthy_signal(1), bearing="9999")
    assert problem_of(answer) == (422, "unknown-bearing")
    assert "6205-2RS" in answer.text


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


@pytest.mark.parametrize(
    "parameters", [{"sampling_rate_hz": "-1"}, {"sampling_rate_hz": "nan"}, {"sample_rate": "12000"}]
)
def test_a_wrong_parameter_is_named(api: RunningApi, parameters: dict[str, str]) -> None:
    answer = api.http.post(VIBRATION, content=b"", headers=RAW, params=parameters)
    assert problem_of(answer) == (422, "parameters-invalid")
    assert next(iter(parameters)) in answer.json()["detail"]


def test_counts_of_a_converter_are_judged_like_what_they_stand_for(api: RunningApi) -> None:
    counts = np.round(healthy_signal(1) * 1000).astype("<i2")
    sent = {**POSTED, "unit": "g", "dtype": "int16", "scale": 0.001}
    answer = api.http.post(VIBRATION, content=counts.tobytes(), headers=RAW, params=sent)
    assert answer.status_code == 200, answer.text
    expected = post_window(api, counts.astype(np.float32) * np.float32(0.001), unit="g").json()
    assert answer.json()["label"] == expected["label"]
    assert answer.json()["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-4)
    without = api.http.post(VIBRATION, content=counts.tobytes(), headers=RAW, params={**POSTED, "dtype": "int16"})
    assert problem_of(without) == (422, "scale-invalid")


def test_a_form_without_the_file_is_told_how(api: RunningApi) -> None:
    answer = api.http.post(VISION, files={"image": ("frame.jpg", GOOD_JPEG, "image/jpeg")})
    assert problem_of(answer) == (400, "multipart-invalid")


def test_a_client_that_leaves_halfway_disturbs_nobody(api: RunningApi) -> None:
    with socket.create_connection((api.http.base_url.host, api.http.base_url.port or 80)) as connection:
        head = f"POST {VISION} HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 5000\r\n"
        connection.sendall(f"{head}X-Request-ID: gone\r\n\r\n".encode() + GOOD_JPEG[:100])
        time.sleep(0.2)
    wait_until(
        lambda: any(line["request_id"] == "gone" and line.get("status") == 499 for line in api.lines()), 5, api.log
    )
    assert post_picture(api, GOOD_JPEG).status_code == 200


def test_many_requests_at_once_are_all_answered(api: RunningApi) -> None:
    with ThreadPoolExecutor(24) as clients:
        pictures = [clients.submit(post_picture, api, body) for body in (GOOD_JPEG, DARK_JPEG) * 24]
        windows = [clients.submit(post_window, api, healthy_signal(seed)) for seed in range(24)]
        labels = [future.result().json()["label"] for future in pictures]
        assert [future.result().status_code for future in windows] == [200] * 24
    assert labels == ["normal", "anomaly"] * 24


# --- alarms -----------------------------------------------------------------------------------------------


def test_an_assets_baseline_judges_its_windows_and_raises_its_alarm(api: RunningApi) -> None:
    healthy = VibrationVerdict.model_validate_json(post_window(api, healthy_signal(50), asset="pump-1").content)
    assert healthy.novelty is not None
    assert healthy.novelty.label == "normal"
    for seed in range(3):
        faulty = VibrationVerdict.model_validate_json(
            post_window(api, faulty_signal(seed), asset="pump-1", unit="g").content
        )
        time.sleep(0.15)
    assert faulty.novelty is not None
    assert faulty.novelty.anomaly > 0.5
    assert faulty.unit == "g"
    (alarm,) = [each for each in api.http.get("/v1/alarms").json() if each["source"] == "pump-1"]
    assert (alarm["source"], alarm["phase"], alarm["model"]["name"]) == (
        "pump-1",
        "unacknowledged",
        "bearing-baseline-pump-1",
    )
    assert alarm["reason"]
    assert [Path(file["uri"]).stat().st_size for file in alarm["evidence"]] == [f["size"] for f in alarm["evidence"]]
    told = api.log.parent / "alarms" / "alarms.log"
    wait_until(told.is_file, 5)
    assert json.loads(told.read_text().splitlines()[0])["alarm"]["id"] == alarm["id"]


def test_a_batch_of_windows_satisfies_the_on_delay_by_its_own_length(api: RunningApi) -> None:
    signals = [faulty_signal(seed).tolist() for seed in range(2)]
    answer = api.http.post(VIBRATION, json={"signals": signals, "asset": "mill-2", **POSTED})
    assert [each["novelty"]["label"] for each in answer.json()["verdicts"]] == ["anomaly", "anomaly"]
    assert "mill-2" in [alarm["source"] for alarm in api.http.get("/v1/alarms").json()]


def test_an_asset_without_baseline_never_alarms(api: RunningApi) -> None:
    for seed in range(3):
        assert "no_baseline" in post_window(api, faulty_signal(seed), asset="fan-9").json()["quality"]
        time.sleep(0.15)
    assert "fan-9" not in api.http.get("/v1/alarms").text


# --- the service itself -----------------------------------------------------------------------------------


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
