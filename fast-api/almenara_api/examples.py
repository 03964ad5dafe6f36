"""Examples of every operation that a person can paste, and of every error: made of the OpenAPI document and a table."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from almenara_api.problems import Problem

BASE = "http://127.0.0.1:8000"
"""Where the examples ask; the service's default."""

_JSON = "application/json"
_KEY_PYTHON = '"X-API-Key": os.environ.get("ALMENARA_API_KEY", "")'


@dataclass(frozen=True)
class Example:
    """One request, for a shell and for Python; the service's key comes from ALMENARA_API_KEY."""

    curl: str
    python: str


@dataclass(frozen=True)
class _Call:
    """What the OpenAPI document cannot say of an operation's example.

    Attributes:
        values: of its parameters.
        file: whose bytes are the body, and their media type.
        body: the JSON body.
        lines: the answer has no end and is read line by line.
    """

    values: Mapping[str, str | int] | None = None
    file: tuple[str, str] | None = None
    body: object = None
    lines: bool = False


_VALUES: Mapping[str, str | int] = {
    "model": "bearing",
    "version": "1",
    "alarm_id": "0b9f3c1e-7d52-4c55-9a0e-5f6b2a7c8d10",
    "silence_id": "5d1c9a52-0c5e-4f0e-8f4b-2b1f3d9a7e66",
    "name": "frame.jpg",
    "asset": "pump-1",
    "origin": "worker-1",
    "user": "maria",
}
_WINDOW: Mapping[str, str | int] = {"sampling_rate_hz": 12000, "shaft_rpm": 1772, "bearing": "6205-2RS", "unit": "g"}
_CALLS = {
    "post /v1/vision/{model}/predict": _Call({"model": "sludge-outflow"}, file=("frame.jpg", "image/jpeg")),
    "post /v1/vibration/{model}/predict": _Call(_WINDOW, file=("window.f32", "application/octet-stream")),
    "post /v1/alarms/reports": _Call(body={"origin": "worker-1", "reports": []}),
    "post /v1/alarms/directives/confirm": _Call(body={"origin": "worker-1", "ids": [_VALUES["alarm_id"]]}),
    "post /v1/alarms/{alarm_id}/reset": _Call(body={"user": "maria", "comment": "belt runs true again"}),
    "get /v1/alarms/events": _Call(lines=True),
}

