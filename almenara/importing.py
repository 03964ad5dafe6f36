"""A graph that was made elsewhere, with its card, on its way to the registry; what can be proved of it is checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import ValidationError

from almenara.calibration import interquartile_range
from almenara.contracts import BearingFeaturesInput, Candidate, Card, ImageInput, ModelRef, Role
from almenara.errors import AlmenaraError, GateError, InputError
from almenara.gates import RELATIVE_TOLERANCE
from almenara.servable import NoveltyModel, Package, VibrationModel, VisionModel
from almenara.vibration.bearings import bearing
from almenara.vibration.features import BearingFeatures
from almenara.vibration.windowing import LEAST_SECONDS, check_rate

MOST_GRAPH_BYTES = 512 << 20
MOST_CARD_BYTES = 16 << 20
LEAST_OPSET = 7  # the oldest that ONNX Runtime promises to run
MOST_WINDOW_SAMPLES = 200_000
MOST_PIXELS = 1024 * 1024
"""With these two the 64 probes are at most 200 MB of pictures or 100 MB of signals."""
MOST_HOPS = 16  # to a window; serving holds a window for every hop of a signal
PROBES = 64
OUTPUTS: Mapping[Role, str] = {"anomaly": "map", "classifier": "probabilities", "novelty": "score"}

_STANDARD = ("", "ai.onnx", "ai.onnx.ml")
_GUIDE = "docs/models.md shows whole cards, and how to print the input of a vibration model."
_RPM, _BEARING = 1800.0, "6205-2RS"


def read(graph_file: Path, card_file: Path) -> Candidate:
    """Read a graph and its card and check all that can be without its author's own framework.

    The graph must use standard operators only, hold its weights in one file of at most 512 MiB, take one input of the
    card's shape in batches of any size, and give the output of the card's role: finite, of the right shape, the same
    each time, and the same alone as in a batch. There is no reference of its training, so the candidate's is the graph
    itself, one input at a time.

    Returns:
        A candidate with 64 probes: zeros, random inputs, and features of simulated vibration.

    Raises:
        InputError: a file that cannot be read, or a card that is wrong, naming the field.
        GateError: the graph, naming the file, what is wrong and what to do.
    """
    card = _card(card_file)
    content = _content(graph_file, MOST_GRAPH_BYTES)
    model = _model(graph_file, content)
    _check_parts(graph_file, model)
    _check_borders(graph_file, model.graph, card)
    try:
        package = Package(card, content)
    except Exception as error:
        raise _unusable(graph_file, f"ONNX Runtime does not load it: {_line(error)}") from error
    probes = _probes(card)
    reference = _answers(graph_file, package, probes)
    _check_batches(graph_file, package, probes, reference)
    _check_verdict(graph_file, package)
    return Candidate(
        card=card,
        graph=content,
        probes=probes,
        reference={OUTPUTS[card.role]: reference},
        scales={OUTPUTS[card.role]: _scale(card)},
        parameters={"imported": graph_file.name[-200:], "sha256": hashlib.sha256(content).hexdigest()},
    )


def _content(file: Path, most: int) -> bytes:
    if file.stat().st_size > most:
        raise InputError(
            "import-too-large",
            f"{file} has {file.stat().st_size / 2**20:.0f} MiB and {most >> 20} MiB are taken.",
            "Use a smaller model, or store its weights as float16.",
        )
    return file.read_bytes()


def _card(file: Path) -> Card:
    try:
        card = Card.model_validate_json(_content(file, MOST_CARD_BYTES))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            "card-invalid", f"{file}: {where}: {first['msg']} (found {first['input']!r:.80}).", f"Correct it; {_GUIDE}"
        ) from error
    problem = next(_card_problems(card), None)
    if problem is not None:
        raise InputError("card-invalid", f"{file}: {problem}", _GUIDE)
    return card


def _card_problems(card: Card) -> Iterator[str]:
    vision = isinstance(card.input, ImageInput)
    if (card.task == "vision") != vision or (card.role == "anomaly") != vision:
        yield (
            f"role: a {card.task} {card.role} with {card.input.kind} input is not served; there are vision anomaly "
            "(image) and vibration classifier or novelty (bearing-features)."
        )
    if (card.role == "novelty") != (card.asset is not None):
        yield "asset: a novelty model names the one asset that it was commissioned for, and no other model does."
    if isinstance(card.input, BearingFeaturesInput):
        yield from _window_problems(card.input)
    elif card.input.height * card.input.width > MOST_PIXELS:
        yield (
            f"input: pictures have {card.input.height} x {card.input.width} pixels; at most {MOST_PIXELS} "
            "(1024 x 1024) are taken."
        )
    if len(set(card.labels)) < len(card.labels):
        yield "labels: two are alike."
    if card.role != "classifier":
        yield from _decision_problems(card)


def _window_problems(spec: BearingFeaturesInput) -> Iterator[str]:
    try:
        BearingFeatures.from_input(spec)
        check_rate(spec.sampling_rate_hz)
    except InputError as error:
        yield f"input: {error.fact}"
    samples = spec.window_seconds * spec.sampling_rate_hz
    if spec.window_seconds < LEAST_SECONDS or samples > MOST_WINDOW_SAMPLES:
        yield (
            f"input: a window has {samples:.3g} samples in {spec.window_seconds:g} s; at least {LEAST_SECONDS:g} s "
            f"and at most {MOST_WINDOW_SAMPLES} samples are taken."
        )
    if not spec.window_seconds / MOST_HOPS <= spec.hop_seconds <= spec.window_seconds:
        yield (
            f"input: hop_seconds is {spec.hop_seconds:g} and window_seconds {spec.window_seconds:g}; the hop is at "
            f"least 1/{MOST_HOPS} of a window and at most a whole one."
        )


def _decision_problems(card: Card) -> Iterator[str]:
    """Of a card whose model tells normal from anomalous."""
    scores = card.calibration_scores
    if len(card.labels) != 2:
        yield f"labels: {len(card.labels)} of them; this role has two, first the normal one."
    if card.threshold is None:
        yield "threshold: missing; verdicts need one."
    if not scores or list(scores) != sorted(scores):
        yield "calibration_scores: missing or not sorted; verdicts are scaled by these raw scores of normal data."
    if card.role == "anomaly" and (card.display_range is None or card.display_range[0] >= card.display_range[1]):
        yield "display_range: missing or empty; heatmaps are dark at and below its first number, full at its second."


def _model(file: Path, content: bytes) -> onnx.ModelProto:
    try:
        return onnx.load_model_from_string(content)
    except Exception as error:
        raise _unusable(file, f"it is no ONNX file: {_line(error)}") from error


def _check_parts(file: Path, model: onnx.ModelProto) -> None:
    """Standard operators and nothing outside the file; also inside loops, branches and functions."""
    functions = {(function.domain, function.name) for function in model.functions}
    for part in _parts(model):
        if isinstance(part, onnx.TensorProto) and part.data_location == onnx.TensorProto.EXTERNAL:
            raise _unusable(
                file,
                f"the weights {part.name!r} lie in another file.",
                "Save it as one file (save_as_external_data off).",
            )
        if isinstance(part, onnx.NodeProto) and part.domain not in _STANDARD:
            if (part.domain, part.op_type) in functions:
                continue
            raise _unusable(
                file,
                f"it uses the custom operator {part.domain}.{part.op_type}.",
                "Export it with operators of ONNX alone; an optimiser may have fused some: save it before that.",
            )
    opset = max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=LEAST_OPSET)
    if opset < LEAST_OPSET:
        raise _unusable(
            file, f"it is written in opset {opset} and {LEAST_OPSET} or newer is run.", "Export it anew, to opset 17."
        )
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise _unusable(file, f"it breaks ONNX's own rules: {_line(error)}") from error


def _check_borders(file: Path, graph: onnx.GraphProto, card: Card) -> None:
    constants = {constant.name for constant in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise _unusable(
            file,
            f"it has the inputs {', '.join(value.name for value in inputs) or '(none)'}; one is wanted.",
            "Make constants of the others.",
        )
    spec = card.input
    image = isinstance(spec, ImageInput)
    kind = onnx.TensorProto.UINT8 if image else onnx.TensorProto.FLOAT
    shape = (spec.height, spec.width, 3) if isinstance(spec, ImageInput) else (len(spec.feature_names),)
    _check_value(
        file,
        inputs[0],
        kind,
        shape,
        "Put cast, scaling and any transposition into the graph: it gets 8-bit RGB, rows first, n pictures at a time."
        if image
        else "It gets one row of the card's feature_names a window, n windows at a time.",
    )
    name = OUTPUTS[card.role]
    output = next((value for value in graph.output if value.name == name), None)
    if output is None:
        raise _unusable(
            file,
            f"it has no output {name!r}; it has {', '.join(value.name for value in graph.output)}.",
            f"Name the output of a {card.role} model {name!r} (skl2onnx: without zipmap).",
        )
    wanted = {"anomaly": (None, None), "classifier": (len(card.labels),), "novelty": ()}[card.role]
    _check_value(file, output, onnx.TensorProto.FLOAT, wanted, f"Reshape or cast it in the graph; {_GUIDE}")


def _check_value(file: Path, value: Any, kind: int, shape: tuple[int | None, ...], remedy: str) -> None:
    """What the graph declares of an input or output; dimensions that it leaves open are seen when it runs."""
    tensor = value.type.tensor_type
    dims = [each.dim_value if each.HasField("dim_value") else None for each in tensor.shape.dim]
    wanted = (None, *shape)
    declared = tensor.HasField("shape")
    fits = len(dims) == len(wanted) and all(
        found is None or expected in (None, found) for found, expected in zip(dims, wanted, strict=True)
    )
    if fits and dims[0] is not None:
        raise _unusable(
            file,
            f"{value.name!r} takes batches of {dims[0]} only; any number of them must do.",
            "Export it with a dynamic first dimension (dynamic_axes, dynamic_shapes, or None in the signature).",
        )
    if tensor.elem_type != kind or (declared and not fits):
        raise _unusable(
            file,
            f"{value.name!r} is {_described(tensor.elem_type, dims)}; {_described(kind, wanted)} is wanted.",
            remedy,
        )


def _described(kind: int, dims: Any) -> str:
    name = onnx.TensorProto.DataType.Name(kind).lower()
    name = {"float": "float32", "double": "float64", "undefined": "no tensor"}.get(name, name)
    return f"{name} ({', '.join('n' if each is None else str(each) for each in dims)})"


def _probes(card: Card) -> NDArray[Any]:
    rng = np.random.default_rng(0)
    if isinstance(card.input, BearingFeaturesInput):
        extractor = BearingFeatures.from_input(card.input)
        samples = round(extractor.window_seconds * extractor.sampling_rate_hz)
        signals = rng.normal(0, 1, (PROBES // 2, samples)) + 5 * (rng.random((PROBES // 2, samples)) < 0.01)
        described = extractor.describe(
            signals.astype(np.float32), extractor.sampling_rate_hz, _RPM, bearing(_BEARING)
        ).features
        rows = rng.normal(0, 1, (PROBES // 2, described.shape[1]))
        rows[0] = 0
        return np.concatenate([rows, described]).astype(np.float32)
    shape = (PROBES, card.input.height, card.input.width, 3)
    pictures = rng.integers(0, 256, shape, dtype=np.uint8)
    pictures //= rng.integers(1, 8, (PROBES, 1, 1, 1), dtype=np.uint8)
    pictures[0], pictures[1] = 0, 255
    return pictures


def _answers(file: Path, package: Package, probes: NDArray[Any]) -> NDArray[np.float64]:
    """The role's output for every probe alone, checked."""
    card = package.card
    name = OUTPUTS[card.role]
    found = [_run(file, package, probes[place : place + 1])[name] for place in range(len(probes))]
    again = _run(file, package, probes[:1])[name]
    ranks = {"anomaly": 3, "classifier": 2, "novelty": 1}
    shapes = {each.shape for each in found}
    if len(shapes) != 1 or found[0].ndim != ranks[card.role] or found[0].shape[0] != 1 or 0 in found[0].shape:
        raise _unusable(file, f"output {name!r} of one input has the shape {min(shapes)}.", _GUIDE)
    if not all(np.isfinite(each).all() for each in found):
        raise _unusable(
            file,
            f"output {name!r} is not finite for some of {PROBES} inputs (zeros, noise).",
            "Look for a division by zero, a logarithm, or an overflow of float16.",
        )
    if not np.array_equal(again, found[0]):
        raise _unusable(
            file,
            f"output {name!r} of the same input differs from run to run.",
            "Export it for inference, not training.",
        )
    answers = np.concatenate(found, dtype=np.float64)
    if card.role == "classifier" and (
        answers.shape[1] != len(card.labels) or answers.min() < 0 or np.abs(answers.sum(axis=1) - 1).max() > 1e-3
    ):
        raise _unusable(
            file,
            f"output {name!r} holds no probabilities of {len(card.labels)} labels: shape {answers.shape}, least "
            f"{answers.min():.3g}, sums {answers.sum(axis=1).min():.3g} to {answers.sum(axis=1).max():.3g}.",
            "End the graph with a softmax over the card's labels.",
        )
    return answers


