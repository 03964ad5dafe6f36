"""From a package on disk to a model in service: it is what the registry says, and answers as its role must."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from almenara import servable
from almenara.contracts import BearingFeaturesInput, Card, ModelRef, Role
from almenara.errors import InputError
from almenara.vibration.features import BearingFeatures
from almenara_api.cache import Entry

_OUTPUT_BY_ROLE: Mapping[Role, str] = {"anomaly": "map", "classifier": "probabilities", "novelty": "score"}

Model = servable.VisionModel | servable.VibrationModel | servable.NoveltyModel


@dataclass(frozen=True)
class Loaded:
    """A version in service."""

    entry: Entry
    model: Model
    since: datetime


def load(entry: Entry, directory: Path) -> Loaded:
    """Load a package, check that it is what the registry says, and test it.

    Raises:
        InputError: the package is at fault: a file is missing or broken, the card contradicts the registry, or the
            graph does not answer as a model of its role must.
    """
    package = servable.load(directory)
    card = package.card
    if (card.task, card.role, card.asset) != (entry.task, entry.role, entry.asset):
        raise InputError(
            "package-card",
            f"The registry calls {entry.name} a {entry.task} {entry.role} of asset {entry.asset}, "
            f"its card a {card.task} {card.role} of asset {card.asset}.",
            "Register the model again.",
        )
    if isinstance(card.input, BearingFeaturesInput):
        BearingFeatures.from_input(card.input)
    self_test(package)
    ref = ModelRef(name=entry.name, version=entry.version, alias=entry.alias)
    return Loaded(entry, _model(package, ref), datetime.now(UTC))


def self_test(package: servable.Package) -> None:
    """Run the graph once, so that no request pays for the first run, and look at what comes out.

    Raises:
        InputError: the output that the role needs is missing, has another shape, or is not finite.
    """
    card = package.card
    output = _OUTPUT_BY_ROLE[card.role]
    if output not in package.output_names:
        raise _unfit(card, f"has no output {output!r}; it has {', '.join(package.output_names)}")
    rows = 1 if card.task == "vision" else 2  # windows come in batches, pictures one by one
    found = np.asarray(package.run(servable.empty_batch(card, rows))[output])
    wanted = _wanted_shape(card, rows)
    fits = len(found.shape) == len(wanted) and all(
        size == want or (want is None and size > 0) for size, want in zip(found.shape, wanted, strict=True)
    )
    if not fits:
        told = ", ".join("any" if want is None else str(want) for want in wanted)
        raise _unfit(card, f"answers {rows} input(s) with {output!r} of shape {found.shape}; ({told}) is wanted")
    if found.dtype.kind != "f" or not np.isfinite(found).all():
        raise _unfit(card, f"answers an input of zeros with {output!r} that is not finite")


def _wanted_shape(card: Card, rows: int) -> tuple[int | None, ...]:
    shapes: Mapping[Role, tuple[int | None, ...]] = {
        "anomaly": (rows, None, None),
        "classifier": (rows, len(card.labels)),
        "novelty": (rows,),
    }
    return shapes[card.role]


def _unfit(card: Card, fact: str) -> InputError:
    return InputError("package-graph", f"The graph of {card.name} {fact}.", "Export and register the model again.")


def _model(package: servable.Package, ref: ModelRef) -> Model:
    if package.card.role == "novelty":
        return servable.NoveltyModel(package, ref)
    if package.card.task == "vibration":
        return servable.VibrationModel(package, ref)
    return servable.VisionModel(package, ref)