# Those that no table can say: URL stands for where the operation is asked.
_PICTURE = (
    r"""{ printf '{"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["'
  base64 < frame.jpg | tr -d '\n'
  printf '"]}]}'; } |
curl --data-binary @- -H "X-API-Key: $ALMENARA_API_KEY" -H 'Content-Type: application/json' \
  URL""",
    """import base64
import os
from pathlib import Path

import httpx

picture = base64.b64encode(Path("frame.jpg").read_bytes()).decode()
answer = httpx.post(
    "URL",
    headers={"X-API-Key": os.environ.get("ALMENARA_API_KEY", "")},
    json={"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [picture]}]},
)
answer.raise_for_status()
print(answer.json())""",
)
_SIGNAL = (
    r"""json='{"parameters": {"sampling_rate_hz": 12000, "shaft_rpm": 1772, "bearing": "6205-2RS"},
  "inputs": [{"name": "signal", "shape": [1, 12000], "datatype": "FP32", "parameters": {"binary_data_size": 48000}}]}'
{ printf %s "$json"; cat window.f32; } |
curl --data-binary @- -H "X-API-Key: $ALMENARA_API_KEY" -H 'Content-Type: application/octet-stream' \
  -H "Inference-Header-Content-Length: ${#json}" \
  URL""",
    """import json
import os
from pathlib import Path

import httpx

signal = Path("window.f32").read_bytes()
tensor = {"name": "signal", "shape": [1, len(signal) // 4], "datatype": "FP32"}
tensor["parameters"] = {"binary_data_size": len(signal)}
told = {"sampling_rate_hz": 12000, "shaft_rpm": 1772, "bearing": "6205-2RS"}
head = json.dumps({"inputs": [tensor], "parameters": told}).encode()
answer = httpx.post(
    "URL",
    headers={
        "X-API-Key": os.environ.get("ALMENARA_API_KEY", ""),
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    },
    content=head + signal,
)
answer.raise_for_status()
print(answer.json())""",
)
_EVIDENCE = (
    r"""curl -T frame.jpg -H "X-API-Key: $ALMENARA_API_KEY" -H 'Content-Type: application/octet-stream' \
  -H "X-Content-SHA256: $(sha256sum frame.jpg | cut -d ' ' -f 1)" \
  URL""",
    """import hashlib
import os
from pathlib import Path

import httpx

picture = Path("frame.jpg").read_bytes()
answer = httpx.put(
    "URL",
    headers={
        "X-API-Key": os.environ.get("ALMENARA_API_KEY", ""),
        "X-Content-SHA256": hashlib.sha256(picture).hexdigest(),
    },
    content=picture,
)
answer.raise_for_status()""",
)
_SCORES = (
    """python3 -c 'import json; print(json.dumps({"inputs": [[0.0] * 116]}))' |
curl --data-binary @- -H "X-API-Key: $ALMENARA_API_KEY" -H 'Content-Type: application/json' \\
  URL""",
    """import os

import httpx

features = [0.0] * 116
answer = httpx.post(
    "URL",
    headers={"X-API-Key": os.environ.get("ALMENARA_API_KEY", "")},
    json={"inputs": [features]},
)
answer.raise_for_status()
print(answer.json())""",
)
_WEBHOOK = (
    """now=$(date +%s)
signature=$(printf "test.$now.{}" | openssl dgst -sha256 -hmac "$ALMENARA_WEBHOOK_SECRET" -binary | base64)
curl -d '{}' -H 'Content-Type: application/json' -H "X-MLflow-Timestamp: $now" -H 'X-MLflow-Delivery-Id: test' \\
  -H "X-MLflow-Signature: v1,$signature" \\
  URL""",
    """import base64
import hmac
import os
import time

import httpx

now = int(time.time())
digest = hmac.digest(os.environ["ALMENARA_WEBHOOK_SECRET"].encode(), f"test.{now}.{{}}".encode(), "sha256")
answer = httpx.post(
    "URL",
    headers={
        "Content-Type": "application/json",
        "X-MLflow-Timestamp": str(now),
        "X-MLflow-Delivery-Id": "test",
        "X-MLflow-Signature": f"v1,{base64.b64encode(digest).decode()}",
    },
    content="{}",
)
answer.raise_for_status()""",
)
_WRITTEN: Mapping[str, tuple[tuple[tuple[str, str], str], ...]] = {
    "post /v2/models/{model}/infer": (
        (_PICTURE, "/v2/models/sludge-outflow/infer"),
        (_SIGNAL, "/v2/models/bearing/infer"),
    ),
    "post /v2/models/{model}/versions/{version}/infer": (
        (_PICTURE, "/v2/models/sludge-outflow/versions/1/infer"),
        (_SIGNAL, "/v2/models/bearing/versions/1/infer"),
    ),
    "post /v1/models/{model}/predict": ((_SCORES, "/v1/models/bearing/predict"),),
    "post /v1/webhooks/mlflow": ((_WEBHOOK, "/v1/webhooks/mlflow"),),
    "put /v1/alarms/{alarm_id}/evidence/{name}": ((_EVIDENCE, f"/v1/alarms/{_VALUES['alarm_id']}/evidence/frame.jpg"),),
}

_ERRORS = {
    400: Problem(400, "image-truncated", "The JPEG ends after 1024 bytes without its end marker.", "Send all of it."),
    401: Problem(401, "api-key", "The header X-API-Key is missing.", "Send the key of the service, or one of yours."),
    403: Problem(403, "key-scope", "The key gateway is for report, and this needs predict.", "Make one that may."),
    404: Problem(404, "model-unknown", "No model named 'valve' is in service.", "The models in service: bearing."),
    408: Problem(408, "body-timeout", "The body did not arrive within 10 s.", "Send it over a better connection."),
    409: Problem(409, "model-task", "bearing is no model that judges single vision inputs.", "See GET /v1/models."),
    413: Problem(413, "body-too-large", "The body may have 16777216 bytes and more arrived.", "Send less."),
    415: Problem(415, "media-type", "The Content-Type is 'text/html'.", "Send one of: image/jpeg, image/png."),
    422: Problem(422, "parameters-invalid", "query.hours: Input should be greater than 0 (got '0').", "See /docs."),
    429: Problem(429, "rate-limit", "The key gateway may make 5 requests a second.", "Send again after Retry-After."),
    500: Problem(500, "internal-error", "The service failed on this request.", "Its log has the reason."),
    503: Problem(503, "queue-full", "All 4 inference threads are busy and the queue is full.", "Send again later."),
}
_ALARM_ERRORS = {
    404: Problem(404, "alarm-unknown", "There is no alarm 7.", "GET /v1/alarms lists them."),
    409: Problem(409, "alarm-not-latched", "The alarm is not latched.", "Only one that has returned can be reset."),
    503: Problem(503, "alarms-unavailable", "No answer came from the alarm database within 10 s.", "Send it again."),
}


