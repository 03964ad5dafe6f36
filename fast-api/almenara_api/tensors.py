"""The Open Inference Protocol on the wire: tensors of requests and answers, as JSON or as bytes behind the JSON."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from almenara.errors import InputError
from almenara_api.problems import Problem, sentence

HEADER_LENGTH = "Inference-Header-Content-Length"
"""Length in bytes of the JSON that binary tensors follow."""

Datatype = Literal["UINT8", "FP32", "BYTES"]
Parameters = dict[str, str | int | float | bool]

_DTYPES: dict[str, np.dtype[Any]] = {"UINT8": np.dtype("u1"), "FP32": np.dtype("<f4")}
_BASE64 = "base64"


class _Wire(BaseModel):
    """Fields that are not of the protocol are passed over: clients add their own."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)


class TensorMetadata(_Wire):
    """A tensor that a model takes or gives; -1 in a shape is any number."""

    name: str
    datatype: Datatype
    shape: list[int]
    parameters: Parameters = {}


class InputTensor(_Wire):
    """A tensor of a request: its values are in `data`, nested or row by row, or behind the JSON."""

    name: str = Field(max_length=100)
    shape: list[Annotated[int, Field(gt=0)]] = Field(min_length=1, max_length=8)
    datatype: str = Field(max_length=20, description="UINT8, FP32 or BYTES, as the model's metadata say")
    parameters: Parameters = Field(
        default={},
        max_length=8,
        description="`binary_data_size`: bytes behind the JSON; `content_type` of BYTES: `base64` or `image/…`",
    )
    data: list[Any] | None = Field(default=None, description="numbers; for BYTES texts in base64")


class RequestedOutput(_Wire):
    """A tensor that the answer has to hold."""

    name: str = Field(max_length=100)
    parameters: Parameters = Field(default={}, max_length=8, description="`binary_data`: true for bytes")


class InferenceRequest(_Wire):
    """What a client posts."""

    id: str | None = Field(default=None, max_length=200, description="comes back in the answer")
    parameters: Parameters = Field(default={}, max_length=16, description="see the route")
    inputs: list[InputTensor] = Field(min_length=1, max_length=8)
    outputs: list[RequestedOutput] | None = Field(default=None, max_length=16, description="by default all")


class OutputTensor(TensorMetadata):
    """A tensor of an answer."""

    data: list[Any] = Field(default=[], description="absent when `binary_data_size` says that it is behind the JSON")


class InferenceAnswer(_Wire):
    """What a model says."""

    id: str | None = None
    model_name: str
    model_version: str
    outputs: list[OutputTensor]


@dataclass(frozen=True)
class Given:
    """The one tensor of a request.

    Attributes:
        tensor: what the JSON says of it.
        raw: its bytes behind the JSON, None when its values are in the JSON.
    """

    tensor: InputTensor
    raw: memoryview | None


@dataclass(frozen=True)
class Output:
    """One tensor of an answer: float32 of any shape, or texts of shape (n,)."""

    name: str
    values: NDArray[np.float32] | Sequence[str]


def parse(body: bytes, header_length: str | None, name: str) -> tuple[InferenceRequest, Given]:
    """The request and its one input.

    Args:
        body: JSON, and behind it the bytes of the input when `header_length` says where the JSON ends.
        header_length: the header `Inference-Header-Content-Length`.
        name: of the input that the model takes.

    Raises:
        InputError: `json-invalid`, `request-invalid` or `tensor-…`.
    """
    end = len(body) if header_length is None else _length(header_length, len(body))
    try:
        request = InferenceRequest.model_validate(orjson.loads(memoryview(body)[:end]))
    except orjson.JSONDecodeError as error:
        raise InputError(
            "json-invalid", f"The body is no JSON: {error}.", f"Before binary tensors send {HEADER_LENGTH}."
        ) from error
    except ValidationError as error:
        fact = "; ".join(sentence(each) for each in error.errors()[:5])
        raise InputError("request-invalid", f"{fact}.", _SHAPE) from error
    if [tensor.name for tensor in request.inputs] != [name]:
        given = ", ".join(tensor.name for tensor in request.inputs)
        raise InputError("tensor-name", f"The inputs are {given}.", f"This model takes one input, {name}.")
    tensor, behind = request.inputs[0], memoryview(body)[end:]
    size = tensor.parameters.get("binary_data_size")
    if (size is None) is (tensor.data is None) or len(behind) != (size or 0):
        raise InputError(
            "tensor-data",
            f"{name} has {'no ' if tensor.data is None else ''}data in the JSON, binary_data_size is {size}, "
            f"and {len(behind)} bytes follow the JSON.",
            f"Send data, or binary_data_size, that many bytes behind the JSON and {HEADER_LENGTH}.",
        )
    return request, Given(tensor, None if size is None else behind)


