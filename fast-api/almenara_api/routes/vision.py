"""Pictures in, vision verdicts out."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from fastapi import APIRouter, Query, Request, Response
from numpy.typing import NDArray
from pydantic import Field

from almenara import servable
from almenara.contracts import Contract, Picture, VisionVerdict
from almenara.errors import InputError
from almenara.vision import images
from almenara.vision import verdict as vision
from almenara_api.bodies import FORM, media_type, read_body, read_form_files
from almenara_api.patience import left
from almenara_api.problems import responses
from almenara_api.services import ModelName, Services, ServicesDependency
from almenara_api.shadow import judge_pictures

PICTURES = ("image/jpeg", "image/png", "image/webp")
LONGEST_SIDE = 1600
"""Pixels of a heatmap at most; drawing one of 25 megapixels would take most of a gigabyte in each thread."""
MOST_PICTURES = 64
"""Of one request, which has one deadline for all."""
Heatmap = Literal["none", "png", "overlay"]

router = APIRouter(prefix="/v1", tags=["vision"])


class VisionVerdicts(Contract):
    """The verdicts on the pictures of a form, in their order."""

    verdicts: tuple[VisionVerdict, ...] = Field(min_length=1)


_FILE_SCHEMA = {"type": "string", "format": "binary"}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One picture: the bare file (`curl --data-binary @frame.jpg -H 'Content-Type: image/jpeg'`) "
        f"or a form (`curl -F file=@frame.jpg`); up to {MOST_PICTURES} in one form, each in a field `file`.",
        "content": {
            **{kind: {"schema": _FILE_SCHEMA} for kind in PICTURES},
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "array", "items": _FILE_SCHEMA, "maxItems": MOST_PICTURES}},
                }
            },
        },
    }
}


@router.post(
    "/vision/{model}/predict",
    response_model=VisionVerdict | VisionVerdicts,
    responses=responses(400, 401, 404, 408, 409, 413, 415, 422, 503),
    openapi_extra=_BODY,
    summary="Judge one picture, or several",
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

    The header `Almenara-Jpeg-Quality` says at which quality to encode JPEGs that are made for this model: 95, or 100
    for one whose scores 95 was found to change.

    Several pictures of a form are answered with `verdicts`, in their order; one that cannot be judged refuses all.
    """
    found = services.vision_model(model)
    kind = media_type(request, (*PICTURES, FORM))
    patience = services.settings.request_timeout_seconds
    with services.metrics.stage("vision", "read"):
        if kind == FORM:
            files = await read_form_files(request, patience, MOST_PICTURES)
        else:
            files = (await read_body(request, patience),)
    begun = time.perf_counter()
    verdicts = await services.pool.run("vision", _job(services, found, files, heatmap))
    services.usage.add(verdicts[0].model, time.perf_counter() - begun)
    answer = VisionVerdicts(verdicts=verdicts) if len(verdicts) > 1 else verdicts[0]
    shadow = services.shadow.after_answer(judge_pictures(files, services.settings.max_pixels), found)
    told = {images.QUALITY_HEADER: str(found.jpeg_quality)}
    return Response(answer.model_dump_json(), media_type="application/json", headers=told, background=shadow)


def _job(
    services: Services, model: servable.VisionModel, files: Sequence[bytes], heatmap: Heatmap
) -> Callable[[], tuple[VisionVerdict, ...]]:
    over = time.monotonic() + left(services.settings.request_timeout_seconds)

    def judge() -> tuple[VisionVerdict, ...]:
        verdicts: list[VisionVerdict] = []
        for index, file in enumerate(files):
            if time.monotonic() > over:
                raise TimeoutError  # the client has been told
            try:
                verdicts.append(_judge(services, model, file, heatmap))
            except InputError as error:
                if len(files) == 1:
                    raise
                raise InputError(error.code, f"file[{index}]: {error.fact}", error.remedy) from error
        return tuple(verdicts)

    return judge


def _judge(services: Services, model: servable.VisionModel, file: bytes, heatmap: Heatmap) -> VisionVerdict:
    metrics = services.metrics
    with metrics.stage("vision", "decode"):
        image = model.decode(file, max_pixels=services.settings.max_pixels)
    with metrics.stage("vision", "inference"):
        result = model.predict(image)
    metrics.show_anomaly(result.verdict.model, result.verdict.anomaly)
    if heatmap == "none":
        return result.verdict
    with metrics.stage("vision", "render"):
        if model.enough is not None:
            image = images.decode(file, max_pixels=services.settings.max_pixels)
        return result.verdict.model_copy(update={"heatmap": _picture(model, image, result.map, heatmap)})


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
