"""Export gates: what a packaged model must prove before it may be registered.

Run as `python -m almenara.gates PACKAGE PROBES OUT` this loads a package in a fresh process and saves its outputs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from almenara import servable
from almenara.contracts import Candidate, Card
from almenara.errors import AlmenaraError, GateError
from almenara.vision.verdict import score as image_score

RELATIVE_TOLERANCE = 1e-3
LEAST_PROBES = 64
FRESH_PROCESS_SECONDS = 120

Outputs = Mapping[str, NDArray[Any]]


def check(candidate: Candidate, directory: Path) -> dict[str, float]:
    """Run every gate on a written package.

    The gates: exactly one graph input; outputs within 1e-3 max(|reference|, s0) of an independent computation on at
    least 64 probes; no decision flipped where the reference's margin exceeds the tolerance; a batch equals its single
    inputs; load and predict in a fresh process.

    Returns:
        `max_error` (in units of the tolerance; 1 is the limit) and `probes`.

    Raises:
        GateError: the first gate that failed, with the figures.
    """
    name = candidate.card.name
    if len(candidate.probes) < LEAST_PROBES:
        raise GateError(f"{name}: the gates need {LEAST_PROBES} probes and there are {len(candidate.probes)}.")
    try:
        package = servable.load(directory)
    except AlmenaraError as error:
        raise GateError(f"{name}: the package does not load: {error.fact}", error.remedy) from error
    batch = _run_in_batches(package, candidate.probes)
    worst = _check_parity(candidate, batch)
    _check_decisions(candidate, batch)
    _check_single_inputs(package, candidate, batch)
    _check_fresh_process(candidate, directory, batch)
    return {"max_error": worst, "probes": float(len(candidate.probes))}


def _run_in_batches(package: servable.Package, probes: NDArray[Any], size: int = 16) -> dict[str, NDArray[Any]]:
    parts = [package.run(probes[start : start + size]) for start in range(0, len(probes), size)]
    return {name: np.concatenate([part[name] for part in parts]) for name in package.output_names}


def _tolerance(reference: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    return np.asarray(RELATIVE_TOLERANCE * np.maximum(np.abs(reference), scale))


def _close(found: NDArray[Any], expected: NDArray[Any], reference: NDArray[np.float64], scale: float) -> bool:
    """Whether two runs of the graph agree within the tolerance; a NaN never does."""
    return found.shape == expected.shape and bool(np.all(np.abs(found - expected) <= _tolerance(reference, scale)))


def _check_parity(candidate: Candidate, outputs: Outputs) -> float:
    """The largest error over every output, in units of the tolerance."""
    worst = 0.0
    for name, reference in candidate.reference.items():
        if name not in outputs:
            raise GateError(f"{candidate.card.name}: the graph has no output {name!r}; it has {', '.join(outputs)}.")
        found = np.asarray(outputs[name], dtype=np.float64)
        if found.shape != reference.shape:
            raise GateError(
                f"{candidate.card.name}: output {name!r} is {found.shape}, the reference {reference.shape}."
            )
        ratio = np.abs(found - reference) / _tolerance(reference, candidate.scales[name])
        largest = float(np.max(ratio)) if np.isfinite(found).all() else float("inf")
        if not largest <= 1:
            raise GateError(
                f"{candidate.card.name}: output {name!r} differs from the reference by {largest:.3g} times "
                f"the tolerance ({RELATIVE_TOLERANCE:g} of max(|reference|, {candidate.scales[name]:.3g})).",
                "The exported graph does not compute what was trained; it was not registered.",
            )
        worst = max(worst, largest)
    return worst


def _scores(outputs: Outputs, card: Card) -> NDArray[np.float64]:
    if card.role == "novelty":
        return np.asarray(outputs["score"], dtype=np.float64)
    return np.array([image_score(raw, card) for raw in outputs["map"]], dtype=np.float64)


def _check_decisions(candidate: Candidate, outputs: Outputs) -> None:
    """No probe whose reference is clear of the decision boundary by more than the tolerance may change sides."""
    card = candidate.card
    if card.role == "classifier":
        reference = candidate.reference["probabilities"]
        top_two = np.sort(reference, axis=1)[:, -2:]
        tolerance = _tolerance(reference, candidate.scales["probabilities"]).max(axis=1)
        flipped = reference.argmax(axis=1) != outputs["probabilities"].argmax(axis=1)
        flipped &= top_two[:, 1] - top_two[:, 0] > 2 * tolerance
    elif card.threshold is None:
        raise GateError(f"{card.name}: a model of role {card.role} needs a threshold in its card.")
    else:
        scale = candidate.scales["score" if card.role == "novelty" else "map"]
        expected, limit = _scores(candidate.reference, card), card.threshold.value
        flipped = (expected > limit) != (_scores(outputs, card) > limit)
        flipped &= np.abs(expected - limit) > _tolerance(expected, scale)
    if flipped.any():
        raise GateError(
            f"{card.name}: {int(flipped.sum())} of {flipped.size} probes get another label from the exported graph, "
            f"the first is probe {int(flipped.argmax())}."
        )


def _check_single_inputs(package: servable.Package, candidate: Candidate, batch: Outputs, singles: int = 8) -> None:
    for index in range(singles):
        alone = package.run(candidate.probes[index : index + 1])
        for name, reference in candidate.reference.items():
            if not _close(alone[name][0], batch[name][index], reference[index], candidate.scales[name]):
                raise GateError(
                    f"{candidate.card.name}: output {name!r} of probe {index} alone differs from the batch's."
                )


def _check_fresh_process(candidate: Candidate, directory: Path, batch: Outputs) -> None:
    """A child process loads the package with nothing in memory; a handful of probes is enough there."""
    few = candidate.probes[:4]
    with tempfile.TemporaryDirectory() as folder:
        probes, out = Path(folder, "probes.npy"), Path(folder, "out.npz")
        np.save(probes, few)
        command = [sys.executable, "-m", "almenara.gates", str(directory), str(probes), str(out)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=FRESH_PROCESS_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise GateError(
                f"{candidate.card.name}: a fresh process did not load it in {FRESH_PROCESS_SECONDS} s."
            ) from error
        if done.returncode:
            raise GateError(f"{candidate.card.name}: a fresh process cannot load it: {done.stderr.strip()[-400:]}")
        with np.load(out, allow_pickle=False) as saved:
            for name, reference in candidate.reference.items():
                if not _close(saved[name], batch[name][: len(few)], reference[: len(few)], candidate.scales[name]):
                    raise GateError(f"{candidate.card.name}: output {name!r} differs in a fresh process.")


if __name__ == "__main__":
    package_directory, probes_file, out_file = sys.argv[1:]
    outputs: dict[str, Any] = {**servable.load(package_directory).run(np.load(probes_file, allow_pickle=False))}
    np.savez(out_file, **outputs)
