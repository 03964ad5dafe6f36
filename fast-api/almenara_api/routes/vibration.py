"""Vibration signals in, verdicts on the bearing out; with an asset's baseline also that asset's alarm."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from almenara import servable
from almenara.contracts import Contract, VibrationVerdict
from almenara.errors import InputError
from almenara_api.bodies import media_type, read_body
from almenara_api.evidence import Window
from almenara_api.problems import responses
from almenara_api.services import ModelName, Services, ServicesDependency
from almenara_api.signals import FILES, JSON, RAW, Posted, VibrationJson, VibrationQuery, parse
from almenara_api.turns import Turn

router = APIRouter(prefix="/v1", tags=["vibration"])

NO_BASELINE = "no_baseline"
"""Flag of a verdict whose asset has no commissioned baseline: no alarm can come of it."""


class VibrationVerdicts(Contract):
    """The verdicts on `signals`, in their order."""

    verdicts: tuple[VibrationVerdict, ...] = Field(min_length=1)


_BINARY = {"type": "string", "format": "binary"}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "Raw float32 samples, little-endian, with the parameters in the query (the fastest way: "
        "`curl --data-binary @window.f32 -H 'Content-Type: application/octet-stream' "
        "'…/predict?sampling_rate_hz=12000&shaft_rpm=1772&bearing=6205-2RS'`; a converter's counts with "
        "`dtype=int16&scale=0.000305`), a .npy, .wav or .csv file, or JSON.",
        "content": {
            **{kind: {"schema": _BINARY} for kind in (RAW, *FILES)},
            JSON: {"schema": VibrationJson.model_json_schema()},
        },
    }
}


@router.post(
    "/vibration/{model}/predict",
    response_model=VibrationVerdict | VibrationVerdicts,
    responses=responses(400, 401, 404, 408, 409, 413, 415, 422, 503),
    openapi_extra=_BODY,
    summary="Judge one vibration signal, or several",
)
async def predict(
    model: ModelName,
    request: Request,
    services: ServicesDependency,
    query: Annotated[VibrationQuery, Query()],
) -> Response:
    """Judge a signal with the model's champion version; a long one is cut into windows and pooled.

    With an `asset` that has a commissioned baseline the verdict carries `novelty`, and that decides the asset's
    alarm. Without a baseline no alarm is ever raised: the classifier only names the fault, and `quality` holds
    `no_baseline`, as it does for a mistyped asset. `signals` count as
    recorded one after the other, the last one until now.
    """
    found = services.vibration_model(model)
    kind = media_type(request, (JSON, RAW, *FILES))
    with services.metrics.stage("vibration", "read"):
        body = await read_body(request, services.settings.request_timeout_seconds)
    arrived, begun = time.monotonic(), time.perf_counter()
    with services.assets.turns.turn() as turn:
        judged = await services.pool.run("vibration", _job(services, found, body, kind, query, turn))
        if turn.asset:
            with services.metrics.stage("vibration", "alarm"):
                await turn.come(services.settings.request_timeout_seconds)
                await services.alarms.run(partial(_observe, services, turn.asset, judged, arrived))
    seconds = time.perf_counter() - begun
    first = judged.verdicts[0]
    services.usage.add(first.model, seconds)
    if first.novelty is not None:
        services.usage.add(first.novelty.model, seconds)
    return Response(judged.answer.model_dump_json(), media_type="application/json")


@dataclass(frozen=True)
class _Judged:
    posted: Posted
    verdicts: tuple[VibrationVerdict, ...]

    @property
    def answer(self) -> VibrationVerdict | VibrationVerdicts:
        return VibrationVerdicts(verdicts=self.verdicts) if self.posted.several else self.verdicts[0]


def _job(
    services: Services, model: servable.VibrationModel, body: bytes, kind: str, query: VibrationQuery, turn: Turn
) -> Callable[[], _Judged]:
    metrics = services.metrics

    def judge() -> _Judged:
        with metrics.stage("vibration", "decode"):
            posted = parse(body, kind, query, services.settings.max_samples)
        asset = posted.parameters.asset
        baseline = services.baseline(asset, model.ref.name)
        if asset is not None and baseline is not None:
            turn.take(asset)
        with metrics.stage("vibration", "inference"):
            verdicts = tuple(_judge(model, baseline, posted, index) for index in range(len(posted.signals)))
        for verdict in verdicts:
            if verdict.novelty is not None:
                metrics.anomaly.labels(verdict.novelty.model.name).observe(verdict.novelty.anomaly)
        if asset is not None and baseline is None:
            verdicts = tuple(
                verdict.model_copy(update={"quality": (*verdict.quality, NO_BASELINE)}) for verdict in verdicts
            )
        return _Judged(posted, verdicts)

    return judge


def _judge(
    model: servable.VibrationModel, baseline: servable.NoveltyModel | None, posted: Posted, index: int
) -> VibrationVerdict:
    parameters = posted.parameters
    try:
        return model.predict(
            posted.signals[index],
            posted.sampling_rate_hz,
            shaft_rpm=parameters.shaft_rpm,
            bearing=parameters.bearing,
            unit=parameters.unit,
            novelty=baseline,
        )
    except InputError as error:
        if not posted.several:
            raise
        raise InputError(error.code, f"signals[{index}]: {error.fact}", error.remedy) from error


def _observe(services: Services, asset: str, judged: _Judged, arrived: float) -> None:
    posted = judged.posted
    told = posted.parameters.model_dump(exclude_none=True, exclude={"sampling_rate_hz"})
    ended = arrived - sum(signal.size for signal in posted.signals) / posted.sampling_rate_hz
    for signal, verdict in zip(posted.signals, judged.verdicts, strict=True):
        ended += signal.size / posted.sampling_rate_hz
        services.assets.observe(asset, Window(signal, posted.sampling_rate_hz, told), verdict, ended=ended)
