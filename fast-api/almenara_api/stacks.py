"""Vibration requests that wait at the same time are judged in one call: read each, describe all, run the graph once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar

from almenara import servable
from almenara.contracts import VibrationVerdict
from almenara.errors import AlmenaraError, InputError
from almenara_api.problems import Problem
from almenara_api.services import Services
from almenara_api.signals import Posted
from almenara_api.turns import Turn

NO_BASELINE = "no_baseline"
"""Flag of a verdict whose asset has no commissioned baseline: no alarm can come of it."""

Post = TypeVar("Post", bound=Posted)
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Body(Generic[Post, Answer]):
    """The body of a request, and what is done with it in a thread of the pool.

    Attributes:
        size: in bytes.
        read: the signals that it holds; may raise InputError or Problem.
        answer: what to make of those and the verdict on each; may raise InputError.
        turn: place of the request among those for its asset; taken once the asset is known to have a baseline.
    """

    size: int
    read: Callable[[], Post]
    answer: Callable[[Post, tuple[VibrationVerdict, ...]], Answer]
    turn: Turn | None = None


@dataclass(frozen=True)
class Judged:
    """What a request posted, and the verdict on each of its signals."""

    posted: Posted
    verdicts: tuple[VibrationVerdict, ...]


async def judge(services: Services, model: servable.VibrationModel, body: Body[Post, Answer]) -> Answer:
    """Judge a request in a thread of the pool, together with others that wait there for the same model.

    Raises:
        InputError, Problem: what is wrong with the body or one of its signals.
        Problem: 503, as `InferencePool.run` raises it.
    """
    together = partial(judge_stack, services, model)
    return await services.pool.run_together("vibration", together, body, key=model, size=body.size)


def judge_stack(
    services: Services, model: servable.VibrationModel, stack: Sequence[Body[Any, Any]]
) -> list[Any | AlmenaraError]:
    """Judge requests in one go; one that cannot be judged gets its error, and touches no other."""
    stage = services.metrics.stage
    with stage("vibration", "decode"):
        read = [_read(services, model, body) for body in stack]
    asked = [each for one in read if not isinstance(one, AlmenaraError) for each in one[1]]
    with stage("vibration", "features"):
        prepared = model.prepare(asked)
    with stage("vibration", "inference"):
        outcomes = iter(model.judge(asked, prepared))
    return [
        one if isinstance(one, AlmenaraError) else _finish(services, body, one[0], list(islice(outcomes, len(one[1]))))
        for body, one in zip(stack, read, strict=True)
    ]


def _read(
    services: Services, model: servable.VibrationModel, body: Body[Post, Answer]
) -> tuple[Post, list[servable.Asked]] | AlmenaraError:
    try:
        posted = body.read()
    except (InputError, Problem) as error:
        return error
    told = posted.parameters
    baseline = services.baseline(told.asset, model.ref.name)
    if told.asset is not None and baseline is not None and body.turn is not None:
        body.turn.take(told.asset)
    rate = posted.sampling_rate_hz
    return posted, [
        servable.Asked(signal, rate, told.shaft_rpm, told.bearing, told.unit, baseline, told.machine)
        for signal in posted.signals
    ]


def _finish(
    services: Services, body: Body[Post, Answer], posted: Post, outcomes: Sequence[VibrationVerdict | InputError]
) -> Answer | InputError:
    verdicts: list[VibrationVerdict] = []
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome, InputError):
            where = f"{posted.name}[{index}]: " if posted.several else ""
            return InputError(outcome.code, where + outcome.fact, outcome.remedy)
        flags = () if posted.parameters.asset is None or outcome.novelty is not None else (NO_BASELINE,)
        verdicts.append(outcome.model_copy(update={"quality": (*outcome.quality, *flags)}) if flags else outcome)
    for verdict in verdicts:
        services.metrics.show_vibration(verdict)
    try:
        return body.answer(posted, tuple(verdicts))
    except InputError as error:
        return error