def numbers(given: Given, datatype: Literal["UINT8", "FP32"], shape: Sequence[int], most: int) -> NDArray[Any]:
    """The values of a tensor of numbers.

    Args:
        given: from `parse`.
        datatype: that the model takes.
        shape: that the model takes, -1 for any number.
        most: elements that a request may have.

    Raises:
        InputError: `tensor-datatype`, `tensor-shape` or `tensor-data`; Problem 413 for too many elements.
    """
    _check(given.tensor, datatype, shape)
    found, dtype = given.tensor.shape, _DTYPES[datatype]
    count = math.prod(found)
    if count > most:
        raise _too_large(f"{given.tensor.name} has {count} elements, and at most {most} are accepted.")
    if given.raw is not None:
        if len(given.raw) != count * dtype.itemsize:
            raise _wrong_size(given.tensor, f"{len(given.raw)} bytes", f"{count * dtype.itemsize} bytes")
        return np.frombuffer(given.raw, dtype).reshape(found)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as not finite
        return _plain(given.tensor, datatype, count).astype(dtype).reshape(found)


def files(given: Given, most: int) -> list[bytes]:
    """The elements of a BYTES tensor of shape (n,): texts in JSON are base64; bytes are taken as they are, unless
    `content_type` says base64.

    Raises:
        InputError: `tensor-datatype`, `tensor-shape` or `tensor-data`; Problem 413 for more than `most`.
    """
    tensor = given.tensor
    _check(tensor, "BYTES", (-1,))
    (count,) = tensor.shape
    if count > most:
        raise _too_large(f"{tensor.name} has {count} elements, and at most {most} are accepted.")
    found: list[Any] = (
        (tensor.data or []) if given.raw is None else list(islice(_elements(tensor.name, given.raw), count + 1))
    )
    if len(found) != count:
        raise _wrong_size(tensor, "another number of elements", str(count))
    if given.raw is not None and tensor.parameters.get("content_type") != _BASE64:
        return found
    return [_decoded(each, f"{tensor.name}[{index}]") for index, each in enumerate(found)]


def render(request: InferenceRequest, name: str, version: str, outputs: Sequence[Output]) -> tuple[bytes, int | None]:
    """The answer's body, and the length of its JSON when tensors follow it as bytes.

    Raises:
        InputError: `output-unknown`, the request wants a tensor that the model does not give.
    """
    described: list[dict[str, Any]] = []
    behind: list[bytes] = []
    for output, binary in _wanted(request, outputs):
        texts = not isinstance(output.values, np.ndarray)
        shape = [len(output.values)] if texts else list(np.shape(output.values))
        tensor: dict[str, Any] = {"name": output.name, "datatype": "BYTES" if texts else "FP32", "shape": shape}
        if binary:
            behind.append(_bytes(output.values))
            tensor["parameters"] = {"binary_data_size": len(behind[-1])}
        else:
            tensor["data"] = output.values if texts else np.ravel(np.asarray(output.values, np.float32))
        described.append(tensor)
    answer: dict[str, Any] = {"model_name": name, "model_version": version, "outputs": described}
    if request.id is not None:
        answer["id"] = request.id
    head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join((head, *behind)), len(head)) if behind else (head, None)


