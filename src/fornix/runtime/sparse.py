"""`SparseTensor`: a sparse tensor with its indices in one of three formats.

Decides what each format says about where the values stand. Operators know the coordinates alone,
the format that the standard stores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any

import numpy as np

from fornix.dtype import DType
from fornix.errors import InvalidUse
from fornix.ir.tensor import ArrayTensor
from fornix.ir.tensor import SparseTensor as StoredSparse

Array = np.ndarray[Any, np.dtype[Any]]


class OrtSparseFormat(IntEnum):
    """How indices are given."""

    ORT_SPARSE_UNDEFINED = 0
    ORT_SPARSE_COO = 1
    """Linear, row-major indices[NNZ], or coordinates[NNZ, 2]."""
    ORT_SPARSE_CSRC = 2
    """inner[NNZ] columns, and outer[rows + 1], where each row begins in them."""
    ORT_SPARSE_BLOCK_SPARSE = 4
    """Indices of blocks."""

    __str__ = Enum.__str__


@dataclass(frozen=True)
class SparseCooView:
    """Indices of the values, one after the other."""

    _indices: Array

    def indices(self) -> Array:
        """Linear indices[NNZ], or coordinates[NNZ, 2]."""
        return self._indices


@dataclass(frozen=True)
class SparseCsrView:
    """Indices of the values, row by row."""

    _inner: Array
    _outer: Array

    def inner(self) -> Array:
        """The column of each value."""
        return self._inner

    def outer(self) -> Array:
        """Where each row begins among the values, and where the last one ends."""
        return self._outer


class SparseTensor:
    """A tensor of which only some values are stored; arrays that it gives are read-only."""

    def __init__(
        self, shape: Sequence[int], values: Array, indices: tuple[Array, ...], form: OrtSparseFormat
    ) -> None:
        self._shape = [int(extent) for extent in shape]
        self._values = _frozen(values.astype(object) if values.dtype.kind in "US" else values)
        self._indices = tuple(_frozen(np.asarray(part, np.int64)) for part in indices)
        self._format = form

    @staticmethod
    def of(stored: StoredSparse) -> SparseTensor:
        """What the graph stores, with linear indices."""
        values, indices = stored.check()
        if indices.ndim != 1:
            indices = np.ravel_multi_index(tuple(indices.T), stored.shape)
        return SparseTensor(stored.shape, values, (indices,), OrtSparseFormat.ORT_SPARSE_COO)

    @classmethod
    def sparse_coo_from_numpy(
        cls, dense_shape: Any, values: Array, coo_indices: Array, ort_device: Any
    ) -> SparseTensor:
        """From values[NNZ] and linear indices[NNZ], or coordinates[NNZ, 2]."""
        _check_device(ort_device)
        count = values.size
        if coo_indices.size not in {count, 2 * count}:
            raise InvalidUse(
                f"SparseTensor: {count} values must have {count} or {2 * count} indices, "
                f"found {coo_indices.size}"
            )
        return cls(dense_shape, values, (coo_indices,), OrtSparseFormat.ORT_SPARSE_COO)

    @classmethod
    def sparse_csr_from_numpy(
        cls,
        dense_shape: Any,
        values: Array,
        inner_indices: Array,
        outer_indices: Array,
        ort_device: Any,
    ) -> SparseTensor:
        """From values[NNZ], their columns[NNZ] and where each row begins[rows + 1]."""
        _check_device(ort_device)
        rows = int(dense_shape[0])
        if inner_indices.size != values.size or outer_indices.size not in {0, rows + 1}:
            raise InvalidUse(
                f"SparseTensor: {values.size} values in {rows} rows must have {values.size} inner "
                f"and {rows + 1} outer indices, found {inner_indices.size} and {outer_indices.size}"
            )
        indices = (inner_indices, outer_indices)
        return cls(dense_shape, values, indices, OrtSparseFormat.ORT_SPARSE_CSRC)

    def values(self) -> Array:
        """The values that are stored."""
        return self._values

    def dense_shape(self) -> list[int]:
        """Extents of the tensor."""
        return list(self._shape)

    def format(self) -> OrtSparseFormat:
        """How its indices are given."""
        return self._format

    def data_type(self) -> str:
        """The type, spelled as ``sparse_tensor(float)``."""
        return f"sparse_tensor({DType.of(self._values.dtype).text})"

    def device_name(self) -> str:
        """Where it lies: "cpu"."""
        return "cpu"

    def as_coo_view(self) -> SparseCooView:
        """The indices, if that is their format."""
        return SparseCooView(*self._in(OrtSparseFormat.ORT_SPARSE_COO))

    def as_csrc_view(self) -> SparseCsrView:
        """Columns and beginnings of rows, if that is their format."""
        return SparseCsrView(*self._in(OrtSparseFormat.ORT_SPARSE_CSRC))

    def as_blocksparse_view(self) -> SparseCooView:
        """Indices of blocks, if that is their format."""
        return SparseCooView(*self._in(OrtSparseFormat.ORT_SPARSE_BLOCK_SPARSE))

    def to_cuda(self, ort_device: Any) -> SparseTensor:
        """Raises InvalidUse: there is no other device."""
        raise InvalidUse("SparseTensor.to_cuda: a CUDA device is required, there is none")

    def stored(self) -> StoredSparse:
        """The same as the standard stores it, with indices[NNZ] or coordinates[NNZ, rank]."""
        if self._format == OrtSparseFormat.ORT_SPARSE_CSRC:
            inner, outer = self._indices
            rows = np.repeat(np.arange(len(outer) - 1), np.diff(outer))
            indices = rows * self._shape[1] + inner
        else:
            (indices,) = self._indices
            if indices.size != self._values.size:
                indices = indices.reshape(-1, 2)
        made = StoredSparse(ArrayTensor(self._values), ArrayTensor(indices), tuple(self._shape))
        made.check()
        return made

    def _in(self, form: OrtSparseFormat) -> tuple[Array, ...]:
        if self._format != form:
            raise InvalidUse(
                f"SparseTensor: indices in format {form.name} are required, "
                f"found {self._format.name}"
            )
        return self._indices

    def __repr__(self) -> str:
        stored = f"{self._values.size} of {math.prod(self._shape)}"
        return f"<SparseTensor {self.data_type()} {self._shape}: {stored} values>"


def _frozen(array: Array) -> Array:
    """A read-only view, or a copy in row-major order."""
    view = np.ascontiguousarray(array).reshape(array.shape).view()
    view.flags.writeable = False
    return view


def _check_device(device: Any) -> None:
    if device is not None and device.device_type() != 0:
        raise InvalidUse("SparseTensor: a device of type 0, the CPU, is required")


__all__ = ["OrtSparseFormat", "SparseCooView", "SparseCsrView", "SparseTensor"]
