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

_MOST_READ_AT_ONCE = 2**17
"""Bytes of a body that is read on the event loop; longer ones are read in a thread."""

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


@dataclass(frozen=True)
class _Read(Generic[Post, Answer]):
    """A body that was read."""

    body: Body[Post, Answer]
    posted: Post
    asked: tuple[servable.Asked, ...]


async def judge(services: Services, model: servable.VibrationModel, body: Body[Post, Answer]) -> Answer:
    """Judge a request together with others that wait for the same model: in a thread, or at once where that is quick.

    Raises:
        InputError, Problem: what is wrong with the body or one of its signals.
        Problem: 503, as `InferencePool.run` raises it.
    """
    together = partial(judge_stack, services, model)
    if body.size > _MOST_READ_AT_ONCE:
        return await services.pool.run_together("vibration", together, body, key=model, size=body.size)
    with services.metrics.stage("vibration", "decode"):
        read = _read(services, model, body)
    if isinstance(read, AlmenaraError):
        raise read
    like = (model.ref.name, model.ref.version, read.posted.sampling_rate_hz, *map(len, read.posted.signals))
    return await services.pool.run_together("vibration", together, read, key=model, size=body.size, like=like)


def judge_stack(
    services: Services, model: servable.VibrationModel, stack: Sequence[Body[Any, Any] | _Read[Any, Any]]
) -> list[Any | AlmenaraError]:
    """Judge requests in one go; one that cannot be judged gets its error, and touches no other."""
    stage = services.metrics.stage
    with stage("vibration", "decode"):
        read = [each if isinstance(each, _Read) else _read(services, model, each) for each in stack]
    asked = [each for one in read if isinstance(one, _Read) for each in one.asked]
    with stage("vibration", "features"):
        prepared = model.prepare(asked)
    with stage("vibration", "inference"):
        outcomes = iter(model.judge(asked, prepared))
    return [
        _finish(services, one, list(islice(outcomes, len(one.asked)))) if isinstance(one, _Read) else one
        for one in read
    ]


def _read(
    services: Services, model: servable.VibrationModel, body: Body[Post, Answer]
) -> _Read[Post, Answer] | AlmenaraError:
    try:
        posted = body.read()
    except (InputError, Problem) as error:
        return error
    told = posted.parameters
    baseline = services.baseline(told.asset, model.ref.name)
    if told.asset is not None and baseline is not None and body.turn is not None:
        body.turn.take(told.asset)
    rate = posted.sampling_rate_hz
    asked = (
        servable.Asked(signal, rate, told.shaft_rpm, told.bearing, told.unit, baseline, told.machine)
        for signal in posted.signals
    )
    return _Read(body, posted, tuple(asked))


def _finish(
    services: Services, read: _Read[Post, Answer], outcomes: Sequence[VibrationVerdict | InputError]
) -> Answer | InputError:
    posted = read.posted
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
        return read.body.answer(posted, tuple(verdicts))
    except InputError as error:
        return error
