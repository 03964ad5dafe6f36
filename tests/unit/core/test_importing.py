"""A graph and a card that were made elsewhere become a candidate that passes the export gates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from almenara import gates, importing, servable
from almenara.contracts import Candidate
from almenara.errors import GateError, InputError
from almenara.vibration.features import BearingFeatures
from tests.support.packages import classifier_candidate, novelty_candidate, vision_candidate

FEATURES = len(classifier_candidate().probes[0])


@pytest.fixture(params=["vision", "classifier", "novelty"])
def foreign(request: pytest.FixtureRequest) -> Candidate:
    if request.param == "vision":
        return vision_candidate()
    if request.param == "classifier":
        return classifier_candidate()
    return novelty_candidate(np.random.default_rng(3).normal(size=(40, FEATURES)).astype(np.float32))


def files(candidate: Candidate, folder: Path) -> tuple[Path, Path]:
    written = servable.write(candidate, folder)
    return written / servable.GRAPH_FILE, written / servable.CARD_FILE


def test_every_role_is_read_and_passes_the_gates(foreign: Candidate, tmp_path: Path) -> None:
    read = importing.read(*files(foreign, tmp_path / "foreign"))
    assert (read.card, read.graph) == (foreign.card, foreign.graph)
    assert len(read.probes) == importing.PROBES
    assert gates.check(read, servable.write(read, tmp_path / "package"))["max_error"] <= 1


def test_a_card_of_another_role_names_the_output_that_is_missing(tmp_path: Path) -> None:
    graph, _ = files(classifier_candidate(), tmp_path / "graph")
    healthy = np.random.default_rng(3).normal(size=(40, FEATURES)).astype(np.float32)
    _, card = files(novelty_candidate(healthy), tmp_path / "card")
    with pytest.raises(GateError, match=r"model\.onnx: it has no output 'score'; it has probabilities"):
        importing.read(graph, card)


@pytest.mark.parametrize("hop", [1e-9, 0.06, 1.01])
def test_a_hop_that_makes_too_many_windows_or_leaves_gaps_is_refused(tmp_path: Path, hop: float) -> None:
    classifier = classifier_candidate()
    spec = BearingFeatures(window_seconds=1.0, hop_seconds=hop).to_input()
    foreign = replace(classifier, card=classifier.card.model_copy(update={"input": spec}))
    with pytest.raises(InputError, match=rf"input: hop_seconds is {hop:g} and window_seconds 1; the hop is at least"):
        importing.read(*files(foreign, tmp_path))


def test_inputs_whose_probes_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    vision, classifier = vision_candidate(), classifier_candidate()
    large = vision.card.input.model_copy(update={"height": 2048, "width": 513})
    with pytest.raises(InputError, match="2048 x 513 pixels; at most 1048576"):
        importing.read(*files(replace(vision, card=vision.card.model_copy(update={"input": large})), tmp_path / "v"))
    long = BearingFeatures(window_seconds=20.0, hop_seconds=10.0).to_input()
    with pytest.raises(InputError, match=r"a window has 2\.4e\+05 samples"):
        importing.read(
            *files(replace(classifier, card=classifier.card.model_copy(update={"input": long})), tmp_path / "c")
        )


@pytest.mark.parametrize(("limit", "name"), [("MOST_GRAPH_BYTES", "model.onnx"), ("MOST_CARD_BYTES", "card.json")])
def test_a_file_over_the_limit_is_not_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str, name: str
) -> None:
    monkeypatch.setattr(importing, limit, 100)
    with pytest.raises(InputError, match=rf"{name} has 0 MiB"):
        importing.read(*files(vision_candidate(), tmp_path))
