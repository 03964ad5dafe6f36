"""Pictures in, vision verdicts out."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from fastapi import APIRouter, Query, Request, Response
from numpy.typing import NDArray

from almenara import servable
from almenara.contracts import Picture, VisionVerdict
from almenara.vision import images
from almenara.vision import verdict as vision
from almenara_api.bodies import FORM, media_type, read_body, read_form_file
from almenara_api.problems import responses
from almenara_api.services import ModelName, Services, ServicesDependency

PICTURES = ("image/jpeg", "image/png", "image/webp")
LONGEST_SIDE = 1600
"""Pixels of a heatmap at most; drawing one of 25 megapixels would take most of a gigabyte in each thread."""
Heatmap = Literal["none", "png", "overlay"]

router = APIRouter(prefix="/v1", tags=["vision"])

_FILE_SCHEMA = {"type": "string", "format": "binary"}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One picture: the bare file (`curl --data-binary @frame.jpg -H 'Content-Type: image/jpeg'`) "
        "or a form (`curl -F file=@frame.jpg`).",
        "content": {
            **{kind: {"schema": _FILE_SCHEMA} for kind in PICTURES},
            FORM: {"schema": {"type": "object", "required": ["file"], "properties": {"file": _FILE_SCHEMA}}},
        },
    }
}


@router.post(
    "/vision/{model}/predict",
    response_model=VisionVerdict,
    responses=responses(400, 401, 404, 408, 409, 413, 415, 422, 503),
    openapi_extra=_BODY,
    summary="Judge one picture",
)
async def predict(
    model: ModelName,
    request: Request,
    services: ServicesDependency,
    heatmap: Annotated[Heatmap, Query(description="a picture of the scores in the answer")] = "none",
) -> Response:
    """Judge one JPEG, PNG or WebP picture of any size with the model's champion version.

    `anomaly` is .5 at the model's threshold. With `heatmap=png` the answer carries the score map in the model's
    fixed display range as PNG, with `overlay` your picture with that map laid over it as JPEG; either is shrunk to
    1600 pixels on its longest side, while the verdict is on the whole picture.
    """
    found = services.vision_model(model)
    kind = media_type(request, (*PICTURES, FORM))
    read = read_form_file if kind == FORM else read_body
    with services.metrics.stage("vision", "read"):
        body = await read(request, services.settings.request_timeout_seconds)
    verdict = await services.pool.run("vision", _job(services, found, body, heatmap))
    return Response(verdict.model_dump_json(), media_type="application/json")


def _job(services: Services, model: servable.VisionModel, body: bytes, heatmap: Heatmap) -> Callable[[], VisionVerdict]:
    metrics = services.metrics

    def judge() -> VisionVerdict:
        with metrics.stage("vision", "decode"):
            image = images.decode(body, max_pixels=services.settings.max_pixels)
        with metrics.stage("vision", "inference"):
            result = model.predict(image)
        metrics.anomaly.labels(result.verdict.model.name).observe(result.verdict.anomaly)
        if heatmap == "none":
            return result.verdict
        with metrics.stage("vision", "render"):
            return result.verdict.model_copy(update={"heatmap": _picture(model, image, result.map, heatmap)})

    return judge


def _picture(
    model: servable.VisionModel, image: NDArray[np.uint8], score_map: NDArray[np.float32], heatmap: Heatmap
) -> Picture:
    card = model.package.card
    height, width = image.shape[:2]
    scale = min(1.0, LONGEST_SIDE / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if heatmap == "png":
        return vision.picture(vision.heatmap_png(score_map, card, size))
    if scale < 1:
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    file = images.encode_jpeg(vision.overlay(image, score_map, card))  # a tenth of a PNG's time and size
    return Picture(media_type="image/jpeg", base64=base64.b64encode(file).decode("ascii"))
