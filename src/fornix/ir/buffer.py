"""Buffers: memory that loops read and write, and whoever runs what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from fornix.dtype import DType
from fornix.errors import DTypeError
from fornix.ir.dim import DimLike

if TYPE_CHECKING:
    from fornix.ir.loops.tensor import Computation

AddressMap: TypeAlias = Callable[[tuple[DimLike, ...]], DimLike]


class Buffer:
    """Memory: ``elements`` of one dtype, and the address at which each index lies.

    `address` defaults to row-major; packed weights, blocked layouts and slices of a larger buffer
    are other maps. `source` is the computation that fills it, None for an argument.
    """

    __slots__ = ("address", "dtype", "elements", "name", "shape", "source")

    def __init__(
        self,
        name: str,
        shape: Sequence[DimLike],
        dtype: DType,
        address: AddressMap | None = None,
        elements: DimLike | None = None,
    ) -> None:
        if dtype.kind not in {"float", "int", "uint", "bool"}:
            raise DTypeError(f"loops do not hold {dtype}")
        self.name, self.shape, self.dtype = name, tuple(shape), dtype
        self.address: AddressMap = address or self.row_major
        self.elements: DimLike = _product(self.shape) if elements is None else elements
        self.source: Computation | None = None

    @property
    def is_row_major(self) -> bool:
        return self.address == self.row_major

    def row_major(self, place: tuple[DimLike, ...]) -> DimLike:
        """The address at which the last axis is contiguous."""
        address: DimLike = 0
        for i, n in zip(place, self.shape, strict=True):
            address = address * n + i
        return address

    def __repr__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


def _product(dims: Sequence[DimLike]) -> DimLike:
    result: DimLike = 1
    for d in dims:
        result = result * d
    return result
