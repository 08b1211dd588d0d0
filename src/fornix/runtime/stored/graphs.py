"""Models as JSON knows them, in kept programs: nodes that run their kernels, with their bodies.

Decides how the tables that `fornix.ir.clone` makes of a model are written. What JSON lacks is an
object with one entry that says what it is: bytes, dictionaries, types and tensors, whose elements
lie elsewhere but for texts. Messages would do, but reading one takes longer than all else that a
first run does: protobuf is to be imported, and all that knows its messages.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from fornix.dtype import STRING
from fornix.ir.clone import Flattener, Tables, rebuild
from fornix.ir.dim import Dim, DimLike
from fornix.ir.dim.text import printed
from fornix.ir.graph import Model
from fornix.ir.tensor import ArrayTensor, SparseTensor, Stored, Tensor
from fornix.ir.types import (
    MapType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
)
from fornix.runtime.stored.notes import NotKept, dim_note, type_note, type_of

Array = np.ndarray[Any, np.dtype[Any]]
BYTES, ENTRIES, TYPE, TENSOR, TEXTS, SPARSE = (
    "bytes", "entries", "type", "tensor", "texts", "sparse",
)  # fmt: skip
"""What objects are."""
_TYPES = MapType | OptionalType | SequenceType | SparseTensorType | TensorType


def graph_text(model: Model, store: Callable[[Array], int]) -> bytes:
    """``model`` as JSON; ``store`` gives the number of an array. Raises NotKept."""
    return json.dumps(_Noting(store).note(Flattener(model).tables())).encode()


def graph_of(text: bytes, array: Callable[[int], Array]) -> Model:
    """The model that `graph_text` wrote; ``array`` gives that of a number."""
    made = rebuild(Tables(*_Reading(array).read(json.loads(text))))
    return cast("Model", made)  # of the kind that was written


class _Noting:
    """What is in tables on its way to JSON."""

    def __init__(self, store: Callable[[Array], int]) -> None:
        self.store = store

    def note(self, x: object) -> object:
        if x is None or isinstance(x, str | int | float):
            return x
        if isinstance(x, list | tuple):
            return [self.note(item) for item in x]
        if isinstance(x, dict):
            return {ENTRIES: [[key, self.note(item)] for key, item in x.items()]}
        if isinstance(x, bytes):
            return {BYTES: x.hex()}
        if isinstance(x, _TYPES):
            return {TYPE: type_note(x, _declared)}
        if isinstance(x, SparseTensor):
            return {SPARSE: self.note([x.values, x.indices, x.shape, x.leftover])}
        if isinstance(x, Stored):
            return self.tensor(cast("Tensor", x))  # all else that is stored is one
        raise NotKept

    def tensor(self, tensor: Tensor) -> object:
        array = tensor.numpy()
        if tensor.dtype is STRING:
            return {TEXTS: [tensor.name, array.shape, self.note(array.reshape(-1).tolist())]}
        return {TENSOR: [tensor.name, self.store(array)]}


def _declared(dim: DimLike | None) -> str | None:
    """An extent as the format would declare it: nothing is said where nobody knows it."""
    return None if isinstance(dim, Dim) and dim.unknowns else dim_note(dim)


class _Reading:
    """What JSON says on its way to tables."""

    def __init__(self, array: Callable[[int], Array]) -> None:
        self.array = array

    def read(self, x: Any) -> Any:
        if isinstance(x, list):
            return [self.read(item) for item in x]
        if not isinstance(x, dict):
            return x
        ((kind, held),) = x.items()
        return getattr(self, kind)(held)

    def entries(self, held: list[Any]) -> dict[str, Any]:
        return {key: self.read(item) for key, item in held}

    def bytes(self, held: str) -> object:
        return bytes.fromhex(held)

    def type(self, held: list[Any]) -> object:
        return type_of(held, printed)

    def sparse(self, held: list[Any]) -> SparseTensor:
        values, indices, shape, leftover = self.read(held)
        return SparseTensor(values, indices, tuple(shape), leftover)

    def tensor(self, held: list[Any]) -> ArrayTensor:
        name, number = held
        return ArrayTensor(self.array(number), name)

    def texts(self, held: list[Any]) -> ArrayTensor:
        name, shape, texts = held
        found = np.empty(len(texts), object)
        found[:] = self.read(texts)
        return ArrayTensor(found.reshape(shape), name)
