"""MLflow's scoring payloads for any registered model: ours on their raw tensors, listed ones of others on anything."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray
from pydantic import Field

from almenara.contracts import Contract, ModelRef
from almenara_api.bodies import media_type, read_body
from almenara_api.loading import Loaded
from almenara_api.payloads import FORMS, read_payload, tensor
from almenara_api.problems import Problem, responses
from almenara_api.services import ModelName, Services, ServicesDependency

router = APIRouter(prefix="/v1", tags=["models"])


class Predictions(Contract):
    """What a model answered."""

    predictions: Any = Field(
        description="of ours the graph's outputs by name, as nested lists; of others what MLflow's own server would say"
    )
    model: ModelRef


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One of MLflow's scoring payloads. One of our models takes the raw input of its graph: "
        "`inputs` or `instances` with uint8 pixels of shape (n, height, width, 3) or float32 rows of features, which "
        "`dataframe_split` and `dataframe_records` may name.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "oneOf": [{"required": [form]} for form in FORMS],
                    "properties": {
                        "inputs": {},
                        "instances": {"type": "array", "items": {}},
                        "dataframe_split": {
                            "type": "object",
                            "required": ["data"],
                            "properties": {
                                "columns": {"type": "array", "items": {}},
                                "index": {"type": "array", "items": {}},
                                "data": {"type": "array", "items": {"type": "array", "items": {}}},
                            },
                        },
                        "dataframe_records": {"type": "array", "items": {"type": "object"}},
                        "params": {"type": "object"},
                    },
                    "additionalProperties": False,
                },
                "example": {"inputs": [[0.1, 0.2, 0.3]]},
            }
        },
    }
}


@router.post(
    "/models/{model}/predict",
    response_model=Predictions,
    responses=responses(400, 401, 404, 408, 413, 415, 422, 503),
    openapi_extra=_BODY,
    summary="Score MLflow's payloads with any registered model",
)
async def predict(model: ModelName, request: Request, services: ServicesDependency) -> Response:
    """The champion's raw outputs, for programs that were written for MLflow's own scoring server.

    Of one of our models that is what its graph says: no threshold, no verdict and no alarm. A model that others
    registered is served when `ALMENARA_PYFUNC_MODELS` lists its name.
    """
    score = _scorer(services, model)
    media_type(request, ("application/json",))
    body = await read_body(request, services.settings.request_timeout_seconds)
    content = await services.pool.run("scoring", lambda: score(body))
    return Response(content, media_type="application/json")


def _scorer(services: Services, name: str) -> Callable[[bytes], bytes]:
    """What answers a body, else the Problem that says why nothing does."""
    if name in services.pyfuncs.names and name not in services.models.snapshot.loaded:
        foreign = services.pyfuncs.find(name)
        return lambda body: foreign.score(read_payload(body))
    try:
        loaded = services.loaded(name)
    except Problem as problem:
        if problem.code != "model-unknown":
            raise
        hint = "One that Almenara did not make is served when ALMENARA_PYFUNC_MODELS lists it."
        raise Problem(problem.status, problem.code, problem.fact, f"{problem.remedy} {hint}") from problem
    over = time.monotonic() + services.settings.request_timeout_seconds
    return lambda body: _run(loaded, body, over)


def _run(loaded: Loaded, body: bytes, over: float) -> bytes:
    package = loaded.model.package
    rows = tensor(read_payload(body), package.card, package.input_name)
    # Pictures go one by one: a batch of them is no faster on a CPU, and takes its memory at once.
    batches = np.split(rows, len(rows)) if package.card.task == "vision" else [rows]
    outputs = []
    for batch in batches:
        if time.monotonic() > over:
            raise TimeoutError  # the client has been told
        outputs.append(package.run(batch))
    predictions = outputs[0]
    if len(outputs) > 1:
        predictions = {name: np.concatenate([each[name] for each in outputs]) for name in package.output_names}
    answer = {"predictions": predictions, "model": loaded.model.ref.model_dump()}
    # An imported graph may have text labels, or probabilities by label, beside the output that its role needs.
    return orjson.dumps(answer, _as_list, orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


def _as_list(array: NDArray[Any]) -> list[Any]:
    return list(array.tolist())