def _wanted(request: InferenceRequest, outputs: Sequence[Output]) -> Iterator[tuple[Output, bool]]:
    """The outputs of the answer and whether each goes as bytes."""
    usual = request.parameters.get("binary_data_output") is True
    if not request.outputs:
        yield from ((output, usual) for output in outputs)
        return
    by_name = {output.name: output for output in outputs}
    for wanted in request.outputs:
        if wanted.name not in by_name:
            raise InputError(
                "output-unknown", f"There is no output {wanted.name!r}.", f"This model gives {', '.join(by_name)}."
            )
        yield by_name[wanted.name], wanted.parameters.get("binary_data", usual) is True


def _length(text: str, size: int) -> int:
    if text.isascii() and text.isdecimal() and len(text) < 19 and int(text) <= size:
        return int(text)
    raise InputError(
        "request-invalid",
        f"{HEADER_LENGTH} is {text[:40]!r}, and the body has {size} bytes.",
        "It is the length of the JSON in bytes.",
    )


def _check(tensor: InputTensor, datatype: Datatype, shape: Sequence[int]) -> None:
    if tensor.datatype != datatype:
        raise InputError("tensor-datatype", f"{tensor.name} is {tensor.datatype[:20]}.", f"Send {datatype}.")
    fits = len(tensor.shape) == len(shape) and all(
        wanted in {-1, found} for wanted, found in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        raise InputError(
            "tensor-shape",
            f"{tensor.name} has the shape {tensor.shape}.",
            f"Send {list(shape)}, where -1 is any number.",
        )


def _plain(tensor: InputTensor, datatype: str, count: int) -> NDArray[Any]:
    """The numbers of the JSON, in a shape that fits."""
    try:
        array = np.asarray(tensor.data if _is_numbers(tensor.data) else None)
    except (ValueError, OverflowError):
        array = np.asarray(None)
    if array.dtype.kind not in ("iu" if datatype == "UINT8" else "iuf"):
        raise InputError("tensor-data", f"The data of {tensor.name} are not all numbers of {datatype}.", _SHAPE)
    if array.size != count or (array.ndim > 1 and list(array.shape) != tensor.shape):
        raise _wrong_size(tensor, f"data of shape {list(array.shape)}", f"{tensor.shape}, or {count} in a row")
    if datatype == "UINT8" and (array.min() < 0 or array.max() > 255):
        raise InputError("tensor-data", f"{tensor.name} has values outside 0 to 255.", "Send UINT8.")
    return array


def _is_numbers(data: object) -> bool:
    """Whether nested lists hold numbers alone; NumPy would make each element as wide as the longest text."""
    waiting = [data]
    while waiting:
        each = waiting.pop()
        if not isinstance(each, list):
            return False
        kinds = set(map(type, each))
        if list in kinds:
            waiting.extend(part for part in each if isinstance(part, list))
        if not kinds <= {int, float, list}:
            return False
    return True


def _elements(name: str, raw: memoryview) -> Iterator[bytes]:
    """Each element stands behind its length of four bytes, little-endian."""
    at = 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "little")
        if at + 4 + size > len(raw):
            raise InputError(
                "tensor-data",
                f"{name}: at byte {at} an element of {size} bytes begins, and {max(len(raw) - at - 4, 0)} follow.",
                "Put each element behind its length, four bytes, little-endian.",
            )
        yield bytes(raw[at + 4 : at + 4 + size])
        at += 4 + size


def _decoded(text: str | bytes, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise InputError("tensor-data", f"{where} is no base64: {error}.", "Encode it, or send it as bytes.") from error


def _bytes(values: NDArray[np.float32] | Sequence[str]) -> bytes:
    if isinstance(values, np.ndarray):
        return values.astype("<f4").tobytes()
    encoded = [text.encode() for text in values]
    return b"".join(len(each).to_bytes(4, "little") + each for each in encoded)


def _wrong_size(tensor: InputTensor, found: str, wanted: str) -> InputError:
    return InputError("tensor-data", f"{tensor.name} of shape {tensor.shape} has {found}.", f"It needs {wanted}.")


def _too_large(fact: str) -> Problem:
    return Problem(413, "batch-too-large", fact, "Send several requests.")


_SHAPE = 'Send {"inputs": [{"name": "…", "shape": […], "datatype": "…", "data": […]}]}.'
