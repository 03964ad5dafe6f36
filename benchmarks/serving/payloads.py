"""The same window and the same picture as each server wants to be asked about them: whole HTTP/1.1 requests."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from almenara.vibration.simulate import DEMO_RPM
from benchmarks.serving.models import BEARING, RATE_HZ, SLUDGE, WINDOW_SAMPLES, picture, signal

JSON = "application/json"
BATCH = 64
_BOUNDARY = "frame-of-the-benchmark"


def request(path: str, body: bytes, media_type: str) -> bytes:
    """A POST that keeps the connection."""
    head = (f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {media_type}", f"Content-Length: {len(body)}")
    return "\r\n".join((*head, "", "")).encode() + body


def empty() -> bytes:
    """The least that the API can be asked."""
    return b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def ours_raw(model: str) -> bytes:
    path = f"/v1/vibration/{model}/predict?sampling_rate_hz={RATE_HZ:g}&shaft_rpm={DEMO_RPM:g}&bearing={BEARING}"
    return request(path, signal(WINDOW_SAMPLES[model]).astype("<f4").tobytes(), "application/octet-stream")


def ours_json(model: str) -> bytes:
    return _json(f"/v1/vibration/{model}/predict", {"signal": _numbers(model), **_told()})


def ours_batch(model: str) -> bytes:
    return _json(f"/v1/vibration/{model}/predict", {"signals": [_numbers(model)] * BATCH, **_told()})


def ours_picture() -> bytes:
    return request(f"/v1/vision/{SLUDGE}/predict", picture(), "image/jpeg")


def mlflow_window(model: str) -> bytes:
    told = _told()
    return _frame(["signal", *told], [_numbers(model), *told.values()])


def mlflow_features(row: Sequence[float]) -> bytes:
    return _frame([f"feature_{index}" for index in range(len(row))], list(row))


def mlserver_window(model: str) -> bytes:
    samples = _numbers(model)
    tensor = {"name": "signal", "shape": [1, len(samples)], "datatype": "FP32", "data": samples}
    return _json(f"/v2/models/{model}/infer", {"parameters": _told(), "inputs": [tensor]})


def mlserver_picture() -> bytes:
    text = base64.b64encode(picture()).decode()
    tensor = {
        "name": "image",
        "shape": [1],
        "datatype": "BYTES",
        "parameters": {"content_type": "base64"},
        "data": [text],
    }
    return _json(f"/v2/models/{SLUDGE}/infer", {"inputs": [tensor]})


def tutorial_picture() -> bytes:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
    body = head.encode() + picture() + f"\r\n--{_BOUNDARY}--\r\n".encode()
    return request("/predict", body, f"multipart/form-data; boundary={_BOUNDARY}")


def _numbers(model: str) -> list[float]:
    return [round(float(value), 6) for value in signal(WINDOW_SAMPLES[model])]


def _told() -> dict[str, Any]:
    return {"sampling_rate_hz": RATE_HZ, "shaft_rpm": DEMO_RPM, "bearing": BEARING}


def _frame(columns: list[str], row: list[Any]) -> bytes:
    return _json("/invocations", {"dataframe_split": {"columns": columns, "data": [row]}})


def _json(path: str, content: object) -> bytes:
    return request(path, json.dumps(content, separators=(",", ":")).encode(), JSON)
