"""The generic route's answer for graphs that say more than their role needs."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import onnx
import orjson
from onnx import TensorProto, helper

from almenara_api.loading import load
from almenara_api.routes.scoring import _run
from tests.support.api import entry_of
from tests.support.packages import classifier_candidate, write_package


def test_text_outputs_of_an_imported_graph_are_answered_too(tmp_path: Path) -> None:
    candidate = classifier_candidate()
    model = onnx.load_from_string(candidate.graph)
    model.graph.node.append(helper.make_node("Constant", [], ["label"], value_strings=["normal"]))
    model.graph.output.append(helper.make_tensor_value_info("label", TensorProto.STRING, [1]))
    package = write_package(replace(candidate, graph=model.SerializeToString()), tmp_path / "package")
    loaded = load(entry_of(candidate.card), package)
    body = orjson.dumps({"inputs": [[0.0] * 116]})
    answer = orjson.loads(_run(loaded, body, time.monotonic() + 60))
    assert answer["predictions"]["label"] == ["normal"]
    assert len(answer["predictions"]["probabilities"][0]) == 4
    assert answer["model"]["version"] == "1"
