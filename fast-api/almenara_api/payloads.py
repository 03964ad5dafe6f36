"""MLflow's scoring payloads, and the tensor that one of our graphs is given from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from almenara.contracts import BearingFeaturesInput, Card
from almenara.errors import InputError

FORMS = ("inputs", "instances", "dataframe_split", "dataframe_records")
MOST_ROWS = {"vision": 64, "vibration": 1024}
"""Of one payload for a model of ours."""
_MOST_STRING_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Payload:
    """One of MLflow's forms, its content, and the parameters that go with it."""

    form: str
    value: Any
    params: dict[str, Any] | None


def read_payload(body: bytes) -> Payload:
    """Read a JSON body.

    Raises:
        InputError: it is no JSON object with exactly one of the forms.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InputError(
            "json-invalid", f"The body is no JSON: {error}.", "NaN and Infinity are none, either."
        ) from error
    keys = sorted(content) if isinstance(content, dict) else []
    forms = [key for key in keys if key in FORMS]
    strange = [key for key in keys if key not in (*FORMS, "params")]
    if len(forms) != 1 or strange:
        raise _invalid(
            f"The body has {', '.join(keys)[:200] or 'no keys'}", f"exactly one of {', '.join(FORMS)} is wanted"
        )
    params = content.get("params")
    if params is not None and not isinstance(params, dict):
        raise _invalid("`params` is no object", "it holds parameters by name")
    return Payload(forms[0], content[forms[0]], params)


def require_bounded(payload: Payload) -> None:
    """Refuse what NumPy would blow up: an array of strings is as wide as its longest.

    Raises:
        InputError: as an array the payload would take more than 256 MiB.
    """
    leaves, longest, waiting = 0, 1, [payload.value] if payload.form in ("inputs", "instances") else []
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
        else:
            leaves += 1
            longest = max(longest, len(each)) if isinstance(each, str) else longest
    if leaves * longest * 4 > _MOST_STRING_BYTES:
        raise _invalid(f"{leaves} values beside a string of {longest} characters are too many", "send fewer at once")


def tensor(payload: Payload, card: Card, input_name: str) -> NDArray[Any]:
    """What the graph is given: uint8 (n, height, width, 3) or float32 (n, features), by the card's input.

    Args:
        payload: as it was posted.
        card: of the model.
        input_name: of the graph's one input, which may name the tensor in `inputs` and in `instances`.

    Raises:
        InputError: the payload has another shape, too many rows, or values that the input cannot take.
    """
    spec = card.input
    if payload.params:
        raise _invalid("`params` is not empty", f"{card.name} has no parameters")
    if isinstance(spec, BearingFeaturesInput):
        wanted: tuple[int, ...] = (len(spec.feature_names),)
        columns = spec.feature_names
    else:
        wanted, columns = (spec.height, spec.width, 3), ()
    rows = _rows(payload, input_name, columns)
    values = _numbers(rows)
    if values.shape[1:] != wanted or not 1 <= len(values) <= MOST_ROWS[card.task]:
        raise _invalid(
            f"`{payload.form}` has the shape {values.shape}",
            f"{card.name} takes ({', '.join(map(str, ('n', *wanted)))}), n from 1 to {MOST_ROWS[card.task]}",
        )
    return _features(values) if columns else _pixels(values)


def _rows(payload: Payload, input_name: str, columns: tuple[str, ...]) -> Any:
    value = payload.value
    if payload.form == "inputs":
        return _named(value, input_name) if isinstance(value, dict) else value
    if payload.form == "instances":
        named = isinstance(value, list) and value and isinstance(value[0], dict)
        return [_named(each, input_name) for each in value] if named else value
    if not columns:
        raise _invalid(f"`{payload.form}` holds a table", "a picture is a tensor: send `inputs` or `instances`")
    if payload.form == "dataframe_split":
        return _split(value, columns)
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise _invalid("`dataframe_records` is no list of objects", "one object a row is wanted")
    return [[row[name] for name in columns] for row in value if _same_columns(list(row), columns)]


def _split(value: Any, columns: tuple[str, ...]) -> Any:
    data = value.get("data") if isinstance(value, dict) else None
    if not isinstance(data, list) or not all(isinstance(row, list) for row in data):
        raise _invalid("`dataframe_split` has no `data` with a list a row", "`columns` beside it may name the features")
    names = value.get("columns")
    if names is None:
        return data
    if not isinstance(names, list) or not _same_columns(names, columns):
        raise _invalid("`columns` is no list", "it names the features")
    if any(len(row) != len(names) for row in data):
        raise _invalid("a row of `data` has more or fewer values than `columns`", "one a column is wanted")
    order = [names.index(name) for name in columns]
    return [[row[index] for index in order] for row in data]


def _same_columns(names: list[Any], columns: tuple[str, ...]) -> bool:
    if len(names) == len(columns) and all(isinstance(name, str) for name in names) and set(names) == set(columns):
        return True
    missing = [name for name in columns if name not in names]
    strange = [str(name)[:80] for name in names if name not in columns]
    raise _invalid(
        f"The columns are not the model's features; missing: {', '.join(missing[:5]) or 'none'}, "
        f"unknown: {', '.join(strange[:5]) or 'none'}",
        f"all {len(columns)} are wanted once, in any order",
    )


def _named(value: Any, input_name: str) -> Any:
    if not isinstance(value, dict) or list(value) != [input_name]:
        raise _invalid("A named tensor has another name", f"the graph's one input is {input_name!r}")
    return value[input_name]


def _numbers(rows: Any) -> NDArray[np.float64]:
    try:
        return np.asarray(rows, dtype=np.float64)  # a dtype of numpy's choice could be one of long strings
    except (TypeError, ValueError) as error:
        raise _invalid(
            "The payload is ragged, or holds something else than numbers", "all rows have one shape"
        ) from error


def _features(values: NDArray[np.float64]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        features = values.astype(np.float32)
    if not np.isfinite(features).all():
        raise _invalid("A number is missing, or beyond float32", "features are finite float32 numbers")
    return features


def _pixels(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    if not ((values >= 0) & (values <= 255) & (values % 1 == 0)).all():
        raise _invalid("A value is no whole number from 0 to 255", "pixels are uint8, RGB")
    return values.astype(np.uint8)


def _invalid(fact: str, wanted: str) -> InputError:
    return InputError("payload-invalid", f"{fact}.", f"{wanted[0].upper()}{wanted[1:]}.")
