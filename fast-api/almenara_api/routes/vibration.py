"""Vibration signals in, verdicts on the bearing out; with an asset's baseline also that asset's alarm."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import Field, ValidationError

from almenara.contracts import Contract, VibrationVerdict
from almenara_api import stacks
from almenara_api.assets import Answer
from almenara_api.bodies import media_type, read_body
from almenara_api.problems import Problem, responses
from almenara_api.repeats import Claim
from almenara_api.services import ModelName, Services, ServicesDependency
from almenara_api.shadow import judge_signals
from almenara_api.signals import FILES, JSON, RAW, Posted, VibrationJson, VibrationParameters, VibrationQuery, parse
from almenara_api.stacks import Judged
from almenara_api.turns import Turn

router = APIRouter(prefix="/v1", tags=["vibration"])


class VibrationVerdicts(Contract):
    """The verdicts on `signals`, in their order."""

    verdicts: tuple[VibrationVerdict, ...] = Field(min_length=1)


_LOG = logging.getLogger(__name__)
_KEY = Header(
    alias="Idempotency-Key",
    pattern=r"^[!-~]([ -~]{0,198}[!-~])?$",
    description="your own id of the request, such as a UUID; printable ASCII. Sent again with it, the request gets the "
    "first answer again, with the header Idempotent-Replayed, and moves no alarm",
)
_BINARY = {"type": "string", "format": "binary"}


def _parameters() -> list[dict[str, Any]]:
    """The query's parameters as OpenAPI has them."""
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema["description"],
            "schema": {key: value for key, value in schema.items() if (key, value) != ("default", None)},
        }
        for name, schema in VibrationQuery.model_json_schema()["properties"].items()
    ]


_OPENAPI: dict[str, Any] = {
    "parameters": _parameters(),
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
    },
}


async def _query(request: Request) -> VibrationQuery:
    """The query's parameters, all at once: FastAPI validates them one by one, which takes a fifth of a millisecond."""
    try:
        return VibrationQuery.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise RequestValidationError([{**each, "loc": ("query", *each["loc"])} for each in error.errors()]) from error


@router.post(
    "/vibration/{model}/predict",
    response_model=VibrationVerdict | VibrationVerdicts,
    responses=responses(400, 401, 404, 408, 409, 413, 415, 422, 503),
    openapi_extra=_OPENAPI,
    summary="Judge one vibration signal, or several",
)
async def predict(
    model: ModelName,
    request: Request,
    services: ServicesDependency,
    query: Annotated[VibrationQuery, Depends(_query)],
    key: Annotated[str | None, _KEY] = None,
) -> Response:
    """Judge a signal with the model's champion version; a long one is cut into windows and pooled.

    With an `asset` that has a commissioned baseline the verdict carries `novelty`, and that decides the asset's
    alarm. Without a baseline no alarm is ever raised: the classifier only names the fault, and `quality` holds
    `no_baseline`, as it does for a mistyped asset. `signals` count as
    recorded one after the other, the last one until `measured_at`, else until now.

    A repeat, known by its `Idempotency-Key` or else by asset, channel and `record_id`, gets the first answer again
    and moves no alarm. A window that is older than what was judged of its channel is flagged `late`: it joins the
    trend of the asset and changes no alarm.
    """
    found = services.vibration_model(model)
    kind = media_type(request, (JSON, RAW, *FILES))
    with services.metrics.stage("vibration", "read"):
        body = await read_body(request, services.settings.request_timeout_seconds)
    arrived, begun = time.monotonic(), time.perf_counter()
    asked = _Asked(request, model, key, kind, body)
    identity = None if key is None and kind == JSON else asked.identity(query)  # of JSON the body tells the rest
    if identity is not None and (given := await services.alarms.run(partial(asked.given, services, identity))):
        return _respond(services, Answer(given, "replayed"))
    with services.assets.turns.turn() as turn:
        read = partial(parse, body, kind, query, services.settings.max_samples)
        judged = await stacks.judge(services, found, stacks.Body(len(body), read, Judged, turn))
        answer = await _keep(services, judged, arrived, asked, turn)
    seconds = time.perf_counter() - begun
    first = judged.verdicts[0]
    services.usage.add(first.model, seconds)
    if first.novelty is not None:
        services.usage.add(first.novelty.model, seconds)
    baseline = services.baseline(judged.posted.parameters.asset, found.ref.name)
    response = _respond(services, answer)
    response.background = services.shadow.after_answer(judge_signals(judged.posted), found, baseline)
    return response


def _respond(services: Services, answer: Answer) -> Response:
    if answer.outcome is not None:
        services.metrics.asset_windows.labels(answer.outcome).inc()
    headers = {"Idempotent-Replayed": "true"} if answer.outcome == "replayed" else {}
    return Response(answer.content, media_type="application/json", headers=headers)


@dataclass(frozen=True)
class _Asked:
    """A request as it came."""

    request: Request
    model: str
    key: str | None
    kind: str
    body: bytes

    def identity(self, told: VibrationParameters) -> list[str] | None:
        """By which a repeat is known: the request's key, else its recording; None if by nothing."""
        caller: str | None = self.request.state.key
        if self.key is not None:
            return [caller or "", self.model, "key", self.key]
        if told.record_id is not None:
            return [caller or "", self.model, "record", told.asset or "", told.channel or "", told.record_id]
        return None

    def claim(self, identity: list[str]) -> Claim:
        """Takes a while with a long body."""
        return Claim.of(identity, self.request.query_params.multi_items(), self.kind, self.body)

    def given(self, services: Services, identity: list[str]) -> str | None:
        """The answer that it was given before; raises as `Answers.find`."""
        return services.assets.answers.find(self.claim(identity), datetime.now(UTC))


def _answer(posted: Posted, verdicts: tuple[VibrationVerdict, ...]) -> str:
    whole = VibrationVerdicts(verdicts=verdicts) if posted.several else verdicts[0]
    return whole.model_dump_json()


async def _keep(services: Services, judged: Judged, arrived: float, asked: _Asked, turn: Turn) -> Answer:
    """The answer, once alarm, trend and repeats have it; if nothing hangs on those, the verdict alone will do."""
    posted, verdicts = judged.posted, judged.verdicts
    asset, identity = posted.parameters.asset, asked.identity(posted.parameters)
    write = partial(_answer, posted)
    if asset is None and identity is None:
        return Answer(write(verdicts))

    def keep() -> Answer:
        claim = None if identity is None else asked.claim(identity)
        return services.assets.keep(posted, verdicts, arrived, claim, write)

    with services.metrics.stage("vibration", "alarm"):
        if turn.asset:
            await turn.come(services.settings.request_timeout_seconds)
        try:
            return await services.alarms.run(keep)
        except Problem as problem:
            if identity is not None or turn.asset:
                raise
            _LOG.warning("a verdict joins no trend", extra={"asset": asset, "reason": problem.fact})
            return Answer(write(verdicts), "lost")
