"""Vibration requests that wait at the same time are judged in one call: read each, describe all, run the graph once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from almenara import servable
from almenara.contracts import VibrationVerdict
from almenara.errors import InputError
from almenara_api.services import Services
from almenara_api.signals import Posted, VibrationQuery, parse
from almenara_api.turns import Turn

NO_BASELINE = "no_baseline"
"""Flag of a verdict whose asset has no commissioned baseline: no alarm can come of it."""


@dataclass(frozen=True)
class Body:
    """The body of a request, with what the rest of the request says of it.

    Attributes:
        content: the bytes.
        kind: media type, as `signals.parse` takes it.
        query: parameters of the query.
        turn: place of the request among those for its asset; taken once the asset is known to have a baseline.
    """

    content: bytes
    kind: str
    query: VibrationQuery
    turn: Turn


@dataclass(frozen=True)
class Judged:
    """What a request posted, and the verdict on each of its signals."""

    posted: Posted
    verdicts: tuple[VibrationVerdict, ...]


async def judge(services: Services, model: servable.VibrationModel, body: Body) -> Judged:
    """Judge a request in a thread of the pool, together with others that wait there for the same model.

    Raises:
        InputError: what is wrong with the body or one of its signals.
        Problem: 503, as `InferencePool.run` raises it.
    """
    together = partial(judge_stack, services, model)
    return await services.pool.run_together("vibration", together, body, key=model, size=len(body.content))


def judge_stack(services: Services, model: servable.VibrationModel, stack: Sequence[Body]) -> list[Judged | InputError]:
    """Judge requests in one go; one that cannot be judged gets its error, and touches no other."""
    stage = services.metrics.stage
    with stage("vibration", "decode"):
        read = [_read(services, model, body) for body in stack]
    asked = [each for one in read if not isinstance(one, InputError) for each in one[1]]
    with stage("vibration", "features"):
        prepared = model.prepare(asked)
    with stage("vibration", "inference"):
        outcomes = iter(model.judge(asked, prepared))
    return [
        one if isinstance(one, InputError) else _finish(services, one[0], list(islice(outcomes, len(one[1]))))
        for one in read
    ]


def _read(
    services: Services, model: servable.VibrationModel, body: Body
) -> tuple[Posted, list[servable.Asked]] | InputError:
    try:
        posted = parse(body.content, body.kind, body.query, services.settings.max_samples)
    except InputError as error:
        return error
    told = posted.parameters
    baseline = services.baseline(told.asset, model.ref.name)
    if told.asset is not None and baseline is not None:
        body.turn.take(told.asset)
    rate = posted.sampling_rate_hz
    return posted, [
        servable.Asked(signal, rate, told.shaft_rpm, told.bearing, told.unit, baseline) for signal in posted.signals
    ]


def _finish(
    services: Services, posted: Posted, outcomes: Sequence[VibrationVerdict | InputError]
) -> Judged | InputError:
    verdicts: list[VibrationVerdict] = []
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome, InputError):
            where = f"signals[{index}]: " if posted.several else ""
            return InputError(outcome.code, where + outcome.fact, outcome.remedy)
        flags = () if posted.parameters.asset is None or outcome.novelty is not None else (NO_BASELINE,)
        verdicts.append(outcome.model_copy(update={"quality": (*outcome.quality, *flags)}) if flags else outcome)
    for verdict in verdicts:
        services.metrics.show_vibration(verdict)
    return Judged(posted, tuple(verdicts))
