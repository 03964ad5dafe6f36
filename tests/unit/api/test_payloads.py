"""MLflow's scoring payloads become the tensor of a graph, or are refused with a sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from almenara.errors import InputError
from almenara_api.payloads import Payload, read_payload, require_bounded, tensor
from tests.support.packages import classifier_candidate, vision_candidate

CLASSIFIER, VISION = classifier_candidate().card, vision_candidate().card
NAMES: list[str] = CLASSIFIER.input.model_dump()["feature_names"]
ROW = [float(index) for index in range(len(NAMES))]
PICTURE = np.arange(32 * 32 * 3).reshape(32, 32, 3) % 256


def posted(**content: Any) -> Payload:
    return read_payload(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY))


FEATURES = [
    posted(inputs=[ROW, ROW]),
    posted(inputs={"features": [ROW, ROW]}),
    posted(instances=[ROW, ROW]),
    posted(instances=[{"features": ROW}, {"features": ROW}]),
    posted(dataframe_split={"data": [ROW, ROW]}),
    posted(dataframe_split={"columns": NAMES[::-1], "index": [0, 1], "data": [ROW[::-1], ROW[::-1]]}),
    posted(dataframe_records=[dict(zip(NAMES, ROW, strict=True))] * 2),
]


@pytest.mark.parametrize("payload", FEATURES)
def test_every_form_gives_the_same_features(payload: Payload) -> None:
    rows = tensor(payload, CLASSIFIER, "features")
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, [ROW, ROW])


@pytest.mark.parametrize(
    "payload", [posted(inputs=PICTURE[None]), posted(inputs={"image": PICTURE[None]}), posted(instances=PICTURE[None])]
)
def test_pictures_are_whole_numbers(payload: Payload) -> None:
    rows = tensor(payload, VISION, "image")
    assert rows.dtype == np.uint8
    np.testing.assert_array_equal(rows, PICTURE[None])


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "no keys"),
    ({"inputs": [ROW], "instances": [ROW]}, "Exactly one of"),
    ({"inputs": [ROW], "signature_name": "x"}, "signature_name"),
    ({"inputs": [ROW], "params": [1]}, "`params` is no object"),
    ({"inputs": [ROW], "params": {"top": 1}}, "has no parameters"),
    ({"inputs": ROW}, f"({len(ROW)},)"),
    ({"inputs": 5}, "shape ()"),
    ({"inputs": []}, "shape (0,)"),
    ({"inputs": [ROW] * 1025}, "n from 1 to 1024"),
    ({"inputs": [ROW, ROW[1:]]}, "ragged"),
    ({"inputs": [["a", *ROW[1:]]]}, "something else than numbers"),
    ({"inputs": [[None, *ROW[1:]]]}, "missing"),
    ({"inputs": [[1e39, *ROW[1:]]]}, "beyond float32"),
    ({"inputs": {"image": [ROW]}}, "'features'"),
    ({"instances": [{"features": ROW}, ROW]}, "'features'"),
    ({"dataframe_split": [ROW]}, "no `data`"),
    ({"dataframe_split": {"columns": NAMES, "data": [ROW[1:]]}}, "more or fewer values"),
    ({"dataframe_split": {"columns": ["x", *NAMES[1:]], "data": [ROW]}}, f"missing: {NAMES[0]}, unknown: x"),
    ({"dataframe_records": [ROW]}, "no list of objects"),
    ({"dataframe_records": [{NAMES[0]: 1}]}, f"missing: {NAMES[1]}"),
]


@pytest.mark.parametrize(("content", "fact"), WRONG)
def test_a_payload_that_does_not_fit_is_refused_with_what_is_wanted(content: dict[str, Any], fact: str) -> None:
    with pytest.raises(InputError) as refused:
        tensor(posted(**content), CLASSIFIER, "features")
    assert refused.value.code == "payload-invalid"
    assert fact in f"{refused.value.fact} {refused.value.remedy}"


@pytest.mark.parametrize("wrong", [256, -1, 0.5, None])
def test_pixels_outside_their_range_are_refused(wrong: float | None) -> None:
    picture: list[list[list[Any]]] = PICTURE.tolist()
    picture[0][0][0] = wrong
    with pytest.raises(InputError, match="whole number from 0 to 255"):
        tensor(posted(inputs=[picture]), VISION, "image")


def test_a_table_is_no_picture() -> None:
    with pytest.raises(InputError, match="holds a table"):
        tensor(posted(dataframe_split={"data": [[1]]}), VISION, "image")


@pytest.mark.parametrize("body", [b"", b"{", b"\x80", b'{"inputs": [NaN]}', b'{"inputs":' + b"[" * 5000])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(InputError) as refused:
        read_payload(body)
    assert refused.value.code == "json-invalid"


def test_a_long_string_among_many_values_is_refused_before_numpy_makes_them_all_as_wide() -> None:
    with pytest.raises(InputError, match="too many"):
        require_bounded(posted(inputs={"text": ["x" * 100_000, *["y"] * 1000]}))
    require_bounded(posted(dataframe_records=[{"text": "x" * 100_000}]))
    require_bounded(posted(inputs=[[1.5] * 1000] * 50))
