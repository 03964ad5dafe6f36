"""Tensors of the Open Inference Protocol: JSON and bytes, both ways, and everything that does not fit."""

from __future__ import annotations

import base64
import json
import tracemalloc
from typing import Any

import numpy as np
import pytest

from almenara.errors import InputError
from almenara_api.problems import Problem
from almenara_api.tensors import InferenceRequest, Output, files, numbers, parse, render

ROWS = [[1.5, -2.0], [0.25, 4.0]]
OUTPUTS = (Output("score", np.array([[0.1, 2.0]], np.float32)), Output("label", ["señal", "normal"]))


def body(data: object = ROWS, behind: bytes = b"", **changes: Any) -> tuple[bytes, str | None]:
    """A request's body and its header; None as a value leaves the field out."""
    tensor = {"name": "signal", "shape": [2, 2], "datatype": "FP32", "data": data} | changes
    head = json.dumps({"inputs": [{name: value for name, value in tensor.items() if value is not None}]}).encode()
    return head + behind, str(len(head)) if behind else None


def behind(content: bytes, size: object = None, **changes: Any) -> tuple[bytes, str | None]:
    size = len(content) if size is None else size
    return body(None, content, parameters={"binary_data_size": size} | changes.pop("parameters", {}), **changes)


def signal(posted: tuple[bytes, str | None], most: int = 100) -> np.ndarray:
    return numbers(parse(*posted, "signal")[1], "FP32", (-1, -1), most)


def pictures(posted: tuple[bytes, str | None], most: int = 3) -> list[bytes]:
    return files(parse(*posted, "signal")[1], most)


def element(content: bytes) -> bytes:
    return len(content).to_bytes(4, "little") + content


@pytest.mark.parametrize(
    "posted",
    [body(), body([1.5, -2, 0.25, 4]), behind(np.array(ROWS, "<f4").tobytes())],
    ids=["nested", "flat", "bytes"],
)
def test_numbers_come_the_same_from_json_and_from_bytes(posted: tuple[bytes, str | None]) -> None:
    found = signal(posted)
    assert found.dtype == np.float32
    assert found.tolist() == ROWS


def test_uint8_is_taken_exactly() -> None:
    posted = body([[0, 255], [7, 8]], datatype="UINT8")
    assert numbers(parse(*posted, "signal")[1], "UINT8", (-1, 2), 4).tolist() == [[0, 255], [7, 8]]


def test_files_come_the_same_as_base64_and_as_bytes() -> None:
    two = [b"\xff\xd8one", b""]
    encoded = [base64.b64encode(each).decode() for each in two]
    kind: dict[str, Any] = {"shape": [2], "datatype": "BYTES"}
    assert pictures(body(encoded, **kind)) == two
    assert pictures(behind(b"".join(map(element, two)), **kind)) == two
    as_text = b"".join(element(each.encode()) for each in encoded)
    assert pictures(behind(as_text, parameters={"content_type": "base64"}, **kind)) == two


