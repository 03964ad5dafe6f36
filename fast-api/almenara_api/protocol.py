"""What each kind of model takes and gives in the Open Inference Protocol."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from almenara import servable
from almenara.contracts import Contract, Novelty, VibrationVerdict, VisionVerdict
from almenara.errors import InputError
from almenara.vibration.signals import agreed_rate
from almenara_api import stacks
from almenara_api.loading import Model
from almenara_api.patience import left
from almenara_api.problems import sentence
from almenara_api.routes.vision import MOST_PICTURES
from almenara_api.services import Services
from almenara_api.shadow import Judge, Judgement, judge_pictures, judge_signals
from almenara_api.signals import Posted, VibrationParameters
from almenara_api.tensors import Given, InferenceRequest, Output, TensorMetadata, files, numbers, parse, render

PLATFORM = "onnxruntime_onnx"

_SIGNAL_PARAMETERS = ("sampling_rate_hz", "shaft_rpm", "bearing", "unit", "machine")
_OWN_PARAMETERS = frozenset({"binary_data_output"})

Verdict = TypeVar("Verdict", bound=Contract)


class ModelMetadata(Contract):
    """A model in service; its names and shapes are what its `infer` takes."""

    name: str
    versions: tuple[str, ...]
    platform: str = PLATFORM
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


def metadata(model: Model) -> ModelMetadata:
    """The tensors of a model."""

    def row(name: str, datatype: Any = "FP32", *more: int, **parameters: str) -> TensorMetadata:
        return TensorMetadata(name=name, datatype=datatype, shape=[-1, *more], parameters=dict(parameters))

    scores, texts = (row("anomaly"), row("score")), (row("label", "BYTES"), row("verdict", "BYTES"))
    taken, given = row("signal", "FP32", -1), [*scores, *texts]
    if isinstance(model, servable.VisionModel):
        taken = row("image", "UINT8", *_picture_shape(model))
    elif isinstance(model, servable.VibrationModel):
        labels = model.package.card.labels
        given = [row("probabilities", "FP32", len(labels), labels=",".join(labels)), *texts]
    return ModelMetadata(name=model.ref.name, versions=(model.ref.version,), inputs=(taken,), outputs=tuple(given))


@dataclass(frozen=True)
class Answer:
    """What a model says to a request.

    Attributes:
        body: of the answer.
        header_length: bytes of its JSON when tensors follow it as bytes.
        again: lets a challenger judge the same.
    """

    body: bytes
    header_length: int | None
    again: Judge


@dataclass(frozen=True)
class _Heard(Posted):
    """The signals of a request, and the rest of it."""

    request: InferenceRequest = field(kw_only=True)


async def infer(services: Services, model: Model, body: bytes, header_length: str | None) -> Answer:
    """Answer a request in a thread of the pool; those for a classifier join the windows of its typed route.

    Raises:
        InputError: what is wrong with the request or one of its pictures or signals.
        Problem: 413 for too many; 503, as `InferencePool.run` raises it.
    """
    if isinstance(model, servable.VibrationModel):
        read = partial(_hear, services, body, header_length)
        return await stacks.judge(services, model, stacks.Body(len(body), read, partial(_classified, model)))
    if isinstance(model, servable.VisionModel):
        return await services.pool.run("vision", partial(_see, services, model, body, header_length))
    return await services.pool.run("vibration", partial(_compare, services, model, body, header_length))


def _see(services: Services, model: servable.VisionModel, body: bytes, header_length: str | None) -> Answer:
    most = services.settings.max_pixels
    with services.metrics.stage("vision", "decode"):
        request, given = parse(body, header_length, "image")
        _parameters(request, ())
        if given.tensor.datatype == "BYTES":
            sent = files(given, MOST_PICTURES)
            pictures: Iterable[NDArray[np.uint8]] = (model.decode(file, max_pixels=most) for file in sent)
            again = judge_pictures(sent, most)
        else:
            pictures = pixels = _pixels(given, model)
            again = _judge_pixels(pixels)

    def judge(image: NDArray[np.uint8]) -> VisionVerdict:
        with services.metrics.stage("vision", "inference"):
            verdict = model.predict(image).verdict
        services.metrics.show_anomaly(model.ref, verdict.anomaly)
        return verdict

    return _answer(model, request, _scored(_each(services, "image", pictures, judge)), again)


def _hear(services: Services, body: bytes, header_length: str | None) -> _Heard:
    request, given = parse(body, header_length, "signal")
    told = _parameters(request, _SIGNAL_PARAMETERS)
    rate = agreed_rate(told.sampling_rate_hz, None, "The request")
    signals = numbers(given, "FP32", (-1, -1), services.settings.max_samples)
    return _Heard(tuple(signals), several=True, sampling_rate_hz=rate, parameters=told, name="signal", request=request)


def _classified(model: servable.VibrationModel, heard: _Heard, verdicts: Sequence[VibrationVerdict]) -> Answer:
    outputs = _probabilities(verdicts, model.package.card.labels), *_told(verdicts)
    return _answer(model, heard.request, outputs, judge_signals(heard))


def _compare(services: Services, model: servable.NoveltyModel, body: bytes, header_length: str | None) -> Answer:
    with services.metrics.stage("vibration", "decode"):
        heard = _hear(services, body, header_length)
    told, rate = heard.parameters, heard.sampling_rate_hz
    context: dict[str, Any] = {"shaft_rpm": told.shaft_rpm, "bearing": told.bearing, "unit": told.unit}
    with services.metrics.stage("vibration", "inference"):
        novelties = _each(services, "signal", heard.signals, lambda one: model.predict(one, rate, **context))
    for novelty in novelties:
        services.metrics.show_anomaly(model.ref, novelty.anomaly)
    return _answer(model, heard.request, _scored(novelties), judge_signals(heard))


def _answer(model: Model, request: InferenceRequest, outputs: Sequence[Output], again: Judge) -> Answer:
    return Answer(*render(request, model.ref.name, model.ref.version, outputs), again)


def _each(services: Services, name: str, items: Iterable[Any], judge: Callable[[Any], Verdict]) -> list[Verdict]:
    """The verdict on each item; an error names the item, and nothing goes on after the request's deadline."""
    over = time.monotonic() + left(services.settings.request_timeout_seconds)
    verdicts: list[Verdict] = []
    try:
        for item in items:
            if time.monotonic() > over:
                raise TimeoutError  # the client has been told
            verdicts.append(judge(item))
    except InputError as error:
        raise InputError(error.code, f"{name}[{len(verdicts)}]: {error.fact}", error.remedy) from error
    return verdicts


