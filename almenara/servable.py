"""The packaged model, a directory with an ONNX graph and card.json: load it, run it, turn raw input into a verdict."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import ValidationError

from almenara.contracts import (
    BearingFeaturesInput,
    Candidate,
    Card,
    ImageInput,
    Machine,
    ModelRef,
    Novelty,
    VibrationVerdict,
    VisionVerdict,
)
from almenara.errors import InputError
from almenara.vibration import verdict as vibration
from almenara.vibration.bearings import bearing as bearing_by_designation
from almenara.vibration.severity import severity
from almenara.vision import images
from almenara.vision import verdict as vision

Spec = TypeVar("Spec", ImageInput, BearingFeaturesInput)

GRAPH_FILE = "model.onnx"
CARD_FILE = "card.json"


class Package:
    """A loaded package. `run` may be called from several threads; each call computes on its caller's thread.

    Attributes:
        card: the model card.
        input_name: name of the graph's one input.
        output_names: names of the graph's outputs.
    """

    def __init__(self, card: Card, graph: bytes | str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.card = card
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise InputError(
                "package-graph",
                f"The graph of {card.name} has inputs {', '.join(i.name for i in inputs)}; one is wanted.",
                "Export it again: constants must not become graph inputs.",
            )
        self.input_name: str = inputs[0].name
        self.output_names: tuple[str, ...] = tuple(output.name for output in self._session.get_outputs())

    def run(self, inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Run the graph on a batch: uint8 (n, height, width, 3) or float32 (n, features), by the card's input."""
        return dict(zip(self.output_names, self._session.run(None, {self.input_name: inputs}), strict=True))


@dataclass(frozen=True)
class VisionResult:
    """A verdict and the raw map that it was reduced from: float32, shape (h, w) of the graph's output."""

    verdict: VisionVerdict
    map: NDArray[np.float32]


class VisionModel:
    """From a picture to a verdict.

    Attributes:
        input: of the card.
        enough: (height, width) below which `decode` reduces no JPEG; None where the card does not allow it at all.
        jpeg_quality: at which pictures are to be encoded that are sent to this model, 95 or 100.
    """

    def __init__(self, package: Package, ref: ModelRef) -> None:
        self.package, self.ref = package, ref
        self.input = _input(package.card, ImageInput)
        reduced, sent = self.input.reduced_decoding, self.input.reencoding
        self.enough = images.enough_for(self.input) if reduced and reduced.allowed else None
        self._most_divisor = reduced.divisor if reduced else 1
        self.jpeg_quality = images.SENT_QUALITY if sent and sent.allowed else images.EXACT_QUALITY

    def decode(self, body: bytes, *, max_pixels: int, name: str = "The picture") -> NDArray[np.uint8]:
        """The picture to judge, uint8 RGB; smaller than the file's where the card allows. Raises as images.decode."""
        return images.decode(
            body, max_pixels=max_pixels, enough=self.enough, most_divisor=self._most_divisor, name=name
        )

    def predict(self, image: NDArray[np.uint8]) -> VisionResult:
        """Judge one picture, uint8 RGB of shape (height, width, 3), any size."""
        batch = images.prepare(image, self.input)[None]
        raw = self.package.run(batch)["map"][0]
        return VisionResult(vision.verdict(raw, self.package.card, self.ref), raw)


class NoveltyModel:
    """The commissioning baseline of one asset: how unlike its healthy days a signal is."""

    def __init__(self, package: Package, ref: ModelRef) -> None:
        self.package, self.ref = package, ref
        self.card = package.card
        self.input = _input(package.card, BearingFeaturesInput)

    def predict(
        self,
        signal: NDArray[Any],
        sampling_rate_hz: float,
        *,
        shaft_rpm: float | None = None,
        bearing: str | None = None,
        unit: str | None = None,
    ) -> Novelty:
        """Judge one signal of shape (samples,); the arguments are those of VibrationModel.predict."""
        return self.judge(_prepare(signal, sampling_rate_hz, shaft_rpm, bearing, unit, self.input))

    def judge(self, prepared: vibration.Prepared) -> Novelty:
        """Judge a signal that was prepared for this model's input."""
        scores = self.package.run(prepared.features)["score"]
        return vibration.novelty(scores, self.card, self.ref, prepared.quality)


@dataclass(frozen=True)
class Asked:
    """One signal to judge, with what is known of it; the fields are the arguments of `VibrationModel.predict`."""

    signal: NDArray[Any]
    sampling_rate_hz: float
    shaft_rpm: float | None = None
    bearing: str | None = None
    unit: str | None = None
    novelty: NoveltyModel | None = None
    machine: Machine | None = None

    @property
    def recorded(self) -> vibration.Recorded:
        """The signal; InputError for an unknown bearing."""
        geometry = bearing_by_designation(self.bearing) if self.bearing else None
        return vibration.Recorded(self.signal, self.sampling_rate_hz, self.shaft_rpm, geometry, self.unit)