def _check_batches(file: Path, package: Package, probes: NDArray[Any], alone: NDArray[np.float64]) -> None:
    """What one input gets may not depend on the others of its batch; inputs in fifths give batches of uneven size."""
    name, floor = OUTPUTS[package.card.role], _scale(package.card)
    for places in np.array_split(np.arange(len(probes)), 5):
        together = _run(file, package, probes[places])[name]
        allowed = RELATIVE_TOLERANCE * np.maximum(np.abs(alone[places]), floor)
        if together.shape != alone[places].shape or not (np.abs(together - alone[places]) <= allowed).all():
            raise _unusable(
                file,
                f"output {name!r} of a batch of {len(places)} is not that of its inputs one by one.",
                "Take normalisation over the batch out of the graph; export it for inference, not training.",
            )


def _run(file: Path, package: Package, inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
    try:
        return package.run(inputs)
    except Exception as error:
        raise _unusable(file, f"it does not run on a batch of {len(inputs)}: {_line(error)}") from error


def _check_verdict(file: Path, package: Package) -> None:
    """Raw input, as the API gets it, becomes a verdict."""
    card, ref, rng = package.card, ModelRef(name=package.card.name, version="unregistered"), np.random.default_rng(1)
    try:
        if isinstance(card.input, ImageInput):
            VisionModel(package, ref).predict(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8))
            return
        signal = rng.normal(0, 1, round(card.input.window_seconds * card.input.sampling_rate_hz))
        judge = VibrationModel if card.role == "classifier" else NoveltyModel
        judge(package, ref).predict(signal, card.input.sampling_rate_hz, shaft_rpm=_RPM, bearing=_BEARING)
    except AlmenaraError as error:
        raise _unusable(file, f"with its card it gives no verdict: {error.fact}", error.remedy) from error


def _scale(card: Card) -> float:
    """Floor of the gates' tolerance; never 0, which nothing would pass."""
    if card.role == "classifier" or card.threshold is None:
        return 0.01
    return interquartile_range(card.calibration_scores) or abs(card.threshold.value) or 1.0


def _parts(message: Any) -> Iterator[Any]:
    """A message and every message inside it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in (value,) if hasattr(value, "ListFields") else value:
                yield from _parts(part)


def _unusable(file: Path, fact: str, remedy: str = "") -> GateError:
    return GateError(f"{file}: {fact}", remedy)


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
