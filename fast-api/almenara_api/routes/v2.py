"""The Open Inference Protocol, which other platforms' clients speak, beside the typed routes."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

from almenara import __version__
from almenara.contracts import Contract
from almenara_api import protocol
from almenara_api.bodies import media_type, read_body
from almenara_api.loading import Loaded
from almenara_api.problems import Problem, ProtocolProblem, responses
from almenara_api.services import ModelName, ServicesDependency
from almenara_api.tensors import HEADER_LENGTH, InferenceAnswer, InferenceRequest

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])
infer_router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])
open_router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

_JSON, _BINARY = "application/json", "application/octet-stream"


class ServerLive(Contract):
    """The process answers."""

    live: bool = True


class ServerReady(ServerLive):
    """At least one model is in service."""

    ready: bool = True


class ServerMetadata(Contract):
    """Who serves."""

    name: str = "almenara"
    version: str = __version__
    extensions: tuple[str, ...] = ("binary_tensor_data",)


class ModelReady(Contract):
    """The model is in service."""

    name: str
    ready: bool = True


async def _champion(services: ServicesDependency, model: ModelName) -> Loaded:
    return services.loaded(model)


async def _version(
    services: ServicesDependency,
    model: ModelName,
    version: Annotated[str, Path(max_length=100, description="of the model; the one in service")],
) -> Loaded:
    found = services.loaded(model)
    if version != found.entry.version:
        raise Problem(
            404,
            "version-unknown",
            f"Version {version} of {model} is not in service.",
            f"Version {found.entry.version} is; without a version the one in service answers.",
        )
    return found


Champion = Annotated[Loaded, Depends(_champion)]
Version = Annotated[Loaded, Depends(_version)]


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return responses(*statuses, details=ProtocolProblem)


_FIND = _errors(401, 403, 404, 422, 429, 503)
_INFER: dict[str, Any] = {
    "responses": _errors(400, 401, 403, 404, 408, 413, 415, 422, 429, 503)
    | {
        200: {
            "model": InferenceAnswer,
            "description": "The outputs; as bytes behind the JSON where the request wants that",
            "headers": {HEADER_LENGTH: {"description": "length of that JSON", "schema": {"type": "integer"}}},
            "content": {_BINARY: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
    "openapi_extra": {
        "parameters": [
            {
                "name": HEADER_LENGTH,
                "in": "header",
                "required": False,
                "description": "length in bytes of the JSON, when the tensor's bytes follow it",
                "schema": {"type": "integer", "minimum": 0},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                _JSON: {"schema": InferenceRequest.model_json_schema(ref_template="#/components/schemas/{model}")},
                _BINARY: {"schema": {"type": "string", "format": "binary"}},
            },
        },
    },
}


@open_router.get("/health/live", summary="Does the process answer?")
async def live() -> ServerLive:
    """Always 200."""
    return ServerLive()


@open_router.get("/health/ready", summary="Is a model in service?", responses=_errors(503))
async def ready(services: ServicesDependency) -> ServerReady:
    """200 while at least one model is in service, as `/health/ready`."""
    missing = services.not_ready()
    if missing is not None:
        raise missing
    return ServerReady()


@router.get("", summary="Who serves", responses=_errors(401, 403, 429))
async def server() -> ServerMetadata:
    """Name, version, and that tensors may come and go as bytes."""
    return ServerMetadata()


@router.get("/models/{model}", summary="What a model takes and gives", responses=_FIND)
async def metadata(found: Champion) -> protocol.ModelMetadata:
    """Pictures may also be sent as files: `image` of datatype BYTES and shape [n]."""
    return protocol.metadata(found.model)


@router.get("/models/{model}/versions/{version}", summary="What a version takes and gives", responses=_FIND)
async def version_metadata(found: Version) -> protocol.ModelMetadata:
    """As without a version; one that is not in service is 404."""
    return protocol.metadata(found.model)


@router.get("/models/{model}/ready", summary="Is a model in service?", responses=_FIND)
async def model_ready(found: Champion) -> ModelReady:
    """200, else 404 or 503 with the reason."""
    return ModelReady(name=found.entry.name)


@router.get("/models/{model}/versions/{version}/ready", summary="Is a version in service?", responses=_FIND)
async def version_ready(found: Version) -> ModelReady:
    """200, else 404 or 503 with the reason."""
    return ModelReady(name=found.entry.name)


@infer_router.post("/models/{model}/infer", summary="Judge pictures or signals", **_INFER)
async def infer(request: Request, services: ServicesDependency, found: Champion) -> Response:
    """Judge with the model's champion version; the verdicts are those of the typed routes.

    Vision models take `image`: UINT8 [n, height, width, 3], RGB of the size in the metadata; or BYTES [n], JPEG, PNG
    or WebP files of any size, base64 in JSON. Outputs: `anomaly`, `score`, `label`, `verdict`.

    Bearing classifiers and baselines take `signal`: FP32 [n, samples], with the request's `parameters`
    `sampling_rate_hz`, `shaft_rpm`, `bearing`, `unit`, `machine`. Outputs of a classifier: `probabilities`, `label`,
    `verdict`; of a baseline: `anomaly`, `score`, `label`, `verdict`. No `asset`, and so no alarm: that is for `/v1`.

    `verdict` is JSON. One picture or signal that cannot be judged refuses all.
    """
    return await _infer(request, services, found)


@infer_router.post("/models/{model}/versions/{version}/infer", summary="Judge with a version", **_INFER)
async def version_infer(request: Request, services: ServicesDependency, found: Version) -> Response:
    """As without a version; one that is not in service is 404."""
    return await _infer(request, services, found)


async def _infer(request: Request, services: ServicesDependency, found: Loaded) -> Response:
    if "content-type" in request.headers:
        media_type(request, (_JSON, _BINARY))
    task = found.entry.task
    with services.metrics.stage(task, "read"):
        body = await read_body(request, services.settings.request_timeout_seconds)
    begun = time.perf_counter()
    answer = await protocol.infer(services, found.model, body, request.headers.get(HEADER_LENGTH))
    services.usage.add(found.model.ref, time.perf_counter() - begun)
    headers = {} if answer.header_length is None else {HEADER_LENGTH: str(answer.header_length)}
    shadow = services.shadow.after_answer(answer.again, found.model)
    return Response(answer.body, media_type=_BINARY if headers else _JSON, headers=headers, background=shadow)