def _parameters(request: InferenceRequest, known: Sequence[str]) -> VibrationParameters:
    given = {name: value for name, value in request.parameters.items() if name not in _OWN_PARAMETERS}
    strange = [name[:40] for name in given if name not in known]
    if strange:
        raise InputError(
            "parameters-invalid",
            f"This model takes no parameter {', '.join(strange)}.",
            f"It takes {', '.join(known) or 'none'}. An asset, with its alarm, is for /v1/vibration/NAME/predict.",
        )
    try:
        return VibrationParameters.model_validate(given, strict=True)
    except ValidationError as error:
        fact = "; ".join(sentence(each) for each in error.errors())
        raise InputError("parameters-invalid", f"parameters.{fact}.", "See the route under /docs.") from error


def _pixels(given: Given, model: servable.VisionModel) -> NDArray[np.uint8]:
    height, width, channels = _picture_shape(model)
    most = MOST_PICTURES * height * width * channels
    return numbers(given, "UINT8", (-1, height, width, channels), most)


def _judge_pixels(pictures: NDArray[np.uint8]) -> Judge:
    def judge(model: Model) -> Sequence[Judgement]:
        assert isinstance(model, servable.VisionModel)  # noqa: S101  a name keeps its role
        return [Judgement.of(model.predict(image).verdict) for image in pictures]

    return judge


def _picture_shape(model: servable.VisionModel) -> tuple[int, int, int]:
    _, height, width, channels = servable.empty_batch(model.package.card, 1).shape
    return height, width, channels


def _scored(verdicts: Sequence[VisionVerdict] | Sequence[Novelty]) -> tuple[Output, ...]:
    anomaly = np.array([each.anomaly for each in verdicts], np.float32)
    score = np.array([each.score for each in verdicts], np.float32)
    return Output("anomaly", anomaly), Output("score", score), *_told(verdicts)


def _probabilities(verdicts: Sequence[VibrationVerdict], labels: Sequence[str]) -> Output:
    rows = [[verdict.probabilities[label] for label in labels] for verdict in verdicts]
    return Output("probabilities", np.array(rows, np.float32))


def _told(verdicts: Sequence[VisionVerdict] | Sequence[VibrationVerdict] | Sequence[Novelty]) -> tuple[Output, ...]:
    labels, whole = [each.label for each in verdicts], [each.model_dump_json() for each in verdicts]
    return Output("label", labels), Output("verdict", whole)