def examples(document: Mapping[str, Any], method: str, path: str) -> tuple[Example, ...]:
    """The examples of one operation of an OpenAPI document."""
    key = f"{method} {path}"
    if key in _WRITTEN:
        return tuple(Example(*(text.replace("URL", BASE + at) for text in texts)) for texts, at in _WRITTEN[key])
    operation, call = document["paths"][path][method], _CALLS.get(key, _Call())
    request = _Request(document, operation, method, path, call)
    return (Example(request.curl(), request.python()),)


def problem(path: str, status: int) -> dict[str, Any]:
    """The body of an error answer."""
    found = (_ALARM_ERRORS if "/alarms" in path and status in _ALARM_ERRORS else _ERRORS)[status]
    instance = "urn:almenara:request:5f0c4d7c9f4e4d0e8a8a1c6f1d2e3b4a"
    return found.details(path).model_copy(update={"instance": instance}).model_dump()


class _Request:
    """One operation's request, filled with values."""

    def __init__(
        self, document: Mapping[str, Any], operation: Mapping[str, Any], method: str, path: str, call: _Call
    ) -> None:
        self.method, self.call = method, call
        self.keyed = bool(operation.get("security"))
        shown = operation["responses"].get("200")
        self.kinds = None if shown is None else tuple(shown.get("content", ()))
        values = {**_VALUES, **(call.values or {})}
        query: dict[str, str | int] = {}
        self.headers: dict[str, str] = {}
        for each in operation.get("parameters", ()):
            name = each["name"]
            wanted = each.get("required", False) or name in (call.values or {})
            value = values.get(name, name.upper())
            if each["in"] == "path":
                path = path.replace(f"{{{name}}}", quote(str(value), safe=""))
            elif wanted and each["in"] == "query":
                query[name] = value
            elif wanted:
                self.headers[name] = str(value)
        self.url = f"{BASE}{path}" + (f"?{urlencode(query)}" if query else "")
        self.body = call.body
        if call.file is None and call.body is None and _JSON in operation.get("requestBody", {}).get("content", {}):
            self.body = _sample(document, operation["requestBody"]["content"][_JSON]["schema"])
        if call.file is not None:
            self.headers["Content-Type"] = call.file[1]

    def curl(self) -> str:
        first, *more = [*self._options(), shlex.quote(self.url)]
        return " \\\n  ".join([f"curl {first}", *more])

    def _options(self) -> Iterator[str]:
        if self.call.lines:
            yield "-N"
        if self.method not in {"get", "post"} or (self.method == "post" and not self._posts):
            yield f"-X {self.method.upper()}"
        if self.keyed:
            yield '-H "X-API-Key: $ALMENARA_API_KEY"'
        yield from (f"-H {shlex.quote(f'{name}: {value}')}" for name, value in self.headers.items())
        if self.call.file is not None:
            yield f"--data-binary @{self.call.file[0]}"
        elif self.body is not None:
            yield f"-H 'Content-Type: {_JSON}' -d {shlex.quote(json.dumps(self.body))}"
        if self._picture:
            yield "-o evidence.jpg"

    @property
    def _picture(self) -> bool:
        return any(kind.startswith("image/") for kind in self.kinds or ())

    @property
    def _posts(self) -> bool:
        return self.call.file is not None or self.body is not None

    def python(self) -> str:
        imports, arguments = list[str](), [f'    "{self.url}",']
        headers = [f'"{name}": "{value}"' for name, value in self.headers.items()]
        if self.keyed:
            imports.append("import os")
            headers.insert(0, _KEY_PYTHON)
        if headers:
            arguments.append(f"    headers={{{', '.join(headers)}}},")
        if self.call.file is not None:
            imports.append("from pathlib import Path")
            arguments.append(f'    content=Path("{self.call.file[0]}").read_bytes(),')
        elif self.body is not None:
            arguments.append(f"    json={self.body!r},".replace("'", '"'))
        head = "\n".join([*imports, *([""] if imports else []), "import httpx", "", ""])
        if self.call.lines:
            opened = "\n".join(["with httpx.stream(", '    "GET",', *arguments, "    timeout=None,", ") as answer:"])
            return f"{head}{opened}\n    for line in answer.iter_lines():\n        print(line)"
        asked = "\n".join([f"answer = httpx.{self.method}(", *arguments, ")"])
        return f"{head}{asked}\nanswer.raise_for_status(){self._shown()}"

    def _shown(self) -> str:
        if _JSON in (self.kinds or ()):
            return "\nprint(answer.json())"
        if self._picture:
            return '\nopen("evidence.jpg", "wb").write(answer.content)'
        return "\nprint(answer.text)" if self.kinds is not None else ""


def _sample(document: Mapping[str, Any], schema: Mapping[str, Any]) -> object:
    """A schema's own example."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema.get("example", {})