class VibrationModel:
    """From a raw vibration signal to a verdict: the classifier names the fault, a baseline decides the alarm."""

    def __init__(self, classifier: Package, ref: ModelRef) -> None:
        self.package, self.ref = classifier, ref
        self.input = _input(classifier.card, BearingFeaturesInput)

    def predict(
        self,
        signal: NDArray[Any],
        sampling_rate_hz: float,
        *,
        shaft_rpm: float | None = None,
        bearing: str | None = None,
        unit: str | None = None,
        novelty: NoveltyModel | None = None,
        machine: Machine | None = None,
    ) -> VibrationVerdict:
        """Judge one signal of shape (samples,); longer ones are cut into windows and pooled.

        Args:
            signal: acceleration, any real dtype.
            sampling_rate_hz: of the signal; never assumed.
            shaft_rpm: revolutions a minute.
            bearing: designation, such as 6205-2RS.
            unit: of the samples, repeated in the verdict. A baseline converts between g and m/s²; without a unit it
                judges the samples as they are, and the verdict's quality says `unit_assumed`, but has no severity.
            novelty: baseline of the asset that the signal came from.
            machine: its group and support in ISO 20816-3, by which the severity has a zone.

        Raises:
            InputError: the signal cannot be judged (not finite, constant, too short, unknown bearing, a unit that
                is not the baseline's).
        """
        asked = [Asked(signal, sampling_rate_hz, shaft_rpm, bearing, unit, novelty, machine)]
        (verdict,) = self.judge(asked, self.prepare(asked))
        if isinstance(verdict, InputError):
            raise verdict
        return verdict

    def prepare(self, asked: Sequence[Asked]) -> list[vibration.Prepared | InputError]:
        """Describe many signals at once; one that cannot be judged gives its error and touches no other."""
        recorded: dict[int, vibration.Recorded] = {}
        refused: dict[int, InputError] = {}
        for index, each in enumerate(asked):
            try:
                recorded[index] = each.recorded
            except InputError as error:
                refused[index] = error
        described = vibration.prepare_many(list(recorded.values()), self.input)
        found = dict(zip(recorded, described, strict=True)) | refused
        return [found[index] for index in range(len(asked))]

    def judge(
        self, asked: Sequence[Asked], prepared: Sequence[vibration.Prepared | InputError]
    ) -> list[VibrationVerdict | InputError]:
        """Judge signals that `prepare` described, in one run of the classifier; errors stay where they are."""
        good = [each for each in prepared if not isinstance(each, InputError)]
        if not good:
            return [each for each in prepared if isinstance(each, InputError)]
        probabilities = self.package.run(np.concatenate([each.features for each in good]))["probabilities"]
        parts = iter(np.split(probabilities, np.cumsum([each.windows for each in good])[:-1]))
        verdicts: list[VibrationVerdict | InputError] = []
        for each, described in zip(asked, prepared, strict=True):
            if isinstance(described, InputError):
                verdicts.append(described)
                continue
            part = next(parts)
            try:
                novelty = self._novelty(each, described)
                graded = severity(each.signal, each.sampling_rate_hz, each.shaft_rpm, each.unit, each.machine)
            except InputError as error:
                verdicts.append(error)
            else:
                card = self.package.card
                verdicts.append(vibration.verdict(described, part, card, self.ref, novelty, each.unit, graded))
        return verdicts

    def _novelty(self, asked: Asked, prepared: vibration.Prepared) -> Novelty | None:
        if asked.novelty is None:
            return None
        if asked.novelty.input == self.input:
            return asked.novelty.judge(prepared)
        (own,) = vibration.prepare_many([asked.recorded], asked.novelty.input)
        if isinstance(own, InputError):
            raise own
        return asked.novelty.judge(own)


def write(candidate: Candidate, directory: Path) -> Path:
    """Write a candidate as a package directory and return it."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / GRAPH_FILE).write_bytes(candidate.graph)
    (directory / CARD_FILE).write_text(candidate.card.model_dump_json(indent=2), encoding="utf-8")
    return directory


def load(directory: str | os.PathLike[str]) -> Package:
    """Load a package directory.

    Raises:
        InputError: a file is missing or broken, or the card asks for something this version does not know.
    """
    folder = Path(directory)
    for name in (CARD_FILE, GRAPH_FILE):
        if not (folder / name).is_file():
            raise InputError(
                "package-incomplete", f"{folder} holds no {name}.", "Download or register the model again."
            )
    try:
        card = Card.model_validate_json((folder / CARD_FILE).read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            "package-card",
            f"{folder / CARD_FILE}: {where}: {first['msg']} (found {first['input']!r:.80}).",
            "A newer Almenara wrote it, or it was edited: upgrade almenara or register the model again.",
        ) from error
    try:
        return Package(card, str(folder / GRAPH_FILE))
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            "package-graph", f"{folder / GRAPH_FILE} is no usable ONNX graph: {error}".strip()[:400]
        ) from error


def empty_batch(card: Card, size: int) -> NDArray[Any]:
    """Zeros of the shape and type that the card's graph takes."""
    spec = card.input
    if isinstance(spec, ImageInput):
        return np.zeros((size, spec.height, spec.width, 3), dtype=np.uint8)
    return np.zeros((size, len(spec.feature_names)), dtype=np.float32)


def _input(card: Card, kind: type[Spec]) -> Spec:
    if not isinstance(card.input, kind):
        raise InputError("package-task", f"{card.name} is a {card.task} model and takes {card.input.kind} input.")
    return card.input


def _prepare(
    signal: NDArray[Any],
    sampling_rate_hz: float,
    shaft_rpm: float | None,
    bearing: str | None,
    unit: str | None,
    spec: BearingFeaturesInput,
) -> vibration.Prepared:
    geometry = bearing_by_designation(bearing) if bearing else None
    return vibration.prepare(signal, sampling_rate_hz, shaft_rpm, geometry, spec, unit)
