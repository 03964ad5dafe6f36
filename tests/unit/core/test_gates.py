"""A model that does not compute what was trained is never registered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from almenara import gates, servable
from almenara.contracts import Candidate
from almenara.errors import GateError
from tests.support.packages import classifier_candidate, novelty_candidate, vision_candidate

FEATURES = len(classifier_candidate().probes[0])


def healthy() -> np.ndarray:
    return np.random.default_rng(3).normal(0, 1, (40, FEATURES)).astype(np.float32)


@pytest.fixture(params=["vision", "classifier", "novelty"])
def candidate(request: pytest.FixtureRequest) -> Candidate:
    if request.param == "vision":
        return vision_candidate()
    return classifier_candidate() if request.param == "classifier" else novelty_candidate(healthy())


def edited(candidate: Candidate, change: Callable[[onnx.GraphProto], None]) -> Candidate:
    model = onnx.load_from_string(candidate.graph)
    change(model.graph)
    return replace(candidate, graph=model.SerializeToString())


def check(candidate: Candidate, folder: Path) -> dict[str, float]:
    return gates.check(candidate, servable.write(candidate, folder / "package"))


def test_a_faithful_export_passes_every_gate(candidate: Candidate, tmp_path: Path) -> None:
    measured = check(candidate, tmp_path)
    assert measured["max_error"] <= 1
    assert measured["probes"] >= 64


def test_a_stray_graph_input_is_refused(candidate: Candidate, tmp_path: Path) -> None:
    def constant_becomes_input(graph: onnx.GraphProto) -> None:
        constant = next(each for each in graph.initializer if each.data_type == TensorProto.FLOAT)
        graph.initializer.remove(constant)
        graph.input.append(helper.make_tensor_value_info(constant.name, TensorProto.FLOAT, list(constant.dims)))

    with pytest.raises(GateError, match="one is wanted"):
        check(edited(candidate, constant_becomes_input), tmp_path)


def test_a_wrong_constant_is_refused(candidate: Candidate, tmp_path: Path) -> None:
    def one_percent_off(graph: onnx.GraphProto) -> None:
        constant = [each for each in graph.initializer if each.data_type == TensorProto.FLOAT][-1]
        wrong = numpy_helper.from_array((numpy_helper.to_array(constant) * np.float32(1.01)), constant.name)
        constant.CopyFrom(wrong)

    with pytest.raises(GateError, match="differs from the reference by"):
        check(edited(candidate, one_percent_off), tmp_path)


def test_a_flipped_label_is_refused() -> None:
    """Parity implies it on these graphs, so the gate is given outputs that the parity gate would not let through."""
    candidate = classifier_candidate()
    flipped = candidate.reference["probabilities"].copy()
    order = np.argsort(flipped[0])
    flipped[0, order[-1]], flipped[0, order[-2]] = flipped[0, order[-2]], flipped[0, order[-1]]
    with pytest.raises(GateError, match=r"1 of 64 probes get another label .* the first is probe 0"):
        gates._check_decisions(candidate, {"probabilities": flipped})


def test_a_graph_that_fails_on_single_inputs_is_refused(tmp_path: Path) -> None:
    """Right in batches, NaN for one input alone: a difference that no comparison with NaN would show."""

    def poison_single_inputs(graph: onnx.GraphProto) -> None:
        graph.node[-1].output[0] = "clean"
        constants = {"first": np.array(0, dtype=np.int64), "one_row": np.array(1, dtype=np.int64)}
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
        graph.initializer.append(numpy_helper.from_array(np.array([np.nan], dtype=np.float32), "nan"))
        graph.node.extend(
            [
                helper.make_node("Shape", ["clean"], ["shape"]),
                helper.make_node("Gather", ["shape", "first"], ["rows"]),
                helper.make_node("Equal", ["rows", "one_row"], ["alone"]),
                helper.make_node("Where", ["alone", "nan", "clean"], ["probabilities"]),
            ]
        )

    with pytest.raises(GateError, match="probe 0 alone differs"):
        check(edited(classifier_candidate(), poison_single_inputs), tmp_path)


def test_a_graph_that_differs_in_a_fresh_process_is_refused(tmp_path: Path) -> None:
    candidate = classifier_candidate()
    package = servable.write(candidate, tmp_path / "package")
    elsewhere = {name: values[:4] + np.float32(np.nan) for name, values in candidate.reference.items()}
    with pytest.raises(GateError, match="in a fresh process"):
        gates._check_fresh_process(candidate, package, elsewhere)


def test_a_missing_output_is_refused(tmp_path: Path) -> None:
    candidate = vision_candidate()
    with pytest.raises(GateError, match="no output 'depth'"):
        check(replace(candidate, reference={**candidate.reference, "depth": np.zeros(80)}), tmp_path)


def test_too_few_probes_are_refused(tmp_path: Path) -> None:
    candidate = vision_candidate()
    with pytest.raises(GateError, match="need 64 probes and there are 10"):
        check(replace(candidate, probes=candidate.probes[:10]), tmp_path)


def test_a_broken_graph_is_refused(candidate: Candidate, tmp_path: Path) -> None:
    with pytest.raises(GateError, match="does not load"):
        check(replace(candidate, graph=candidate.graph[:100]), tmp_path)
