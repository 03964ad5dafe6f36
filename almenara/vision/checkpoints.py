"""Reads the tensors of a legacy PyTorch checkpoint without PyTorch and without running any of its code."""

from __future__ import annotations

import hashlib
import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from almenara.errors import InputError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


def read_checkpoint(path: Path, sha256: str) -> dict[str, NDArray[Any]]:
    """Tensors of a checkpoint in the format that `torch.save` wrote before PyTorch 1.6.

    The file is five pickles (magic number, protocol, machine, tensors, storage keys) followed by the raw storages.
    Its pickles may name three kinds of global only: an ordered dictionary, the tensor constructor and storage types.

    Args:
        path: the `.pth` file.
        sha256: hexadecimal digest that the file must have, checked before anything is unpickled.

    Returns:
        name -> array, in the file's order.

    Raises:
        InputError: `checkpoint-digest` when it is another file, `checkpoint-format` when it cannot be read.
    """
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != sha256:
        raise InputError(
            "checkpoint-digest",
            f"{path.name} has the SHA-256 {digest[:16]}…, and {sha256[:16]}… was expected.",
            "Install the locked version of its package again.",
        )
    with path.open("rb") as file:
        if (_load(file), _load(file)) != (_MAGIC, _PROTOCOL):
            raise InputError("checkpoint-format", f"{path.name} is not a legacy PyTorch checkpoint.")
        _load(file)
        reader = _Reader(file)
        tensors = reader.load()
        storages = {key: _read_storage(file, reader.types[key]) for key in _load(file)}
    return {name: tensor.view(storages[tensor.key]) for name, tensor in tensors.items() if isinstance(tensor, _Tensor)}


@dataclass(frozen=True)
class _Tensor:
    """A strided view on a storage that is read later."""

    key: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def view(self, storage: NDArray[Any]) -> NDArray[Any]:
        span = self.offset + 1 + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        if min((*self.shape, *self.strides, self.offset + 1, 1)) < 0 or span > storage.size:
            raise InputError("checkpoint-format", f"A tensor of shape {self.shape} reaches past its storage.")
        strides = tuple(step * storage.itemsize for step in self.strides)
        return np.array(as_strided(storage[self.offset :], self.shape, strides, writeable=False))


class _StorageType:
    """Stands for `torch.FloatStorage` and its like."""

    def __init__(self, dtype: str) -> None:
        self.dtype = np.dtype(dtype)


def _rebuild_tensor(
    key: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_gradient: object
) -> _Tensor:
    return _Tensor(key, offset, tuple(shape), tuple(strides))


_ALLOWED: dict[tuple[str, str], Callable[..., Any] | _StorageType] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch", "FloatStorage"): _StorageType("<f4"),
    ("torch", "LongStorage"): _StorageType("<i8"),
}


class _Reader(pickle.Unpickler):
    """Unpickles nothing but the allowed globals, and notes each storage's type by its key."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.types: dict[str, _StorageType] = {}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise InputError("checkpoint-format", f"The checkpoint names {module}.{name}, which is refused.") from None

    def persistent_load(self, pid: Any) -> str:
        _kind, storage_type, key, _device, _count, _view = pid
        self.types[key] = storage_type
        return str(key)


def _load(file: IO[bytes]) -> Any:
    return _Reader(file).load()


def _read_storage(file: IO[bytes], storage_type: _StorageType) -> NDArray[Any]:
    count = int(np.frombuffer(file.read(8), "<i8")[0])
    body = file.read(count * storage_type.dtype.itemsize)
    if len(body) != count * storage_type.dtype.itemsize:
        raise InputError("checkpoint-format", "The checkpoint ends inside a tensor.")
    return np.frombuffer(body, storage_type.dtype)
