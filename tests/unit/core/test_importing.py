"""A graph and a card that were made elsewhere become a candidate that passes the export gates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from almenara import gates, importing, servable
from almenara.contracts import Candidate
from almenara.errors import GateError, InputError
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


@pytest.mark.parametrize(("limit", "name"), [("MOST_GRAPH_BYTES", "model.onnx"), ("MOST_CARD_BYTES", "card.json")])
def test_a_file_over_the_limit_is_not_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str, name: str
) -> None:
    monkeypatch.setattr(importing, limit, 100)
    with pytest.raises(InputError, match=rf"{name} has 0 MiB"):
        importing.read(*files(vision_candidate(), tmp_path))