@pytest.mark.parametrize(
    ("posted", "code"),
    [
        ((b"{", None), "json-invalid"),
        ((b"[1]", None), "request-invalid"),
        ((b'{"inputs": []}', None), "request-invalid"),
        (body(shape=[0, 4]), "request-invalid"),
        (body(shape=[2.0, 2]), "request-invalid"),
        (body(shape=["2", 2]), "request-invalid"),
        (body(data="1,2"), "request-invalid"),
        (body(name="other"), "tensor-name"),
        (body(None), "tensor-data"),
        (body(parameters={"binary_data_size": 4}), "tensor-data"),
        ((body()[0] + b"more", str(len(body()[0]))), "tensor-data"),
        ((body()[0], "9999"), "request-invalid"),
        ((body()[0], "-1"), "request-invalid"),
        ((body()[0], "²"), "request-invalid"),
        ((body()[0], "9" * 5000), "request-invalid"),
        (behind(b"\0" * 16, size=12), "tensor-data"),
        (behind(b"\0" * 16, size="16"), "tensor-data"),
        (behind(b"\0" * 12), "tensor-data"),
        (body(shape=[4]), "tensor-shape"),
        (body(shape=[4, 1]), "tensor-data"),
        (body(shape=[10**18, 10**18]), "batch-too-large"),
        (body(datatype="FP64"), "tensor-datatype"),
        (body([[1, 2], [3]]), "tensor-data"),
        (body([1, 2, 3]), "tensor-data"),
        (body([1, 2, 3, "4"]), "tensor-data"),
        (body([1, 2, 3, None]), "tensor-data"),
        (body([1, 2, 3, {"a": 4}]), "tensor-data"),
        (body([True, False, True, True]), "tensor-data"),
        (body(json.loads("[" * 80 + "]" * 80)), "tensor-data"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence(posted: tuple[bytes, str | None], code: str) -> None:
    with pytest.raises((InputError, Problem)) as refused:
        signal(posted)
    assert isinstance(refused.value, InputError | Problem)
    assert refused.value.code == code
    assert refused.value.fact.endswith(".")
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize("value", [-1, 256, 0.5])
def test_uint8_out_of_range_is_refused_and_not_wrapped(value: float) -> None:
    with pytest.raises(InputError, match=r"0 to 255|UINT8"):
        numbers(parse(*body([1, 2, 3, value], datatype="UINT8"), "signal")[1], "UINT8", (-1, -1), 100)


@pytest.mark.parametrize(
    ("posted", "words"),
    [
        (body(["no base64!"], shape=[1], datatype="BYTES"), r"signal\[0\] is no base64"),
        (body([7], shape=[1], datatype="BYTES"), r"signal\[0\] is no base64"),
        (body(["ñ"], shape=[1], datatype="BYTES"), r"signal\[0\] is no base64"),
        (body(["YQ==", "YQ=="], shape=[1], datatype="BYTES"), "needs 1"),
        (behind(element(b"a") * 9, shape=[2], datatype="BYTES"), "needs 2"),
        (behind(element(b"abcdef")[:-3], shape=[1], datatype="BYTES"), "6 bytes begins, and 3 follow"),
        (behind(b"\xff\xff\xff\xff", shape=[1], datatype="BYTES"), "and 0 follow"),
        (behind(b"\1", shape=[1], datatype="BYTES"), "and 0 follow"),
        (behind(element(b"a"), shape=[1, 1], datatype="BYTES"), "Send \\[-1\\]"),
        (behind(element(b"a") * 4, shape=[4], datatype="BYTES"), "at most 3"),
    ],
)
def test_files_that_do_not_fit_are_refused(posted: tuple[bytes, str | None], words: str) -> None:
    with pytest.raises((InputError, Problem), match=words):
        pictures(posted)


def test_an_answer_is_json_with_every_output_and_the_id() -> None:
    content, length = render(InferenceRequest.model_validate({"id": "7", "inputs": [_INPUT]}), "m", "3", OUTPUTS)
    assert length is None
    assert json.loads(content) == {
        "id": "7",
        "model_name": "m",
        "model_version": "3",
        "outputs": [
            {"name": "score", "datatype": "FP32", "shape": [1, 2], "data": [pytest.approx(0.1), 2.0]},
            {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["señal", "normal"]},
        ],
    }


def test_outputs_come_as_wished_as_bytes_or_as_json() -> None:
    wanted = [{"name": "label", "parameters": {"binary_data": True}}, {"name": "score"}]
    content, length = render(
        InferenceRequest.model_validate({"inputs": [_INPUT], "outputs": wanted}), "m", "3", OUTPUTS
    )
    assert length is not None
    head = json.loads(content[:length])
    assert [each["name"] for each in head["outputs"]] == ["label", "score"]
    texts = content[length:]
    assert texts == element("señal".encode()) + element(b"normal")
    assert head["outputs"][0]["parameters"] == {"binary_data_size": len(texts)}
    assert "data" not in head["outputs"][0]
    assert head["outputs"][1]["data"] == [pytest.approx(0.1), 2.0]
    assert "id" not in head


def test_an_output_that_the_model_does_not_give_is_named() -> None:
    request = InferenceRequest.model_validate({"inputs": [_INPUT], "outputs": [{"name": "heatmap"}]})
    with pytest.raises(InputError, match=r"no output 'heatmap'.*score, label"):
        render(request, "m", "3", OUTPUTS)


_INPUT = {"name": "signal", "shape": [1], "datatype": "FP32", "data": [1]}


@pytest.mark.parametrize("data", [["x" * 100_000, *[1] * 10_000], [["x" * 100_000], [1.0] * 10_000]])
def test_a_long_text_among_numbers_takes_no_memory(data: list[Any]) -> None:
    posted = body(data, shape=[1, 10_001])
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as refused:
            signal(posted, 20_000)
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()
    assert refused.value.code == "tensor-data"
